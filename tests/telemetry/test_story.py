"""The story of one call: its SERVER span, its holds, its metrics, its log line; and what is never in them."""

import json
import logging
from collections.abc import Mapping, Sequence

import pytest

from proxy.core.review import ReviewStatus
from proxy.core.trail import Trail
from proxy.errors import Code, Refusal
from proxy.model import (
    Answer,
    Dialect,
    Presented,
    SpanContext,
    ToolCall,
    UnreadableCall,
)
from proxy.ports import Span
from proxy.telemetry import names
from proxy.telemetry.logs import JsonFormatter
from proxy.telemetry.metrics import FAIL_CLOSED, CallMetrics, Metrics
from proxy.telemetry.story import CallTelemetry
from tests.telemetry.exposition import parse
from tests.telemetry.samples import (
    ALLOWED,
    APPROVAL,
    ARGUMENTS,
    CALL,
    DENIED,
    HELD,
    PARENT,
    RESULT,
    SECRET,
    UNREACHABLE,
    UNSAMPLED,
    SteppedClock,
    review,
    trail,
)
from tests.telemetry.watched import Watched, denied


def test_all_that_is_searched_by_is_on_the_server_span() -> None:
    """Jaeger matches tags on single spans."""
    known, span = Watched().call()
    assert span is not None
    assert (span.name, span.kind, span.parent_id) == ("execute_tool price.list", "server", PARENT.span_id)
    assert span.trace_id == PARENT.trace_id
    assert not span.error
    assert span.attributes == {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": "price.list",
        "gen_ai.tool.call.id": "toolu_1",
        "gen_ai.conversation.id": "conv-1",
        "security_rule.ruleset.name": "grants",
        "security_rule.name": "granted",
        "security_rule.version": "r1",
        "sidegate.decision": "allow",
        "sidegate.decision_id": known.call_id,
        "sidegate.reason": "grants.granted",
        "sidegate.reasons": 1,
        "sidegate.code": "ok",
        "sidegate.ran": "yes",
        "sidegate.system": "pricing",
        "sidegate.labels": ("confidential", "margin"),
        "sidegate.principal": "https://id.example#anna",
        "sidegate.agent": "agents/buyer",
        "sidegate.revision": "cccccccccccc.pppppppppppp",
    }


@pytest.mark.parametrize("code", list(Code))
def test_every_refusal_is_an_error_of_its_code(code: Code) -> None:
    """On the span and in the metrics; those of our own making are counted apart."""
    watched = Watched(OTEL_TRACES_SAMPLER="always_off")
    _, span = watched.call(None, Refusal(code, SECRET))
    assert span is not None
    assert span.error
    assert (span.attributes[names.ERROR_TYPE], span.attributes[names.CODE]) == (code.value, code.value)
    assert span.attributes[names.DECISION] == "none"
    assert watched.samples(names.CALLS_TOTAL) == {("price.list", "none", code.value): 1}
    failed = {values[0] for values, count in watched.samples(names.FAIL_CLOSED_TOTAL).items() if count}
    assert failed == ({code} & FAIL_CLOSED)


def test_a_call_refused_before_it_was_identified_has_what_is_known() -> None:
    """No conversation, no system, no rule."""
    _, span = Watched().call(None, Refusal(Code.UNAUTHENTICATED, SECRET))
    assert span is not None
    assert set(span.attributes) == {
        *(names.OPERATION_NAME, names.TOOL_NAME, names.TOOL_CALL_ID, names.DECISION, names.DECISION_ID),
        *(names.CODE, names.RAN, names.ERROR_TYPE),
    }


@pytest.mark.parametrize(
    ("tool", "shown"),
    [("made_up", "made_up"), ("a b", "_other"), ("x" * 65, "_other"), ("ä", "_other"), ("", "_other")],
)
def test_a_tool_that_is_not_in_the_catalog_makes_no_new_name(tool: str, shown: str) -> None:
    """Neither in span names nor in label values; as attribute, if it looks like a tool's name."""
    watched = Watched()
    call = ToolCall(id="1", tool=tool, arguments=ARGUMENTS, dialect=Dialect.NATIVE)
    _, span = watched.call(None, Refusal(Code.UNKNOWN_TOOL, SECRET), call=call)
    assert span is not None
    assert (span.name, span.attributes[names.TOOL_NAME]) == ("execute_tool _other", shown)
    assert watched.samples(names.CALLS_TOTAL) == {("_other", "none", "unknown_tool"): 1}


def test_an_unreadable_call_has_its_story_too() -> None:
    """It fails alone, and is seen."""
    watched = Watched()
    call = UnreadableCall(id="x" * 999, tool="", dialect=Dialect.NATIVE, refusal=Refusal(Code.INVALID_CALL, SECRET))
    span = watched.telemetry.begin(call, Presented())
    known = Trail(call_id="1", call=call, presented=Presented(), trace=span.context, began=0.0)
    watched.telemetry.conclude(span, known, known.answer(refusal=call.refusal))
    (record,) = watched.memory.spans()
    assert record.parent_id == ""
    assert record.attributes[names.TOOL_CALL_ID] == "x" * 256
    assert record.attributes[names.ERROR_TYPE] == "invalid_call"


def test_plain_allowed_calls_follow_the_sampler_and_the_others_are_always_there() -> None:
    """Denied, held and approved calls are evidence."""
    watched = Watched(OTEL_TRACES_SAMPLER="always_off")

    def approved(known: Trail) -> None:
        known.approval = APPROVAL

    assert watched.call(trace=UNSAMPLED)[1] is None
    assert watched.call(DENIED, denied())[1] is not None
    assert watched.call(HELD, Refusal(Code.REVIEW_PENDING, SECRET, review_id="r-1"))[1] is not None
    _, span = watched.call(before=approved)
    assert span is not None
    assert span.attributes[names.REVIEW_ID] == "r-1"


def test_seconds_are_counted_by_stage() -> None:
    """Decide took 0.25 of 2 seconds."""
    watched = Watched()
    watched.call()
    family = parse(watched.metrics.exposition())[names.STAGE_SECONDS]
    sums = {labels[0][1]: value for (name, labels), value in family.samples.items() if name.endswith("_sum")}
    assert sums == {"decide": 0.25, "overhead": 1.75, "total": 2.0}


def test_one_log_line_a_call_joins_trace_and_decision(caplog: pytest.LogCaptureFixture) -> None:
    """Whether the trace is sampled or not: decisions are evidence. What went well is a debug line: the journal has it."""
    caplog.set_level(logging.DEBUG)
    known, _ = Watched(OTEL_TRACES_SAMPLER="always_off").call(trace=UNSAMPLED)
    (record,) = caplog.records
    line = json.loads(JsonFormatter().format(record))
    assert (line["logger"], line["level"], line["message"]) == ("sidegate.calls", "debug", "tool call")
    assert (line["trace_id"], line["span_id"]) == (PARENT.trace_id, known.trace.span_id)
    assert (line[names.DECISION_ID], line[names.DECISION], line["seconds"]) == (known.call_id, "allow", 2.0)


def test_a_refusal_is_a_log_line_at_info(caplog: pytest.LogCaptureFixture) -> None:
    """What somebody will ask about is there at the usual level."""
    caplog.set_level(logging.INFO)
    Watched().call(DENIED, denied())
    assert [(record.name, record.levelname) for record in caplog.records] == [("sidegate.calls", "INFO")]


def test_no_argument_result_message_or_credential_is_told(caplog: pytest.LogCaptureFixture) -> None:
    """A canary in every field that is for others: arguments, result, reason, details, messages, comment, token, handle."""
    caplog.set_level(logging.DEBUG)
    watched = Watched()
    watched.call()
    watched.call(DENIED, denied())
    watched.call(ALLOWED, UNREACHABLE)
    watched.telemetry.held(trail(PARENT, decision=HELD), review())
    watched.telemetry.resolved(trail(PARENT, decision=HELD), review(ReviewStatus.REJECTED))
    told = [repr(watched.memory.spans()), watched.metrics.exposition(), *map(JsonFormatter().format, caplog.records)]
    assert len(told) == 5
    assert not any(SECRET in text for text in told)


class FailingSpan:
    recording = True

    """A span that cannot be written to."""

    context = PARENT

    def update(self, attributes: Mapping[str, str | float | bool | Sequence[str]]) -> None:
        """Never."""
        raise RuntimeError(SECRET)

    def event(self, name: str, attributes: Mapping[str, str | int | float | bool]) -> None:
        """Never."""
        raise RuntimeError(SECRET)

    def end(self, *, error_type: str | None = None) -> None:
        """Never."""
        raise RuntimeError(SECRET)


class FailingTracer:
    """Port Tracer with such spans."""

    def start(
        self,
        name: str,
        kind: str,
        parent: SpanContext | None,
        *,
        links: Sequence[SpanContext] = (),
        record: bool = False,
    ) -> Span:
        """One of them."""
        return FailingSpan()


def test_a_fault_in_telemetry_changes_no_call(caplog: pytest.LogCaptureFixture) -> None:
    """It is counted, and logged once a minute without what it said."""
    metrics = Metrics()
    telemetry = CallTelemetry(FailingTracer(), CallMetrics(metrics, lambda _: True), SteppedClock())
    span = telemetry.begin(CALL, Presented())
    known = trail(span.context, decision=ALLOWED)
    telemetry.held(known, review())
    telemetry.resolved(known, review(ReviewStatus.APPROVED))
    telemetry.conclude(span, known, Answer(call=CALL, call_id="1", trace=PARENT, result=RESULT))
    faults = parse(metrics.exposition())[names.TELEMETRY_FAULTS_TOTAL].samples
    assert faults == {(names.TELEMETRY_FAULTS_TOTAL, ()): 3}
    (record,) = caplog.records
    assert SECRET not in JsonFormatter().format(record)


def test_every_attribute_that_is_emitted_is_documented() -> None:
    """names.ALL_ATTRIBUTES is the whole list."""
    watched = Watched()
    watched.call()
    watched.call(DENIED, denied())
    watched.telemetry.held(trail(PARENT, decision=HELD), review())
    emitted = {key for record in watched.memory.spans() for key in record.attributes}
    assert emitted <= set(names.ALL_ATTRIBUTES)
