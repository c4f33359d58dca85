"""Spans around ports: what they say, and whose parent they are."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from proxy.core.permit import Permit
from proxy.core.review import Review, ReviewStatus
from proxy.core.tool import ResourceSource
from proxy.errors import Code, Refusal
from proxy.model import Decision, Resource, Response, SpanContext
from proxy.telemetry import names
from proxy.telemetry.attributes import of_rule
from proxy.telemetry.traced import TracedExecutor, TracedFacts, TracedPolicy, TracedReviews
from tests.telemetry.samples import (
    ALLOWED,
    DENIED,
    HELD,
    PARENT,
    SECRET,
    UNREACHABLE,
    UNSAMPLED,
    UPSTREAM,
    permit,
    review,
    tracer,
)

SOURCE = ResourceSource(type="supplier", upstream=UPSTREAM, path="/suppliers/{id}")


@dataclass(slots=True)
class Inner:
    """The ports inside: answers with a value or raises it, and remembers the context it was given."""

    said: Any
    traces: list[SpanContext | None] = field(default_factory=list)

    async def decide(self, document: bytes, trace: SpanContext) -> Decision:
        """Port Policy."""
        return self._say(trace)  # type: ignore[no-any-return] # whatever the test wants said

    async def visible(self, document: bytes, trace: SpanContext | None) -> frozenset[str]:
        """Port Policy."""
        return self._say(trace)  # type: ignore[no-any-return] # as above

    async def execute(self, permit: Permit, trace: SpanContext) -> Response:
        """Port Executor."""
        return self._say(trace)  # type: ignore[no-any-return] # as above

    async def resource(self, source: ResourceSource, argument: str, record_id: str, trace: SpanContext) -> Resource:
        """Port FactSource."""
        return self._say(trace)  # type: ignore[no-any-return] # as above

    def _say(self, trace: SpanContext | None) -> Any:
        self.traces.append(trace)
        if isinstance(self.said, BaseException):
            raise self.said
        return self.said


def answer(status: int) -> Response:
    """From the upstream."""
    return Response(status=status, media_type="application/json", body=SECRET.encode())


@pytest.mark.parametrize("decision", [ALLOWED, DENIED, HELD])
async def test_a_decision_is_a_span_that_opas_can_hang_below(decision: Decision) -> None:
    """A deny is no error: policy worked."""
    made, memory = tracer()
    inner = Inner(decision)
    assert await TracedPolicy(inner, made).decide(SECRET.encode(), PARENT) is decision
    (span,) = memory.spans()
    assert (span.name, span.kind, span.parent_id, span.error) == ("decide", "internal", PARENT.span_id, False)
    assert inner.traces[0] is not None
    assert (inner.traces[0].trace_id, inner.traces[0].span_id) == (span.trace_id, span.span_id)
    assert span.attributes == {names.DECISION: decision.effect.value} | of_rule(decision)


@pytest.mark.parametrize(("decision", "kept"), [(ALLOWED, False), (DENIED, True), (HELD, True)])
async def test_the_decision_of_a_denied_or_held_call_is_always_there(decision: Decision, kept: bool) -> None:
    """As the call itself is."""
    made, memory = tracer()
    await TracedPolicy(Inner(decision), made).decide(b"", UNSAMPLED)
    assert bool(memory.spans()) is kept


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (Refusal(Code.POLICY_UNAVAILABLE, SECRET), "policy_unavailable"),
        (RuntimeError(SECRET), "RuntimeError"),
        (asyncio.CancelledError(), "CancelledError"),
    ],
)
async def test_a_fault_passes_and_leaves_its_type(fault: BaseException, error: str) -> None:
    """Whatever it is, through each of the three."""
    made, memory = tracer()
    with pytest.raises(type(fault)):
        await TracedPolicy(Inner(fault), made).decide(b"", UNSAMPLED)
    with pytest.raises(type(fault)):
        await TracedPolicy(Inner(fault), made).visible(b"", UNSAMPLED)
    with pytest.raises(type(fault)):
        await TracedExecutor(Inner(fault), made).execute(permit(), UNSAMPLED)
    with pytest.raises(type(fault)):
        await TracedFacts(Inner(fault), made).resource(SOURCE, "supplier_id", "1", UNSAMPLED)
    assert [span.name for span in memory.spans()] == ["decide", "visible", "tools/call price.list", "facts supplier"]
    assert {(span.error, span.attributes[names.ERROR_TYPE]) for span in memory.spans()} == {(True, error)}
    assert SECRET not in repr(memory.spans())


async def test_what_a_principal_may_see_is_traced_if_somebody_traces() -> None:
    """No root of its own for a listing."""
    made, memory = tracer()
    inner = Inner(frozenset({"price.list"}))
    policy = TracedPolicy(inner, made)
    assert await policy.visible(b"", None) == {"price.list"}
    assert await policy.visible(b"", PARENT) == {"price.list"}
    assert [span.name for span in memory.spans()] == ["visible"]
    assert inner.traces[0] is None
    assert inner.traces[1] is not None
    assert inner.traces[1].span_id == memory.spans()[0].span_id


async def test_an_upstream_is_a_client_span_whose_context_goes_on() -> None:
    """Named by the catalog's tool, with the host that was really called."""
    made, memory = tracer()
    inner = Inner(answer(200))
    assert await TracedExecutor(inner, made).execute(permit(), PARENT) is inner.said
    (span,) = memory.spans()
    assert (span.name, span.kind, span.error) == ("tools/call price.list", "client", False)
    assert inner.traces[0] is not None
    assert inner.traces[0].traceparent == f"00-{PARENT.trace_id}-{span.span_id}-01"
    assert span.attributes == {
        names.OPERATION_NAME: "execute_tool",
        names.TOOL_NAME: "price.list",
        names.UPSTREAM: "prices",
        names.SERVER_ADDRESS: "prices.internal",
        names.SERVER_PORT: 8443,
        names.HTTP_STATUS: 200,
    }


@pytest.mark.parametrize("status", [400, 404, 500, 503])
async def test_a_failed_answer_is_an_error_of_its_status(status: int) -> None:
    """As HTTP's conventions say of clients."""
    made, memory = tracer()
    await TracedExecutor(Inner(answer(status)), made).execute(permit(), UNSAMPLED)
    (span,) = memory.spans()
    assert (span.error, span.attributes[names.ERROR_TYPE]) == (True, str(status))
    assert span.attributes[names.HTTP_STATUS] == status


async def test_a_refusal_of_the_executor_says_its_code() -> None:
    """Not what was in its message or details."""
    made, memory = tracer()
    with pytest.raises(Refusal):
        await TracedExecutor(Inner(UNREACHABLE), made).execute(permit(), PARENT)
    (span,) = memory.spans()
    assert span.attributes[names.ERROR_TYPE] == "tool_unreachable"
    assert SECRET not in repr(span)


async def test_a_record_is_asked_for_without_its_id_in_the_span() -> None:
    """Only its type; the id is an argument's value."""
    made, memory = tracer()
    inner = Inner(Resource(argument="supplier_id", type="supplier", id=SECRET))
    source = replace(SOURCE, upstream=replace(UPSTREAM, url="http://[::1]/x"))
    assert await TracedFacts(inner, made).resource(source, "supplier_id", SECRET, PARENT) is inner.said
    (span,) = memory.spans()
    assert (span.name, span.kind) == ("facts supplier", "client")
    assert (span.attributes[names.SERVER_ADDRESS], span.attributes[names.SERVER_PORT]) == ("::1", 80)
    assert inner.traces[0] is not None
    assert inner.traces[0].span_id == span.span_id
    assert SECRET not in repr(span)
    assert set(span.attributes) <= set(names.ALL_ATTRIBUTES)


class Store:
    """Port Reviews: one review, answered as asked."""

    async def request(self, review: Review) -> Review:
        """As it came."""
        return review

    async def outcome(self, review_id: str, seconds: float, *, live: bool = True) -> Review:
        """Still open."""
        return review()

    async def resolve(self, review_id: str, status: ReviewStatus, by: str, comment: str | None) -> Review:
        """Answered, unless somebody unknown asks."""
        if by == "nobody":
            raise Refusal(Code.NOT_APPROVER, SECRET)
        return review(status, by=by)

    async def find(self, *, review_id: str | None = None, call_id: str | None = None) -> Sequence[Review]:
        """The one."""
        return [review()]


async def test_an_answer_is_told_and_all_else_goes_by() -> None:
    """Only an answer that counts."""
    told: list[Review] = []
    traced = TracedReviews(Store(), told.append)
    assert await traced.request(review()) == review()
    assert await traced.outcome("r-1", 1.0) == review()
    assert await traced.find(review_id="r-1") == [review()]
    with pytest.raises(Refusal):
        await traced.resolve("r-1", ReviewStatus.APPROVED, "nobody", None)
    assert told == []
    answered = await traced.resolve("r-1", ReviewStatus.APPROVED, "boris", SECRET)
    assert told == [answered]
    assert (answered.status, answered.by) == (ReviewStatus.APPROVED, "boris")
