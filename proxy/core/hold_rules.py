"""Rules of holds and approvals (design section 12): what attaches to what, what may be spent, how many there may be."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from proxy.core.conversation import IMPLICIT, Conversation
from proxy.core.review import Review, ReviewStatus
from proxy.core.state_json import agent_to_json, review_from_json, review_to_json, time_from_json
from proxy.earlier import EarlierCall, Outcome
from proxy.errors import Code, Refusal

# Bounds of an approval with scope `conversation`.
MAX_USES = 10
MAX_AGE = timedelta(minutes=15)
# Conversations are free, so their principal and their agent are bounded, too: how many times the new holds of one they may have.
PRINCIPAL_SHARE = 4
AGENT_SHARE = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldLimits:
    """Open holds per conversation, principal, agent (a workload, all its pods) and in all; new ones of a conversation per hour,
    of which a principal has 4 times and an agent 20 times as many; and, in all, rejected ones of a conversation."""

    conversation: int = 5
    principal: int = 20
    agent: int = 100
    total: int = 1000
    new_per_hour: int = 20
    rejections: int = 3


class Waiting(NamedTuple):
    """How many reviews are open beside one that is wanted, and how many were asked for in the hour before it."""

    conversation: int
    principal: int
    agent: int
    total: int
    new_of_principal: int
    new_of_agent: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """A review and what the state knows beside it: how the call shows in its conversation, and what the conversation
    had taken up when a person was asked (the call's own included), which bounds an approval for the conversation."""

    review: Review
    number: int | None
    system: str
    effect: str
    labels: tuple[str, ...]
    baseline_labels: frozenset[str]
    baseline_untrusted: bool
    requested_seq: int
    concluded_seq: int = 0
    attached: tuple[str, ...] = ()  # later calls that wait on the same review

    def as_earlier(self) -> EarlierCall | None:
        """How others see the held call; None if it never had a number."""
        if self.number is None:
            return None
        return EarlierCall(
            seq=self.number,
            tool=self.review.tool,
            system=self.system,
            effect=self.effect,
            labels=self.labels,
            outcome=Outcome.HELD,
        )


def hold_from_record(record: Mapping[str, Any]) -> Hold:
    """The hold that a `review_requested` record makes."""
    return Hold(
        review=review_from_json(record["review"]),
        number=record["number"],
        system=record["system"],
        effect=record["effect"],
        labels=tuple(record["labels"]),
        baseline_labels=frozenset(record["baseline"]["labels"]),
        baseline_untrusted=record["baseline"]["untrusted"],
        requested_seq=record["seq"],
    )


def hold_to_json(hold: Hold) -> dict[str, Any]:
    """A checkpoint's row."""
    return {
        "review": review_to_json(hold.review),
        "number": hold.number,
        "system": hold.system,
        "effect": hold.effect,
        "labels": list(hold.labels),
        "baseline": {"labels": sorted(hold.baseline_labels), "untrusted": hold.baseline_untrusted},
        "seq": hold.requested_seq,
        "concluded_seq": hold.concluded_seq,
        "attached": list(hold.attached),
    }


def hold_from_json(row: Mapping[str, Any]) -> Hold:
    """The hold of `hold_to_json`. Raises KeyError, ValueError, TypeError."""
    return replace(hold_from_record(row), concluded_seq=row["concluded_seq"], attached=tuple(row["attached"]))


def resolved(hold: Hold, record: Mapping[str, Any]) -> Hold:
    """The hold after a `review_resolved` record."""
    status = ReviewStatus(record["status"])
    review = replace(
        hold.review,
        status=status,
        by=record["by"],
        comment=record["comment"],
        resolved_at=time_from_json(record["resolved_at"]),
    )
    return replace(hold, review=review, concluded_seq=0 if status.open else record["seq"])


def spent(hold: Hold, seq: int) -> Hold:
    """The hold after a call was committed on its approval, by record `seq`."""
    uses = hold.review.uses + 1
    if hold.review.scope == "conversation" and uses < MAX_USES:
        return replace(hold, review=replace(hold.review, uses=uses))
    return replace(hold, review=replace(hold.review, uses=uses, status=ReviewStatus.SPENT), concluded_seq=seq)


def deadline(review: Review) -> datetime:
    """From when on the review is expired, if it is still open then."""
    if review.status is ReviewStatus.APPROVED and review.scope == "conversation" and review.resolved_at is not None:
        return min(review.expires_at, review.resolved_at + MAX_AGE)
    return review.expires_at


def void(hold: Hold, conversation: Conversation) -> bool:
    """Whether the conversation has since read what the reviewer of a conversation-wide approval did not know of."""
    if hold.review.scope != "conversation":
        return False
    new_text = conversation.untrusted and not hold.baseline_untrusted
    return new_text or not conversation.labels <= hold.baseline_labels


def same_question(one: Review, other: Review) -> bool:
    """Whether two held calls ask a person the very same: an answer to one is an answer to the other."""
    return (
        one.digest == other.digest
        and one.conversation == other.conversation
        and one.principal.id == other.principal.id
        and one.agent == other.agent
        and one.entry == other.entry
        and one.reasons == other.reasons
    )


def answered_no(holds: Iterable[Hold], wanted: Review, now: datetime) -> Review | None:
    """The rejection that still answers this question, newest first."""
    for hold in reversed(list(holds)):
        review = hold.review
        if review.status is ReviewStatus.REJECTED and now < review.expires_at and same_question(review, wanted):
            return review
    return None


def refuse_spending(
    hold: Hold | None, intent: Mapping[str, Any], entry: str, conversation: Conversation, now: datetime
) -> None:
    """Raises Refusal call_concluded unless this approval can be spent on this very call, of this catalog entry, now."""
    review = None if hold is None else hold.review
    if hold is None or review is None:
        raise concluded("the approval of this call is not known any more")
    if review.status is not ReviewStatus.APPROVED:
        raise concluded(f"the approval of this call cannot be used: it is {review.status}", review)
    agent = {name: value for name, value in (intent.get("agent") or {}).items() if value is not None}
    bound = (
        review.digest == intent["digest"],
        review.entry == entry,
        review.conversation == intent["conversation"],
        review.principal.id == intent["principal"]["id"],
        agent == _known(review),
    )
    if not all(bound):
        raise concluded("the approval was given for another call", review)
    if now >= deadline(review):
        raise concluded("the approval of this call has expired", review)
    if void(hold, conversation):
        raise concluded("the conversation has read more since this approval was given", review)


def refuse_over_limits(waiting: Waiting, wanted: Review, conversation: Conversation, limits: HoldLimits) -> None:
    """Raises Refusal denied where no person is asked any more, overloaded where too many are being asked."""
    if conversation.id == IMPLICIT:
        raise Refusal(Code.DENIED, "a person has to see this call, and nobody registered its conversation")
    if conversation.rejections >= limits.rejections:
        raise Refusal(
            Code.DENIED,
            f"reviewers said no to {conversation.rejections} calls of this conversation; they are not asked again",
            fix="stop trying and tell the user",
        )
    most = (limits.conversation, limits.principal, limits.agent, limits.total)
    whose = ("this conversation", "this user", "this agent", "all conversations")
    for found, limit, of in zip(waiting[:4], most, whose, strict=True):
        if found >= limit:
            raise _overloaded(f"{limit} calls of {of} already wait for a person, and that is the limit")
    hour = sum(1 for at in conversation.holds if at > wanted.requested_at - timedelta(hours=1))
    new = (hour, waiting.new_of_principal, waiting.new_of_agent)
    for found, share, of in zip(new, (1, PRINCIPAL_SHARE, AGENT_SHARE), whose[:3], strict=True):
        limit = limits.new_per_hour * share
        if found >= limit:
            raise _overloaded(f"{limit} calls of {of} were held in the last hour, and that is the limit")


def concluded(message: str, review: Review | None = None) -> Refusal:
    """The refusal for whoever comes too late. Who decided goes to reviewers and the record only."""
    details = None
    if review is not None:
        at = None if review.resolved_at is None else review.resolved_at.isoformat()
        details = {"status": review.status.value, "by": review.by, "at": at}
    return Refusal(Code.CALL_CONCLUDED, message, details=details, review_id=None if review is None else review.id)


def _overloaded(message: str) -> Refusal:
    return Refusal(Code.OVERLOADED, message, fix="wait until the held calls are answered", retry_after=60)


def _known(review: Review) -> dict[str, str]:
    return {name: value for name, value in agent_to_json(review.agent).items() if value is not None}
