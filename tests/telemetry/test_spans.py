"""Ids, sampling, limits and what is recorded of a span."""

import secrets

import pytest
from opentelemetry.sdk.trace.sampling import Decision, ParentBased, Sampler, TraceIdRatioBased

from proxy.adapters.clock import SystemClock
from proxy.model import SpanContext
from proxy.telemetry.spans import CompactSpan, CompactTracer, SpanRecord, keep
from tests.telemetry.samples import PARENT, UNSAMPLED, SteppedClock, tracer


def test_a_root_has_new_ids_and_a_child_its_parents_trace() -> None:
    """W3C ids: 32 and 16 hex digits, never all zero, the state handed on."""
    made, memory = tracer()
    root = made.start("a", "server", None)
    child = made.start("b", "internal", root.context)
    other = made.start("c", "server", UNSAMPLED)
    child.end()
    root.end()
    assert len(bytes.fromhex(root.context.trace_id)) == 16
    assert len(bytes.fromhex(root.context.span_id)) == 8
    assert child.context.trace_id == root.context.trace_id
    assert child.context.span_id != root.context.span_id
    assert other.context.trace_id == UNSAMPLED.trace_id
    assert other.context.state == "vendor=1"
    assert [(r.name, r.parent_id) for r in memory.spans()] == [("b", root.context.span_id), ("a", "")]


def test_only_the_parent_of_a_server_span_is_remote() -> None:
    """Collectors draw the border between processes by it."""
    made, memory = tracer()
    for kind in ("server", "internal", "client"):
        made.start(kind, kind, PARENT).end()
    made.start("root", "server", None).end()
    assert [(r.name, r.remote_parent) for r in memory.spans()] == [
        ("server", True),
        ("internal", False),
        ("client", False),
        ("root", False),
    ]


def test_a_remote_flag_raises_and_never_lowers() -> None:
    """With the default sampler everything is sampled; with one that is off, what the caller samples."""
    default, _ = tracer()
    off, _ = tracer(OTEL_TRACES_SAMPLER="parentbased_always_off")
    assert default.start("a", "server", UNSAMPLED).context.sampled
    assert off.start("a", "server", PARENT).context.sampled
    assert not off.start("a", "server", UNSAMPLED).context.sampled
    assert not off.start("a", "server", None).context.sampled


def test_a_child_here_follows_its_parent_here() -> None:
    """A trace is whole or not there at all."""
    made, _ = tracer()
    assert not made.start("a", "internal", UNSAMPLED).context.sampled
    assert made.start("a", "internal", PARENT).context.sampled


@pytest.mark.parametrize("name", ["always_on", "always_off", "parentbased_always_on", "parentbased_always_off"])
def test_samplers_without_parents_flags(name: str) -> None:
    """Not parent-based samplers ignore the flag of the caller."""
    made, _ = tracer(OTEL_TRACES_SAMPLER=name)
    expected = name.endswith("on")
    assert made.start("a", "server", None).context.sampled is expected
    assert made.start("a", "server", PARENT).context.sampled is (expected or name.startswith("parentbased"))


@pytest.mark.parametrize("rate", ["0", "0.1", "0.5", "0.999", "1"])
@pytest.mark.parametrize("prefix", ["", "parentbased_"])
def test_ratios_decide_as_the_sdks_samplers(prefix: str, rate: str) -> None:
    """Services beside us must choose the same traces."""
    made, _ = tracer(OTEL_TRACES_SAMPLER=f"{prefix}traceidratio", OTEL_TRACES_SAMPLER_ARG=rate)
    root = TraceIdRatioBased(float(rate))
    theirs: Sampler = ParentBased(root) if prefix else root
    for _ in range(200):
        parent = SpanContext(trace_id=secrets.token_hex(16), span_id=secrets.token_hex(8), sampled=False)
        expected = theirs.should_sample(None, int(parent.trace_id, 16), "a").decision is Decision.RECORD_AND_SAMPLE
        assert made.start("a", "server", parent).context.sampled is expected


@pytest.mark.parametrize(
    ("name", "argument"),
    [("jaeger_remote", ""), ("traceidratio", "many"), ("traceidratio", "1.5"), ("traceidratio", "nan"), ("", "")],
)
def test_a_sampler_that_cannot_be_had_samples_everything(name: str, argument: str) -> None:
    """As the specification asks: warn, and take the default."""
    made, _ = tracer(OTEL_TRACES_SAMPLER=name, OTEL_TRACES_SAMPLER_ARG=argument)
    assert made.start("a", "server", None).context.sampled


def test_unsampled_spans_are_recorded_if_they_fail_are_kept_or_ask_for_it() -> None:
    """Denials, reviews and faults are always there."""
    made, memory = tracer(OTEL_TRACES_SAMPLER="always_off")
    made.start("lost", "server", None).end()
    made.start("failed", "server", None).end(error_type="denied")
    kept = made.start("kept", "server", None)
    keep(kept)
    kept.end()
    wanted = made.start("wanted", "server", UNSAMPLED, record=True)
    wanted.end()
    assert wanted.context.sampled
    assert [r.name for r in memory.spans()] == ["failed", "kept", "wanted"]


def test_an_error_has_its_type_and_status_and_others_neither() -> None:
    """Status is unset unless something failed."""
    made, memory = tracer()
    made.start("a", "server", None).end(error_type="denied")
    made.start("b", "server", None).end()
    failed, fine = memory.spans()
    assert (failed.error, failed.attributes) == (True, {"error.type": "denied"})
    assert (fine.error, fine.attributes) == (False, {})


def test_a_span_ends_once_and_is_closed_then() -> None:
    """Later calls do nothing."""
    made, memory = tracer()
    span = made.start("a", "server", None)
    span.update({"k": "v"})
    span.end()
    span.update({"late": "v"})
    span.event("late", {})
    span.end(error_type="late")
    assert [(r.attributes, r.events, r.error) for r in memory.spans()] == [({"k": "v"}, (), False)]


def test_limits_cut_and_count() -> None:
    """The standard limits hold for attributes, events and links; replacing a value is no new attribute."""
    made, memory = tracer(
        OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT="2",
        OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT="3",
        OTEL_SPAN_EVENT_COUNT_LIMIT="1",
        OTEL_SPAN_LINK_COUNT_LIMIT="1",
    )
    span = made.start("a", "server", None, links=(PARENT, UNSAMPLED))
    for key, value in (("a", "12345"), ("b", ("12345", "1")), ("c", "x"), ("a", "abcde")):
        span.update({key: value})
    span.event("first", {"text": "12345", "number": 12345, "third": "x"})
    span.event("second", {})
    span.end()
    (record,) = memory.spans()
    assert record.attributes == {"a": "abc", "b": ("123", "1")}
    assert [event.attributes for event in record.events] == [{"text": "123", "number": 12345}]
    assert record.links == (PARENT,)
    assert record.dropped == (1, 1, 1)


def test_a_limit_of_attributes_holds_over_one_update_and_over_several() -> None:
    """Without a limit of length, too, where those that fit are taken as they come."""
    made, memory = tracer(OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT="2")
    span = made.start("a", "server", None)
    span.update({"a": 1, "b": 2})
    span.update({"c": 3, "a": 4})
    span.end()
    span = made.start("b", "server", None)
    span.update({"a": 1, "b": 2, "c": 3})
    span.end()
    assert [(record.attributes, record.dropped) for record in memory.spans()] == [
        ({"a": 4, "b": 2}, (1, 0, 0)),
        ({"a": 1, "b": 2}, (1, 0, 0)),
    ]


def test_the_spans_own_length_limit_goes_before_the_general_one() -> None:
    """And a limit that is no number is none."""
    made, memory = tracer(OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT="3", OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT="4")
    span = made.start("a", "server", None)
    span.update({"k": "12345"})
    span.end()
    loose, unlimited = tracer(OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT="-5")
    span = loose.start("a", "server", None)
    span.update({"k": "12345"})
    span.end()
    assert memory.spans()[0].attributes == {"k": "1234"}
    assert unlimited.spans()[0].attributes == {"k": "12345"}


def test_time_is_the_clocks() -> None:
    """Wall clock at the start, plus seconds that never go back."""
    clock = SteppedClock()
    ended: list[SpanRecord] = []
    span = CompactTracer({}, clock, [ended.append]).start("a", "server", None)
    clock.seconds += 1.5
    span.event("half", {})
    clock.seconds += 1.5
    span.end()
    assert ended[0].start == 1_000_000_000_000_000
    assert ended[0].events[0].time - ended[0].start == 1_500_000_000
    assert ended[0].end - ended[0].start == 3_000_000_000


def test_without_a_sink_contexts_are_handed_on_and_nothing_is_kept() -> None:
    """Recording is off: a root id is still there for the answer, and no span id is made up below a parent."""
    made = CompactTracer({}, SystemClock(), [])
    root = made.start("a", "server", None)
    child = made.start("b", "client", PARENT)
    assert not root.context.sampled
    assert len(root.context.trace_id) == 32
    assert child.context == PARENT
    assert isinstance(root, CompactSpan)
    root.update({"k": "v"})
    root.end()
