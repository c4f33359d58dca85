"""Who may answer a review (design section 12)."""

from proxy.core.review import Review
from proxy.errors import Code, Refusal
from proxy.model import Principal

OPERATOR = "operator"


def refuse_unless_reviewer(reviewer: Principal, review: Review, digest: str | None) -> None:
    """Four eyes, tenant, groups, and the digest that was shown. Raises Refusal not_approver or call_concluded."""
    if reviewer.actors:
        raise Refusal(Code.NOT_APPROVER, "a review is answered by a person, not by a program with a delegated token")
    asker = review.principal
    if reviewer.id == asker.id or reviewer.subject in (asker.subject, *asker.actors):
        raise Refusal(Code.NOT_APPROVER, "nobody may answer a review of their own call")
    if asker.tenant is not None and reviewer.tenant != asker.tenant:
        raise Refusal(Code.UNKNOWN_CALL, "no such review")
    missing = [group for group in review.approvers if not set(group) & set(reviewer.roles)]
    if missing:
        raise Refusal(
            Code.NOT_APPROVER,
            "this review is for another group",
            approvers=tuple(sorted({n for g in missing for n in g})),
        )
    if digest is not None and digest != review.digest:
        raise Refusal(
            Code.CALL_CONCLUDED, "the digest is not that of the call shown; look at it again before you answer"
        )


def refuse_unless_operator(reviewer: Principal) -> None:
    """Stop switches are for the role `operator`. Raises Refusal not_approver."""
    if OPERATOR not in reviewer.roles:
        raise Refusal(Code.NOT_APPROVER, f"stop switches need the role {OPERATOR}", approvers=(OPERATOR,))
