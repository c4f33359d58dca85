"""All reviews that a store knows, found by what is asked of them: the embedded state and a pod's copy of the shared one alike."""

import heapq
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime

from proxy.core.conversation import HOLD_WINDOW
from proxy.core.hold_rules import Hold, Waiting, deadline
from proxy.core.registry import workload
from proxy.core.review import Review

CONCLUDED_REVIEWS = 1000  # kept to answer late questions; the journal has all

_Kind = tuple[str, *tuple[str | None, ...]]


@dataclass(slots=True, kw_only=True)
class Holds:
    """Reviews by id, in the order in which they were asked for. Only `open` without a conversation looks at all of them.

    What was asked for in the last hour counts also when its review is forgotten; after a restart only what is still known.
    """

    all: dict[str, Hold] = field(default_factory=dict)
    by_conversation: dict[str, dict[str, None]] = field(default_factory=dict)  # -> review ids
    by_call: dict[str, str] = field(default_factory=dict)  # call -> review id
    concluded: dict[str, None] = field(default_factory=dict)  # review ids, in order of conclusion
    _open: "Counter[_Kind]" = field(default_factory=Counter)
    _asked: "Counter[_Kind]" = field(default_factory=Counter)  # in the last hour
    _asked_at: list[tuple[datetime, str, _Kind]] = field(default_factory=list)  # a heap
    _deadlines: list[tuple[datetime, str]] = field(
        default_factory=list
    )  # a heap; what is not so any more is passed over

    def take(self, hold: Hold) -> list[Hold]:
        """Put a review as it is now; returns those that are forgotten for it, the first concluded first."""
        review = hold.review
        before = self.all.get(review.id)
        if before is not None:
            self._count(before, -1)
        else:
            self._asks(review)
        self._count(hold, 1)
        self.all[review.id] = hold
        self.by_conversation.setdefault(review.conversation, {})[review.id] = None
        for call in (review.call_id, *hold.attached):
            self.by_call[call] = review.id
        if review.status.open:
            if before is None or deadline(before.review) != deadline(review):
                heapq.heappush(self._deadlines, (deadline(review), review.id))
            return []
        self.concluded[review.id] = None
        gone = []
        while len(self.concluded) > CONCLUDED_REVIEWS:
            gone.append(self.forget(next(iter(self.concluded))))
        return gone

    def forget(self, name: str) -> Hold:
        """Remove one. Raises KeyError."""
        hold = self.all.pop(name)
        self.concluded.pop(name, None)
        self._count(hold, -1)
        of_conversation = self.by_conversation[hold.review.conversation]
        del of_conversation[name]
        if not of_conversation:
            del self.by_conversation[hold.review.conversation]
        for call in (hold.review.call_id, *hold.attached):
            self.by_call.pop(call, None)
        return hold

    def of_conversation(self, conversation: str) -> list[Hold]:
        """All of one conversation."""
        return [self.all[name] for name in self.by_conversation.get(conversation, ())]

    def of_call(self, call: str) -> Hold | None:
        """The review on which a call waits."""
        return self.all.get(self.by_call.get(call, ""))

    def open(self, conversation: str | None = None) -> list[Hold]:
        """Those that are pending or approved, of one conversation or of all."""
        if conversation is not None:
            return [hold for hold in self.of_conversation(conversation) if hold.review.status.open]
        return [hold for name, hold in self.all.items() if name not in self.concluded]

    def waiting(self, wanted: Review) -> Waiting:
        """How many are open of the same conversation, principal and agent, and in all; and the new ones of an hour."""
        self._pass(wanted.requested_at)
        kinds = _kinds(wanted)
        return Waiting(*(self._open[kind] for kind in kinds), *(self._asked[kind] for kind in kinds[1:3]))

    def due(self, now: datetime) -> list[Hold]:
        """Those that are open and past their deadline. They stay due until they are concluded."""
        found: dict[str, Hold] = {}
        while self._deadlines and self._deadlines[0][0] <= now:
            _, name = heapq.heappop(self._deadlines)
            hold = self.all.get(name)
            if hold is not None and hold.review.status.open and deadline(hold.review) <= now:
                found[name] = hold
        for name, hold in found.items():
            heapq.heappush(self._deadlines, (deadline(hold.review), name))
        return list(found.values())

    def arrange(self) -> None:
        """After they came in any order: as they were asked for, and as they were concluded."""
        self.all = dict(sorted(self.all.items(), key=lambda item: item[1].requested_seq))
        closed = [hold for hold in self.all.values() if not hold.review.status.open]
        self.concluded = {h.review.id: None for h in sorted(closed, key=lambda hold: hold.concluded_seq)}

    def _count(self, hold: Hold, change: int) -> None:
        if not hold.review.status.open:
            return
        for kind in _kinds(hold.review):
            _add(self._open, kind, change)

    def _asks(self, review: Review) -> None:
        self._pass(review.requested_at)
        for kind in _kinds(review)[1:3]:
            _add(self._asked, kind, 1)
            heapq.heappush(self._asked_at, (review.requested_at, review.id, kind))

    def _pass(self, now: datetime) -> None:
        """What was asked for over an hour ago counts no more."""
        while self._asked_at and self._asked_at[0][0] <= now - HOLD_WINDOW:
            _add(self._asked, heapq.heappop(self._asked_at)[2], -1)


def _add(counts: "Counter[_Kind]", kind: _Kind, change: int) -> None:
    """Without leaving a zero behind."""
    counts[kind] += change
    if not counts[kind]:
        del counts[kind]


def _kinds(review: Review) -> tuple[_Kind, _Kind, _Kind, _Kind]:
    """What an open review counts for; in the order of Waiting."""
    return (
        ("conversation", review.conversation),
        ("principal", review.principal.id),
        ("agent", *workload(review.agent)),
        ("total",),
    )
