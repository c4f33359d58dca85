"""Encoded spans say the same as the SDK's exporter would, and no value costs a batch."""

from typing import Any

import pytest
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanKind, TraceFlags, TraceState
from opentelemetry.trace import SpanContext as SdkContext
from opentelemetry.trace.status import Status, StatusCode

from proxy import __version__
from proxy.telemetry import encode, names
from proxy.telemetry.encode import SpanBatch
from proxy.telemetry.names import SCHEMA_URL, SCOPE
from proxy.telemetry.spans import SpanEvent, SpanRecord, Value
from tests.telemetry.receiver import attributes
from tests.telemetry.samples import FULL, ROOT

RESOURCE = Resource({"service.name": "sidegate", "k8s.pod.name": "buyer-0"})
KINDS = {"server": SpanKind.SERVER, "client": SpanKind.CLIENT, "internal": SpanKind.INTERNAL}


def decoded(*records: SpanRecord) -> ExportTraceServiceRequest:
    """What a collector reads."""
    batch = SpanBatch(RESOURCE)
    batch.add(records)
    message = ExportTraceServiceRequest()
    message.ParseFromString(batch.to_bytes())
    return message


class SdkSpan(ReadableSpan):
    """What the SDK would have recorded of the same span, with the counts of what its limits left out."""

    def __init__(self, record: SpanRecord) -> None:
        parent = _context(record.trace_id, record.parent_id, remote=record.remote_parent) if record.parent_id else None
        super().__init__(
            name=record.name,
            context=_context(record.trace_id, record.span_id, state=record.state),
            parent=parent,
            resource=RESOURCE,
            attributes=record.attributes,
            events=tuple(Event(e.name, e.attributes, e.time) for e in record.events),
            links=tuple(Link(_context(c.trace_id, c.span_id)) for c in record.links),
            kind=KINDS[record.kind],
            status=Status(StatusCode.ERROR if record.error else StatusCode.UNSET),
            start_time=record.start,
            end_time=record.end,
            instrumentation_scope=InstrumentationScope(SCOPE, __version__, SCHEMA_URL),
        )
        self._counts = record.dropped or (0, 0, 0)

    @property
    def dropped_attributes(self) -> int:
        """Attributes over the limit."""
        return self._counts[0]

    @property
    def dropped_events(self) -> int:
        """Events over the limit."""
        return self._counts[1]

    @property
    def dropped_links(self) -> int:
        """Links over the limit."""
        return self._counts[2]


def _context(trace_id: str, span_id: str, *, remote: bool = False, state: str = "") -> SdkContext:
    pairs = [pair.split("=") for pair in state.split(",")] if state else []
    return SdkContext(
        int(trace_id, 16), int(span_id, 16), remote, TraceFlags(1), TraceState([(key, value) for key, value in pairs])
    )


@pytest.mark.parametrize("record", [ROOT, FULL, FULL._replace(kind="client", remote_parent=False, error=False)])
def test_one_span_is_encoded_as_the_sdks_exporter_would(record: SpanRecord) -> None:
    """Field by field, presence included."""
    assert decoded(record) == encode_spans([SdkSpan(record)])


def test_many_spans_share_one_resource_and_scope() -> None:
    """In the order in which they came, over any number of turns."""
    batch = SpanBatch(RESOURCE)
    batch.add([ROOT, FULL])
    batch.add([ROOT])
    message = ExportTraceServiceRequest.FromString(batch.to_bytes())
    assert message == encode_spans([SdkSpan(ROOT), SdkSpan(FULL), SdkSpan(ROOT)])


def test_values_that_are_equal_and_not_the_same_stay_apart() -> None:
    """What is kept of one span's attribute is not taken for another's: 1 is not true, nor 1.0."""
    records = [ROOT._replace(attributes={"a": value, "b": value}) for value in (1, True, 1.0, "1", False, 0, 0.0, -0.0)]
    assert decoded(*records) == encode_spans([SdkSpan(record) for record in records])


def test_what_is_kept_of_earlier_spans_is_bounded_and_changes_nothing() -> None:
    """More different sets of attributes than are kept, each twice, with those that no two spans share between them."""
    sets = [{names.CODE: f"c{n}", names.TOOL_CALL_ID: f"t{n}", names.LABELS: ("a", f"l{n}")} for n in range(600)]
    records = [ROOT._replace(attributes=attributes) for attributes in (*sets, *sets)]
    found = [attributes(span) for span in decoded(*records).resource_spans[0].scope_spans[0].spans]
    assert found == [one | {names.LABELS: list(one[names.LABELS])} for one in (*sets, *sets)]
    assert 0 < len(encode._groups) <= encode._KEPT_GROUPS


@pytest.mark.parametrize("value", ["", "t", "x" * 64, "x" * 65, "ü", "x" * 63 + "ü", "\x00", 7, True, ("a",)])
def test_what_no_two_spans_share_is_encoded_like_the_rest(value: Value) -> None:
    """Ids come from outside and may be anything, also no text."""
    record = ROOT._replace(attributes=dict.fromkeys(sorted(names.ONCE), value) | {"other": value})
    assert decoded(record) == encode_spans([SdkSpan(record)])


@pytest.mark.parametrize("length", [1, 100, 127, 128, 129, 16_300, 16_384, 70_000, 2_100_000])
def test_spans_of_any_length_are_framed_rightly(length: int) -> None:
    record = ROOT._replace(attributes={"long": "x" * length})
    assert decoded(record, ROOT) == encode_spans([SdkSpan(record), SdkSpan(ROOT)])


@pytest.mark.parametrize(
    ("value", "instead"),
    [
        ("a\ud800b", "a\\ud800b"),
        (1 << 64, "0x10000000000000000"),
        (-(1 << 64), "-0x10000000000000000"),
        (1 << 300, "int"),
        (("ok", "\udfff"), "ok,\\udfff"),
        (("ok", 1 << 70), "ok,0x400000000000000000"),
        (object(), "object"),
        ({"a": 1}, "dict"),
        (None, None),
        (("a", None), ["a", None]),
        (float("inf"), float("inf")),
    ],
)
def test_a_value_that_protobuf_does_not_take_costs_no_other(value: Any, instead: Any) -> None:
    """Neither its neighbours, nor its span, nor the batch."""
    odd = ROOT._replace(attributes={"before": 1, "odd": value, "after": 2})
    spans = decoded(ROOT, odd, FULL).resource_spans[0].scope_spans[0].spans
    assert len(spans) == 3
    assert attributes(spans[1]) == {"before": 1, "odd": instead, "after": 2}


def test_text_with_lone_surrogates_is_escaped_wherever_it_stands() -> None:
    """Names, states and keys come from outside, too."""
    bad = "x\ud83d"
    odd = ROOT._replace(name=bad, state=bad, attributes={bad: bad}, events=(SpanEvent(bad, 1, {bad: 1}),))
    span = decoded(odd).resource_spans[0].scope_spans[0].spans[0]
    assert (span.name, span.trace_state, span.events[0].name) == ("x\\ud83d",) * 3
    assert attributes(span) == {"x\\ud83d": "x\\ud83d"}
    assert attributes(span.events[0]) == {"x\\ud83d": 1}
