"""What spans say of a call: who asked, what was decided, by which rule and revision, how it ended (design section 16).

All that Jaeger is searched by stands together, since it matches tags on single spans. Arguments, results, messages and
details are in none of it.
"""

import re

from proxy.core.review import Review
from proxy.core.trail import Trail
from proxy.errors import Ran
from proxy.model import Agent, Answer, Decision, Effect, Reason
from proxy.telemetry import names
from proxy.telemetry.spans import Value

_MAX_ID = 256  # characters of an id that came from outside
_TOOL_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")


def of_call(trail: Trail) -> dict[str, Value]:
    """What is known of a call so far, with the decision as it stands."""
    decision = trail.decision
    known: dict[str, Value] = {
        names.OPERATION_NAME: names.SPAN_CALL,
        names.TOOL_NAME: _tool_name(trail),
        names.TOOL_CALL_ID: trail.call.id[:_MAX_ID],
        names.DECISION: names.NO_DECISION if decision is None else decision.effect.value,
        names.DECISION_ID: trail.call_id,
    }
    if trail.snapshot is not None:
        known[names.REVISION] = trail.snapshot.revision
    if trail.caller is not None:
        known[names.CONVERSATION_ID] = trail.caller.conversation
        known[names.PRINCIPAL] = trail.caller.principal.id
        if agent := _agent(trail.caller.agent):
            known[names.AGENT] = agent
    if trail.checked is not None:
        known[names.SYSTEM] = trail.checked.tool.system.name
        known[names.LABELS] = trail.checked.tool.labels
    if trail.resumes is not None:
        known[names.RESUMES] = trail.resumes
    return known if decision is None else known | of_rule(decision)


def of_end(trail: Trail, answer: Answer) -> dict[str, Value]:
    """The whole of a call that has ended, for its SERVER span and its log line."""
    refusal = answer.refusal
    known = of_call(trail)
    known[names.CODE] = names.OK if refusal is None else refusal.code.value
    known[names.RAN] = (Ran.YES if refusal is None else refusal.ran).value
    if trail.approval is not None:
        known[names.REVIEW_ID] = trail.approval.review_id
        known[names.REVIEW_BY] = trail.approval.by
    if refusal is not None and refusal.review_id is not None:
        known[names.REVIEW_ID] = refusal.review_id
    if "hold" in trail.stages:
        known[names.WAITED] = round(trail.stages["hold"], 3)
    return known


def of_rule(decision: Decision) -> dict[str, Value]:
    """The reason that decided."""
    policy, code = deciding(decision)
    return {
        names.RULESET_NAME: policy,
        names.RULE_NAME: code,
        names.RULE_VERSION: decision.revision,
        names.REASON: f"{policy}.{code}",
        names.REASONS: len(decision.guards) + len(_said(decision)),
    }


def deciding(decision: Decision) -> tuple[str, str]:
    """Policy and code of the reason that decided. The first of several: reasons come in the order of their policies' names."""
    said = _said(decision)
    if decision.effect is Effect.DENY and decision.guards:
        return "guards", decision.guards[0]
    if said and said[0].code != "not_granted":
        return said[0].policy, said[0].code
    return "decision", names.DEFAULT_DENY


def of_review(review: Review) -> dict[str, Value]:
    """A review as it stands: until when and by whom it can be answered, or what became of it, by whom and after how long."""
    known: dict[str, Value] = {names.REVIEW_ID: review.id, names.REVIEW_STATUS: review.status.value}
    if review.resolved_at is None:
        known[names.REVIEW_EXPIRES] = review.expires_at.isoformat(timespec="seconds")
        known[names.REVIEW_APPROVERS] = tuple(sorted({name for group in review.approvers for name in group}))
        return known
    known[names.REVIEW_SECONDS] = round(max(0.0, (review.resolved_at - review.requested_at).total_seconds()), 3)
    if review.by is not None:
        known[names.REVIEW_BY] = review.by
    return known


def _said(decision: Decision) -> tuple[Reason, ...]:
    return {Effect.DENY: decision.deny, Effect.REVIEW: decision.review, Effect.ALLOW: decision.allow}[decision.effect]


def _tool_name(trail: Trail) -> str:
    """The catalog's name; else the one asked for, if it looks like a name at all (a model may put anything there)."""
    if trail.checked is not None:
        return trail.checked.tool.name
    return trail.call.tool if _TOOL_NAME.fullmatch(trail.call.tool) else names.OTHER


def _agent(agent: Agent) -> str:
    if agent.spiffe_id is not None:
        return agent.spiffe_id
    return "/".join(filter(None, (agent.namespace, agent.service_account)))
