"""The records of holds, and the answer that a held call finds there already (design section 12)."""

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from typing import Any

from proxy.core.conversation import Conversation
from proxy.core.hold_rules import Hold, answered_no, same_question
from proxy.core.reservation import Reservation
from proxy.core.review import Review, ReviewStatus
from proxy.core.state_json import review_to_json

SIDEGATE = "sidegate"  # who concludes what nobody has answered
VOID = "the conversation has read more since the approval was given"


def requested_record(review: Review, own: Reservation | None, conversation: Conversation) -> dict[str, Any]:
    """A person is asked. `own` is the call's reservation, which becomes the hold."""
    labels = own.labels if own is not None else ()
    return {
        "kind": "review_requested",
        "call": review.call_id,
        "conversation": review.conversation,
        "review": review_to_json(review),
        "number": None if own is None else own.number,
        "system": "" if own is None else own.system,
        "effect": "" if own is None else own.effect,
        "labels": list(labels),
        "baseline": {
            "labels": sorted(conversation.labels.union(labels)),
            "untrusted": conversation.untrusted or (own is not None and own.untrusted),
        },
    }


def resolved_record(review: Review, status: ReviewStatus, by: str, comment: str | None, at: datetime) -> dict[str, Any]:
    """It is answered, or ended."""
    return {
        "kind": "review_resolved",
        "review": review.id,
        "call": review.call_id,
        "conversation": review.conversation,
        "status": status.value,
        "by": by,
        "comment": comment,
        "resolved_at": at.isoformat(),
    }


def attached_record(review_id: str, call: str) -> Mapping[str, Any]:
    """A later call waits on the same review."""
    return {"kind": "review_attached", "review": review_id, "call": call}


def unused(review: Review) -> str | None:
    """Why a review that has come to its end was of no use, for one that was approved."""
    if review.status is not ReviewStatus.APPROVED or review.uses:
        return None
    return f"approved by {review.by}, and not used in time"


def known_answer(holds: Collection[Hold], wanted: Review, live: Collection[str], now: datetime) -> Review | None:
    """The open review of an identical call that nobody waits on, or the rejection that answers this one already.

    `holds` are all of its conversation, in the order in which they were asked for; `live` the reviews that somebody waits on.
    """
    for hold in holds:
        if hold.review.status.open and hold.review.id not in live and same_question(hold.review, wanted):
            return hold.review
    return answered_no(_in_order(holds), wanted, now)


def _in_order(holds: Iterable[Hold]) -> Iterable[Hold]:
    return sorted(holds, key=lambda hold: hold.requested_seq)
