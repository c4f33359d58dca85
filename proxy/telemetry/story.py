"""The story of one call for those who watch: its SERVER span, its holds, its metrics, its log line (design section 16)."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from proxy.adapters.seldom import Seldom
from proxy.core.review import Review, ReviewStatus
from proxy.core.trail import Trail
from proxy.model import Answer, Effect, Presented, SpanContext, ToolCall, UnreadableCall
from proxy.ports import Clock, Span, Tracer
from proxy.telemetry import attributes, names
from proxy.telemetry.holds import HoldSpans
from proxy.telemetry.metrics import CallMetrics
from proxy.telemetry.spans import Value, keep

_OUTCOMES = {
    ReviewStatus.APPROVED: "approved",
    ReviewStatus.REJECTED: "rejected",
    ReviewStatus.EXPIRED: "expired",
    ReviewStatus.CANCELLED: "abandoned",
}

_calls = logging.getLogger("sidegate.calls")
_logger = logging.getLogger(__name__)


class CallTelemetry:
    """Port Telemetry. Whatever fails in here is counted and logged, and changes no call."""

    def __init__(self, tracer: Tracer, metrics: CallMetrics, clock: Clock) -> None:
        self._tracer = tracer
        self._metrics = metrics
        self._clock = clock
        self._seldom = Seldom(clock)
        self.holds = HoldSpans(tracer, clock, self._ended)

    def begin(self, call: ToolCall | UnreadableCall, presented: Presented) -> Span:
        """The SERVER span, a root if nobody said which trace the call belongs to."""
        name = f"{names.SPAN_CALL} {self._metrics.label(call.tool)}"
        return self._tracer.start(name, names.SPAN_SERVER, presented.trace)

    def held(self, trail: Trail, review: Review) -> None:
        """The call waits for a person, from now on to be seen. Nothing for a review already answered."""
        if review.status is ReviewStatus.PENDING:
            with self._harmless():
                self.holds.requested(trail, review)

    def resolved(self, trail: Trail, review: Review) -> None:
        """The answer, linked to the span of the request."""
        with self._harmless():
            self.holds.learned(trail, review)

    def answered(self, review: Review) -> None:
        """Somebody answered; perhaps nobody waits for it. Counted here, where the answer was given: another process may have
        held the call."""
        with self._harmless():
            self._ended(review)
            self.holds.answered(review)

    def conclude(self, span: Span, trail: Trail, answer: Answer) -> None:
        """All that is known of the call, on its span, in the metrics, and as one log line."""
        with self._harmless():
            level = logging.DEBUG if answer.refusal is None else logging.INFO
            told = span.recording or _calls.isEnabledFor(level)
            facts = attributes.of_end(trail, answer) if told else {}
            span.update(facts)
            if trail.approval is not None or answer.decision in (Effect.DENY, Effect.REVIEW):
                keep(span)
            span.end(error_type=None if answer.refusal is None else answer.refusal.code)
            total = self._clock.monotonic() - trail.began
            self._count(trail, answer, total)
            if told:
                _log(level, span.context, facts, total)

    def _count(self, trail: Trail, answer: Answer, total: float) -> None:
        tool = self._metrics.label(trail.call.tool) if trail.checked is None else trail.checked.tool.name
        code = None if answer.refusal is None else answer.refusal.code
        self._metrics.concluded(tool, _decision(answer), code or names.OK)
        self._metrics.took(trail.stages.items(), total)
        if trail.decision is not None and trail.decision.effect is not Effect.ALLOW:
            self._metrics.refused_by(trail.decision.effect.value, *attributes.deciding(trail.decision))

    def _ended(self, review: Review) -> None:
        if review.resolved_at is not None and review.status in _OUTCOMES:
            waited = max(0.0, (review.resolved_at - review.requested_at).total_seconds())
            self._metrics.reviewed(_OUTCOMES[review.status], waited)

    @contextmanager
    def _harmless(self) -> Iterator[None]:
        try:
            yield
        except Exception:
            self._metrics.fault()
            if (more := self._seldom.due("fault")) is not None:
                _logger.exception(
                    "telemetry of a call failed; the call was not touched", extra={"fields": {"more": more}}
                )


def _decision(answer: Answer) -> str:
    return names.NO_DECISION if answer.decision is None else answer.decision.value


def _log(level: int, trace: SpanContext, facts: dict[str, Value], total: float) -> None:
    # What went well is in the journal and in the metrics; a line for each of those costs more than deciding them.
    if _calls.isEnabledFor(level):
        fields = facts | {"seconds": round(total, 6)}
        _calls.log(level, "tool call", extra={"trace": trace, "fields": fields})
