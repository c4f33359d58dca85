"""Spans around ports: each gives its own context on, so that what OPA and upstreams record hangs below it."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from urllib.parse import urlsplit

from proxy.core.permit import Permit
from proxy.core.review import Review, ReviewStatus
from proxy.core.tool import ResourceSource, Upstream
from proxy.errors import Refusal
from proxy.model import Decision, Effect, Resource, Response, SpanContext
from proxy.ports import Executor, FactSource, Policy, Reviews, Span, Tracer
from proxy.telemetry import names
from proxy.telemetry.attributes import of_rule
from proxy.telemetry.spans import Value, keep


class TracedPolicy:
    """Port Policy: INTERNAL span `decide` around the policy. A deny is a decision that worked: no error status."""

    def __init__(self, policy: Policy, tracer: Tracer) -> None:
        self._policy = policy
        self._tracer = tracer

    async def decide(self, document: bytes, trace: SpanContext) -> Decision:
        """As the inner policy."""
        span = self._tracer.start(names.SPAN_DECIDE, names.SPAN_INTERNAL, trace)
        with _ended(span):
            decision = await self._policy.decide(document, span.context)
            span.update({names.DECISION: decision.effect.value, **of_rule(decision)})
            if decision.effect is not Effect.ALLOW:
                keep(span)
        return decision

    async def visible(self, document: bytes, trace: SpanContext | None) -> frozenset[str]:
        """As the inner policy. Without a trace there is no call that the span could be part of, and no span."""
        if trace is None:
            return await self._policy.visible(document, None)
        span = self._tracer.start(names.SPAN_VISIBLE, names.SPAN_INTERNAL, trace)
        with _ended(span):
            return await self._policy.visible(document, span.context)


class TracedExecutor:
    """Port Executor: CLIENT span `tools/call {tool}` around the upstream."""

    def __init__(self, executor: Executor, tracer: Tracer) -> None:
        self._executor = executor
        self._tracer = tracer

    async def execute(self, permit: Permit, trace: SpanContext) -> Response:
        """As the inner executor."""
        tool = permit.checked.tool
        kind = names.SPAN_INTERNAL if tool.upstream.kind == "caller" else names.SPAN_CLIENT
        span = self._tracer.start(f"{names.SPAN_UPSTREAM} {tool.name}", kind, trace)
        with _ended(span):
            span.update(
                {names.OPERATION_NAME: names.SPAN_CALL, names.TOOL_NAME: tool.name, **_described(tool.upstream)}
            )
            response = await self._executor.execute(permit, span.context)
            span.update({names.HTTP_STATUS: response.status})
            if response.status >= 400:
                span.end(error_type=str(response.status))
        return response


class TracedFacts:
    """Port FactSource: CLIENT span `facts {type}`. Which record was asked for is not in it."""

    def __init__(self, facts: FactSource, tracer: Tracer) -> None:
        self._facts = facts
        self._tracer = tracer

    async def resource(self, source: ResourceSource, argument: str, record_id: str, trace: SpanContext) -> Resource:
        """As the inner source."""
        span = self._tracer.start(f"{names.SPAN_FACTS} {source.type}", names.SPAN_CLIENT, trace)
        with _ended(span):
            span.update({names.RECORD_TYPE: source.type, **_described(source.upstream)})
            return await self._facts.resource(source, argument, record_id, span.context)


class TracedReviews:
    """Port Reviews for those who answer: `told` gets every review with its answer, whether a call waits for it or not."""

    def __init__(self, reviews: Reviews, told: Callable[[Review], None]) -> None:
        self._reviews = reviews
        self._told = told

    async def request(self, review: Review) -> Review:
        """As the inner store."""
        return await self._reviews.request(review)

    async def outcome(self, review_id: str, seconds: float, *, live: bool = True) -> Review:
        """As the inner store."""
        return await self._reviews.outcome(review_id, seconds, live=live)

    async def resolve(self, review_id: str, status: ReviewStatus, by: str, comment: str | None) -> Review:
        """As the inner store."""
        review = await self._reviews.resolve(review_id, status, by, comment)
        self._told(review)
        return review

    async def find(self, *, review_id: str | None = None, call_id: str | None = None) -> Sequence[Review]:
        """As the inner store."""
        return await self._reviews.find(review_id=review_id, call_id=call_id)


@contextmanager
def _ended(span: Span) -> Iterator[None]:
    """End the span whatever happens, with a refusal's code or the type of what was raised; cancellation included."""
    try:
        yield
    except Refusal as refusal:
        span.end(error_type=refusal.code.value)
        raise
    except BaseException as fault:
        span.end(error_type=type(fault).__name__)
        raise
    span.end()


def _described(upstream: Upstream) -> dict[str, Value]:
    host, port = _address(upstream.url or "")
    known: dict[str, Value] = {names.UPSTREAM: upstream.name}
    return known | {names.SERVER_ADDRESS: host, names.SERVER_PORT: port} if host else known


@lru_cache(maxsize=256)
def _address(url: str) -> tuple[str, int]:
    """Host and port; the catalog has checked the URL."""
    parts = urlsplit(url)
    return parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
