"""The last spans, and a trace drawn as a tree."""

from proxy.telemetry.spans import CompactTracer
from tests.telemetry.samples import PARENT, ROOT, SteppedClock
from tests.telemetry.span_memory import SpanMemory


def test_a_trace_is_drawn_by_parent_and_start() -> None:
    """Durations in milliseconds, and the attributes that matter."""
    clock, memory = SteppedClock(), SpanMemory()
    tracer = CompactTracer({}, clock, [memory.offer])
    call = tracer.start("execute_tool price.list", "server", PARENT)
    whole = tracer.start("beside all of it", "internal", call.context)
    clock.seconds += 0.25
    decide = tracer.start("decide", "internal", call.context)
    opa = tracer.start("opa", "client", decide.context)
    clock.seconds += 0.25
    opa.end()
    decide.update({"sidegate.decision": "review", "sidegate.principal": "not shown"})
    decide.end()
    requested = tracer.start("review requested", "internal", call.context)
    requested.end()
    clock.seconds += 1
    resolved = tracer.start("review resolved", "internal", call.context, links=(requested.context,))
    resolved.end()
    whole.end()
    call.end(error_type="review_rejected")
    tracer.start("another trace", "server", None).end()
    assert memory.tree(PARENT.trace_id) == (
        "execute_tool price.list  1500.0 ms  error=review_rejected",
        "  beside all of it  1500.0 ms",
        "  decide  250.0 ms  decision=review",
        "    opa  250.0 ms",
        "  review requested  0.0 ms",
        f"  review resolved  0.0 ms  linked to {requested.context.span_id}",
    )
    assert len(memory.spans()) == 7
    assert memory.tree("0" * 32) == ()


def test_only_the_last_are_kept() -> None:
    """A test may run for long."""
    memory = SpanMemory(size=2)
    for name in "abc":
        memory.offer(ROOT._replace(name=name))
    assert [record.name for record in memory.spans()] == ["b", "c"]
