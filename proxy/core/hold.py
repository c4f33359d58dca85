"""From a decision to review, to a record for a person, to a yes or a no (design section 12)."""

from datetime import datetime, timedelta

from proxy.core.review import Approval, Review, ReviewStatus
from proxy.core.trail import Trail
from proxy.errors import Code, Refusal
from proxy.model import Decision, ToolCall, ToolEffect


def new_review(trail: Trail, *, review_id: str, now: datetime, ttl: float) -> Review:
    """The record that a held call leaves. Raises Refusal denied for a caller that may not hold."""
    call, caller, checked, decision = trail.call, trail.caller, trail.checked, trail.decision
    if not isinstance(call, ToolCall) or caller is None or checked is None or decision is None or trail.facts is None:
        raise ValueError("a call is held after it was checked and decided")
    if not caller.registered:
        raise Refusal(
            Code.DENIED,
            "a person has to see this call, and nobody registered the conversation it belongs to",
            fix="register the conversation (PUT /v1/conversations/{id}) and send its handle",
            reasons=tuple((r.policy, r.code) for r in decision.review),
        )
    return Review(
        id=review_id,
        call_id=trail.call_id,
        digest=checked.digest,
        conversation=caller.conversation,
        principal=caller.principal,
        agent=caller.agent,
        tool=checked.tool.name,
        version=checked.version.version,
        entry=checked.tool.digest,
        dialect=call.dialect,
        tool_call_id=call.id,
        arguments=trail.arguments or b"{}",
        replayable=not checked.tool.paths("secret"),
        reason=call.reason,
        reasons=decision.said.get("review", {}),
        approvers=tuple(r.approvers for r in decision.review if r.approvers),
        scope=_scope(decision, checked.tool.effect),
        earlier=trail.facts.history.calls,
        policy_revision=decision.revision,
        trace_id=trail.trace.trace_id,
        requested_at=now,
        expires_at=now + timedelta(seconds=ttl),
    )


def approval_of(review: Review) -> Approval:
    """The yes of an approved review. Raises Refusal review_pending, review_rejected or review_expired for any other state."""
    if review.status is ReviewStatus.APPROVED and review.by is not None and review.resolved_at is not None:
        return Approval(review_id=review.id, by=review.by, at=review.resolved_at, covers=review.reasons)
    raise hold_refusal(review)


def hold_refusal(review: Review) -> Refusal:
    """What the caller of a held call is told while there is no yes."""
    groups = tuple(sorted({name for group in review.approvers for name in group}))
    said = _messages(review)
    if review.status is ReviewStatus.PENDING:
        code, message = Code.REVIEW_PENDING, f"a person has to approve this call first: {said}"
        fix = "go on with something else; send exactly this call again later, or wait for the application to resume it"
    elif review.status is ReviewStatus.REJECTED:
        code = Code.REVIEW_REJECTED
        message = "the reviewer said no" + (f": {review.comment}" if review.comment else "")
        fix = "do not repeat this call; tell the user"
    elif review.status in (ReviewStatus.SPENT, ReviewStatus.APPROVED):
        code, message, fix = (
            Code.CALL_CONCLUDED,
            "this approval has already been used",
            "a new call needs a new approval",
        )
    else:
        code, message = Code.REVIEW_EXPIRED, "nobody answered in time, which is a no"
        fix = "send the call again to ask anew, if the user still wants it"
    reasons = tuple((policy, str(r.get("code"))) for policy, said_by in review.reasons.items() for r in said_by)
    return Refusal(code, message, fix=fix, reasons=reasons, review_id=review.id, approvers=groups)


def _messages(review: Review) -> str:
    said = [str(r["message"]) for reasons in review.reasons.values() for r in reasons if r.get("message")]
    return "; ".join(said) or "policy asks for it"


def _scope(decision: Decision, effect: ToolEffect) -> str:
    """`conversation` only where every reason says so and nothing is changed by the call."""
    wide = effect is ToolEffect.READ and all(r.scope == "conversation" for r in decision.review)
    return "conversation" if wide else "once"
