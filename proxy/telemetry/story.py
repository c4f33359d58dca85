"""The story of one call for those who watch: its SERVER span, its holds, its metrics, its log line (design section 16).

All that Jaeger is searched by is on the SERVER span together, since it matches tags on single spans. Arguments, results,
messages and details are in none of it.
"""

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager

from proxy.core.review import Review, ReviewStatus
from proxy.core.trail import Trail
from proxy.errors import Code, Ran
from proxy.model import Agent, Answer, Decision, Effect, Presented, SpanContext, ToolCall, UnreadableCall
from proxy.ports import Clock, Span, Tracer
from proxy.telemetry import names
from proxy.telemetry.logs import Seldom
from proxy.telemetry.metrics import CallMetrics
from proxy.telemetry.spans import Value, keep

# Refused because something of Sidegate's own failed, not because somebody said no.
FAIL_CLOSED = frozenset(
    {
        Code.POLICY_UNAVAILABLE,
        Code.POLICY_INVALID,
        Code.FACTS_UNAVAILABLE,
        Code.STATE_UNAVAILABLE,
        Code.AUDIT_UNAVAILABLE,
        Code.INTERNAL_ERROR,
    }
)

_MAX_REVIEWS = 1024  # whose first span is remembered, to link to
_MAX_ID = 256  # characters of an id that came from outside
_TOOL_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")

_calls = logging.getLogger("sidegate.calls")
_logger = logging.getLogger(__name__)


class CallTelemetry:
    """Port Telemetry. Whatever fails in here is counted and logged, and changes no call."""

    def __init__(self, tracer: Tracer, metrics: CallMetrics, clock: Clock) -> None:
        self._tracer = tracer
        self._metrics = metrics
        self._clock = clock
        self._seldom = Seldom(clock)
        self._requested: dict[str, SpanContext] = {}

    def begin(self, call: ToolCall | UnreadableCall, presented: Presented) -> Span:
        """The SERVER span, a root if nobody said which trace the call belongs to."""
        name = f"{names.SPAN_CALL} {self._metrics.label(call.tool)}"
        return self._tracer.start(name, names.SPAN_SERVER, presented.trace)

    def held(self, trail: Trail, review: Review) -> None:
        """A span that ends at once: a call that waits for a person is seen while it waits. None for a review already answered."""
        if review.status is not ReviewStatus.PENDING:
            return
        with self._harmless():
            before = self._requested.get(review.id)
            span = self._review_span(names.SPAN_REVIEW_REQUESTED, trail, review, before)
            if before is None:
                self._remember(review.id, span.context)

    def resolved(self, trail: Trail, review: Review) -> None:
        """The answer, linked to the span of the request."""
        with self._harmless():
            self._review_span(names.SPAN_REVIEW_RESOLVED, trail, review, self._requested.get(review.id))

    def conclude(self, span: Span, trail: Trail, answer: Answer) -> None:
        """All that is known of the call, on its span, in the metrics, and as one log line."""
        with self._harmless():
            level = logging.DEBUG if answer.refusal is None else logging.INFO
            told = span.recording or _calls.isEnabledFor(level)
            facts = _facts(trail, answer) if told else {}
            for key, value in facts.items():
                span.set(key, value)
            if trail.approval is not None or answer.decision in (Effect.DENY, Effect.REVIEW):
                keep(span)
            span.end(error_type=None if answer.refusal is None else answer.refusal.code)
            total = self._clock.monotonic() - trail.began
            self._count(trail, answer, total)
            if told:
                _log(level, span.context, facts, total)

    def _review_span(self, name: str, trail: Trail, review: Review, linked: SpanContext | None) -> Span:
        links = () if linked is None else (linked,)
        span = self._tracer.start(name, names.SPAN_INTERNAL, trail.trace, links=links, record=True)
        span.set(names.REVIEW_ID, review.id)
        span.set(names.REVIEW_STATUS, review.status.value)
        span.set(names.DECISION_ID, trail.call_id)
        span.set(names.TOOL_NAME, review.tool)
        span.end()
        return span

    def _remember(self, review_id: str, context: SpanContext) -> None:
        if len(self._requested) >= _MAX_REVIEWS:
            del self._requested[next(iter(self._requested))]
        self._requested[review_id] = context

    def _count(self, trail: Trail, answer: Answer, total: float) -> None:
        tool = self._metrics.label(trail.call.tool) if trail.checked is None else trail.checked.tool.name
        code = None if answer.refusal is None else answer.refusal.code
        self._metrics.concluded(tool, _decision(answer), code or names.OK, failed_closed=code in FAIL_CLOSED)
        self._metrics.took(trail.stages.items(), total)

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


def _facts(trail: Trail, answer: Answer) -> dict[str, Value]:
    """The attributes of the SERVER span, as far as they are known."""
    refusal = answer.refusal
    facts: dict[str, Value] = {
        names.OPERATION_NAME: names.SPAN_CALL,
        names.TOOL_NAME: _tool_name(trail),
        names.TOOL_CALL_ID: trail.call.id[:_MAX_ID],
        names.DECISION: _decision(answer),
        names.DECISION_ID: trail.call_id,
        names.CODE: names.OK if refusal is None else refusal.code.value,
        names.RAN: (Ran.YES if refusal is None else refusal.ran).value,
    }
    if answer.revision:
        facts[names.REVISION] = answer.revision
    if trail.caller is not None:
        facts[names.CONVERSATION_ID] = trail.caller.conversation
        facts[names.PRINCIPAL] = trail.caller.principal.id
        if agent := _agent(trail.caller.agent):
            facts[names.AGENT] = agent
    if trail.checked is not None:
        facts[names.SYSTEM] = trail.checked.tool.system.name
        facts[names.LABELS] = trail.checked.tool.labels
    if trail.decision is not None:
        facts |= _rule(trail.decision)
    return facts | _review(trail, answer)


def _rule(decision: Decision) -> dict[str, Value]:
    """The reason that decided. The first of several: reasons come in the order of their policies' names."""
    said = {Effect.DENY: decision.deny, Effect.REVIEW: decision.review, Effect.ALLOW: decision.allow}[decision.effect]
    if decision.effect is Effect.DENY and decision.guards:
        policy, code = "guards", decision.guards[0]
    elif said and said[0].code != "not_granted":
        policy, code = said[0].policy, said[0].code
    else:
        policy, code = "decision", names.DEFAULT_DENY
    return {
        names.RULESET_NAME: policy,
        names.RULE_NAME: code,
        names.RULE_VERSION: decision.revision,
        names.REASON: f"{policy}.{code}",
        names.REASONS: len(decision.guards) + len(said),
    }


def _review(trail: Trail, answer: Answer) -> dict[str, Value]:
    facts: dict[str, Value] = {}
    review_id = trail.approval.review_id if trail.approval is not None else None
    if answer.refusal is not None and answer.refusal.review_id is not None:
        review_id = answer.refusal.review_id
    if review_id is not None:
        facts[names.REVIEW_ID] = review_id
    if "hold" in trail.stages:
        facts[names.WAITED] = round(trail.stages["hold"], 3)
    return facts


def _decision(answer: Answer) -> str:
    return names.NO_DECISION if answer.decision is None else answer.decision.value


def _tool_name(trail: Trail) -> str:
    """The catalog's name; else the one asked for, if it looks like a name at all (a model may put anything there)."""
    if trail.checked is not None:
        return trail.checked.tool.name
    return trail.call.tool if _TOOL_NAME.fullmatch(trail.call.tool) else names.OTHER


def _agent(agent: Agent) -> str:
    if agent.spiffe_id is not None:
        return agent.spiffe_id
    return "/".join(filter(None, (agent.namespace, agent.service_account)))


def _log(level: int, trace: SpanContext, facts: dict[str, Value], total: float) -> None:
    # What went well is in the journal and in the metrics; a line for each of those costs more than deciding them.
    if _calls.isEnabledFor(level):
        fields = facts | {"seconds": round(total, 6)}
        _calls.log(level, "tool call", extra={"trace": trace, "fields": fields})
