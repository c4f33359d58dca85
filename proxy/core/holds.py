"""All reviews that a store knows, found by what is asked of them: the embedded state and a pod's copy of the shared one alike."""

import heapq
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from proxy.core.hold_rules import Hold, deadline
from proxy.core.review import Review
from proxy.model import Agent

CONCLUDED_REVIEWS = 1000  # kept to answer late questions; the journal has all


class Waiting(NamedTuple):
    """How many reviews are open beside one that is wanted."""

    conversation: int
    principal: int
    agent: int
    total: int


@dataclass(slots=True, kw_only=True)
class Holds:
    """Reviews by id, in the order in which they were asked for. Only `open` without a conversation looks at all of them."""

    all: dict[str, Hold] = field(default_factory=dict)
    by_conversation: dict[str, dict[str, None]] = field(default_factory=dict)  # -> review ids
    by_call: dict[str, str] = field(default_factory=dict)  # call -> review id
    concluded: dict[str, None] = field(default_factory=dict)  # review ids, in order of conclusion
    _open: "Counter[tuple[str, str | Agent]]" = field(default_factory=Counter)
    _deadlines: list[tuple[datetime, str]] = field(
        default_factory=list
    )  # a heap; what is not so any more is passed over

    def take(self, hold: Hold) -> list[Hold]:
        """Put a review as it is now; returns those that are forgotten for it, the first concluded first."""
        review = hold.review
        before = self.all.get(review.id)
        if before is not None:
            self._count(before, -1)
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
        """How many are open of the same conversation, principal and agent, and in all."""
        return Waiting(*(self._open[key] for key in _kinds(wanted)))

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
        for key in _kinds(hold.review):
            self._open[key] += change
            if not self._open[key]:
                del self._open[key]


def _kinds(review: Review) -> Iterator[tuple[str, str | Agent]]:
    """What an open review counts for; in the order of Waiting."""
    yield "conversation", review.conversation
    yield "principal", review.principal.id
    yield "agent", review.agent
    yield "total", ""
