"""Spans of held calls: one when a person is asked, one when the answer is there, in the trace of the call that was held.

Spans are exported when they end, so the first ends at once: a call is seen while it waits. The second comes whoever learns
of the answer first: the call that still waits, the review port where it was given, or the watch that finds it expired.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from proxy.adapters.again import again_and_again
from proxy.core.hold_records import VOID
from proxy.core.hold_rules import deadline
from proxy.core.review import Review, ReviewStatus
from proxy.core.trail import Trail
from proxy.model import SpanContext
from proxy.ports import Clock, Reviews, Tracer
from proxy.telemetry import attributes, names
from proxy.telemetry.spans import Value

_MAX_REVIEWS = 1024  # whose first span is remembered, to link to
_TOLD = frozenset({ReviewStatus.APPROVED, ReviewStatus.REJECTED, ReviewStatus.EXPIRED, ReviewStatus.CANCELLED})


@dataclass(slots=True, kw_only=True)
class _Hold:
    """A review that was requested here. `due`: from when on it may have expired; None once nothing more can come of it."""

    call: SpanContext
    requested: SpanContext
    due: datetime | None
    told: ReviewStatus | None = None


class HoldSpans:
    """All holds of one process. A review requested by another process, or before a restart, is told without a link.
    `unanswered` hears of each review requested here that ended without a person."""

    def __init__(self, tracer: Tracer, clock: Clock, unanswered: Callable[[Review], None] = lambda _: None) -> None:
        self._tracer = tracer
        self._clock = clock
        self._unanswered = unanswered
        self._holds: dict[str, _Hold] = {}

    def requested(self, trail: Trail, review: Review) -> None:
        """A call waits for a person, with all that it can be searched by: its own span may be long in coming."""
        known = self._holds.get(review.id)
        links = () if known is None else (known.requested,)
        told = attributes.of_call(trail) | attributes.of_review(review)
        context = self._span(names.SPAN_REVIEW_REQUESTED, trail.trace, told, links)
        if known is None:
            if len(self._holds) >= _MAX_REVIEWS:
                del self._holds[next(iter(self._holds))]
            self._holds[review.id] = _Hold(call=trail.trace, requested=context, due=deadline(review))

    def learned(self, trail: Trail, review: Review) -> None:
        """A call, perhaps a later one of another trace, goes on with the answer. The call that was held is told of it once."""
        known = self._holds.get(review.id)
        if known is not None and known.call == trail.trace:
            self.answered(review)
            return
        links = () if known is None else (known.requested,)
        told = {names.DECISION_ID: trail.call_id} | _answer(review)
        self._span(names.SPAN_REVIEW_RESOLVED, trail.trace, told, links)

    def answered(self, review: Review) -> None:
        """What became of a review, told once in the trace of the call that was held."""
        known = self._holds.get(review.id)
        if known is not None:
            known.due = deadline(review) if review.status is ReviewStatus.APPROVED else None
            if known.told is review.status:
                return
            if known.told is None and _unanswered(review):
                self._unanswered(review)
            known.told = review.status
        if review.status not in _TOLD:
            return
        call = SpanContext(trace_id=review.trace_id, span_id="") if known is None else known.call
        links = () if known is None else (known.requested,)
        self._span(names.SPAN_REVIEW_RESOLVED, call, {names.DECISION_ID: review.call_id} | _answer(review), links)

    async def watch(self, reviews: Reviews, every: float) -> None:
        """Tell what has expired without anybody there, looked for every so many seconds. Does not end."""
        await again_and_again(self._clock, every, lambda: self._overdue(reviews), "spans of holds that have expired")

    async def _overdue(self, reviews: Reviews) -> None:
        now = self._clock.now()
        for name, hold in list(self._holds.items()):
            if hold.due is None or hold.due > now:
                continue
            found = await reviews.find(review_id=name)
            hold.due = None
            for review in found:
                if review.status is ReviewStatus.PENDING:
                    hold.due = deadline(review)
                else:
                    self.answered(review)

    def _span(
        self, name: str, parent: SpanContext, told: dict[str, Value], links: Sequence[SpanContext]
    ) -> SpanContext:
        span = self._tracer.start(name, names.SPAN_INTERNAL, parent, links=links, record=True)
        span.update(told)
        span.end()
        return span.context


def _unanswered(review: Review) -> bool:
    """Whether it ended without a person's answer. One that was approved, perhaps by another process, can expire unused, too."""
    if review.status is ReviewStatus.EXPIRED:
        return review.comment is None and not review.uses
    return review.status is ReviewStatus.CANCELLED and review.comment != VOID and not review.uses


def _answer(review: Review) -> dict[str, Value]:
    return {names.TOOL_NAME: review.tool, names.CONVERSATION_ID: review.conversation} | attributes.of_review(review)
