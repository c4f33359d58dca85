"""The only place where a permit is made: an executor takes nothing else (design section 4, step 8)."""

from dataclasses import InitVar, dataclass

from proxy.core.review import Approval
from proxy.core.tool import CheckedCall
from proxy.errors import Code, Refusal
from proxy.model import Caller, Decision, Effect, Reason

_MAKER = object()


@dataclass(frozen=True, slots=True, kw_only=True)
class Permit:
    """Proof in the type system that this very call was allowed. Only `grant` can make one."""

    call_id: str
    checked: CheckedCall
    caller: Caller
    maker: InitVar[object]  # not kept: `dataclasses.replace` would pass it on to another call's permit

    def __post_init__(self, maker: object) -> None:
        if maker is not _MAKER:
            raise TypeError("a Permit is made by core.permit.grant only")


def grant(
    call_id: str,
    checked: CheckedCall,
    caller: Caller,
    decision: Decision,
    approval: Approval | None = None,
) -> Permit:
    """A permit for an allowed call. Raises Refusal denied, with what the policies said, for any other effect, and
    policy_invalid for an allow beside a review that `approval` does not answer, reason by reason as said."""
    if decision.effect is not Effect.ALLOW:
        raise denial(decision, registered=caller.registered)
    covers = {} if approval is None else approval.covers
    for policy, reasons in decision.said.get("review", {}).items():
        if not all(reason in covers.get(policy, ()) for reason in reasons):
            raise Refusal(
                Code.POLICY_INVALID,
                "the policy service allowed what a person has to see first; nothing was executed",
                details={"cause": "unapproved_review", "at": f"review.{policy}"},
            )
    return Permit(call_id=call_id, checked=checked, caller=caller, maker=_MAKER)


def denial(decision: Decision, *, registered: bool = True) -> Refusal:
    """The refusal that a decision which does not allow amounts to: messages and fixes of its reasons, never values."""
    reasons = decision.deny or decision.review or (Reason(policy="decision", code="not_granted"),)
    message = "; ".join(r.message for r in reasons if r.message) or "no policy grants this call"
    fix = "; ".join(r.fix for r in reasons if r.fix) or None
    if not registered:
        fix = "this call names no registered conversation: send its handle in x-sidegate-conversation"
    return Refusal(
        Code.DENIED,
        message,
        fix=fix,
        reasons=tuple((r.policy, r.code) for r in reasons),
        approvers=tuple(sorted({a for r in reasons for a in r.approvers})),
    )
