"""All state as a pure fold over journal records (design section 8).

`State.apply` is the only thing that changes it, on the live path (right after a record was appended) and at replay alike;
so memory always equals the replayed journal. Records name in `seq` where they stand in the journal. Each applied record
leaves the entities it changed in `dirty`; a checkpoint writes them with `seq` in one transaction, and at start the state
is that checkpoint and the records after it. Conversations come lazily, by `fetch`; everything else is small and in memory.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from proxy.core.conversation import (
    IMPLICIT,
    Conversation,
    add,
    conversation_from_json,
    conversation_to_json,
    ended_as,
    take_back,
)
from proxy.core.hold_rules import Hold, hold_from_json, hold_from_record, hold_to_json, resolved, spent
from proxy.core.holds import Holds
from proxy.core.review import ReviewStatus
from proxy.core.state_json import registered_from_json
from proxy.core.stops import switched
from proxy.earlier import Outcome

ATTACHED_CALLS = 20

Key = tuple[str, str]  # (table, id)


@dataclass(slots=True, kw_only=True)
class State:
    """Everything the store knows. Compare two by `tables`."""

    fetch: Callable[[str], Mapping[str, Any] | None] = lambda _: None
    seq: int = 0
    day: str = ""  # of the newest intent, UTC; principals' counters are of that day
    conversations: dict[str, Conversation] = field(default_factory=dict)
    handles: dict[str, str] = field(default_factory=dict)  # handle hash -> id, of conversations in memory
    executing: dict[str, dict[str, Any]] = field(default_factory=dict)  # call -> what its terminal record needs
    holds: Holds = field(default_factory=Holds)
    switches: dict[str, dict[str, Any]] = field(default_factory=dict)
    principals: dict[str, dict[str, int]] = field(default_factory=dict)
    dirty: set[Key] = field(default_factory=set)
    unsaved: set[str] = field(
        default_factory=set
    )  # calls that began after the last checkpoint: it need not hear of their end

    def conversation(self, name: str) -> Conversation | None:
        """A conversation by id, from memory or from the checkpoint; the implicit one is always there."""
        found = self.conversations.get(name)
        if found is None:
            stored = self.fetch(name)
            if stored is not None:
                found = conversation_from_json(stored)
                if found.registered is not None:
                    self.handles[found.registered.handle_hash] = name
            elif name == IMPLICIT:
                found = Conversation(id=IMPLICIT, untrusted=True)
            else:
                return None
            self.conversations[name] = found
        return found

    def evict(self, name: str) -> None:
        """Let a conversation leave memory. The caller has seen that the checkpoint has it as it is."""
        registered = self.conversations.pop(name).registered
        if registered is not None:
            self.handles.pop(registered.handle_hash, None)

    def conversations_of(self, record: Mapping[str, Any]) -> list[str]:
        """Conversations that applying this record will touch, so that the writer can have them loaded before it appends."""
        kind = record["kind"]
        if kind in ("intent", "terminal", "registered"):
            return [record["conversation"]] if record["conversation"] else []
        if kind == "review_requested":
            return [record["review"]["conversation"]]
        if kind == "review_resolved" and record["review"] in self.holds.all:
            return [self.holds.all[record["review"]].review.conversation]
        return []

    def apply(self, record: Mapping[str, Any]) -> None:
        """Fold in one record. Raises KeyError, TypeError, ValueError for one that is not well formed."""
        step = _STEPS.get(record["kind"])
        if step is not None:
            step(self, record)
        self.seq = record["seq"]

    def load(self, table: str, name: str, row: Mapping[str, Any]) -> None:
        """Take one row of a checkpoint. Reviews come in any order; `arrange` sorts them."""
        if table == "review":
            self.holds.take(hold_from_json(row))
        elif table == "executing":
            self.executing[name] = dict(row)
        elif table == "switch":
            self.switches[name] = dict(row)
        elif row["day"] == self.day:
            self.principals[row["principal"]] = dict(row["counters"])

    def arrange(self) -> None:
        """After the last `load`."""
        self.holds.arrange()

    def row(self, key: Key) -> Mapping[str, Any] | None:
        """An entity as a checkpoint holds it; None if it is gone."""
        table, name = key
        if table == "conversation":
            return conversation_to_json(self.conversations[name])
        if table == "review":
            return hold_to_json(self.holds.all[name]) if name in self.holds.all else None
        if table == "executing":
            return self.executing.get(name)
        if table == "switch":
            return self.switches.get(name)
        day, principal = name.split(" ", 1)
        if day != self.day:
            return None
        return {"day": day, "principal": principal, "counters": self.principals[principal]}

    def tables(self) -> dict[str, Any]:
        """All that is in memory, for comparison."""
        return {
            "day": self.day,
            "conversations": {name: conversation_to_json(c) for name, c in self.conversations.items()},
            "executing": self.executing,
            "reviews": [hold_to_json(hold) for hold in self.holds.all.values()],
            "concluded": list(self.holds.concluded),
            "by_conversation": self.holds.by_conversation,
            "by_call": self.holds.by_call,
            "switches": self.switches,
            "principals": self.principals,
        }

    # One method for each kind of record.

    def _intent(self, record: Mapping[str, Any]) -> None:
        conversation = self._conversation(record["conversation"])
        conversation.begin(record)
        principal, counters = record["principal"]["id"], dict(record["counters"])
        self._turn_to(record["day"])
        add(self.principals.setdefault(principal, {}), counters)
        self._touch_principal(principal)
        self.executing[record["call"]] = {
            "conversation": conversation.id,
            "number": record["number"],
            "tool": record["tool"],
            "digest": record["digest"],
            "principal": principal,
            "counters": counters,
            "day": self.day,
        }
        self.dirty.add(("executing", record["call"]))
        self.unsaved.add(record["call"])
        if record["review"] is not None:
            self._take(spent(self.holds.all[record["review"]], record["seq"]))

    def _terminal(self, record: Mapping[str, Any]) -> None:
        running = self.executing.pop(record["call"], None)
        if running is not None:
            self._no_longer_executing(record["call"])
            self._end(running, record)
        name = record["conversation"]
        conversation = self.conversation(name) if name else None
        if conversation is None:
            return
        conversation.numbered(record["number"])
        conversation.answered(record["digest"], record["code"], ok=bool(record["ok"]))
        self.dirty.add(("conversation", conversation.id))

    def _no_longer_executing(self, call: str) -> None:
        if call in self.unsaved:
            self.unsaved.remove(call)
            self.dirty.discard(("executing", call))
        else:
            self.dirty.add(("executing", call))

    def _end(self, running: Mapping[str, Any], record: Mapping[str, Any]) -> None:
        conversation = self._conversation(running["conversation"])
        outcome = ended_as(record)
        conversation.end(running["number"], running["tool"], outcome, ok=bool(record["ok"]))
        today = self.principals.setdefault(running["principal"], {})
        if outcome is Outcome.REFUSED:
            take_back(conversation.counters, running["counters"])
            if running["day"] == self.day:
                take_back(today, running["counters"])
        add(conversation.counters, record["counters"])
        add(today, record["counters"])
        self._touch_principal(running["principal"])

    def _registered(self, record: Mapping[str, Any]) -> None:
        conversation, registered = self._conversation(record["conversation"]), registered_from_json(record)
        if conversation.registered is not None:
            self.handles.pop(conversation.registered.handle_hash, None)
        conversation.register(registered)
        self.handles[registered.handle_hash] = conversation.id

    def _review_requested(self, record: Mapping[str, Any]) -> None:
        hold = hold_from_record(record)
        self._take(hold)
        self._conversation(hold.review.conversation).held(hold.number, hold.review.requested_at)

    def _review_attached(self, record: Mapping[str, Any]) -> None:
        hold = self.holds.all[record["review"]]
        for call in hold.attached[: -ATTACHED_CALLS + 1]:
            self.holds.by_call.pop(call, None)
        attached = (*hold.attached, record["call"])[-ATTACHED_CALLS:]
        self._take(replace(hold, attached=attached))

    def _review_resolved(self, record: Mapping[str, Any]) -> None:
        hold = resolved(self.holds.all[record["review"]], record)
        if hold.review.status is ReviewStatus.REJECTED:
            self._conversation(hold.review.conversation).rejections += 1
        self._take(hold)

    def _stop(self, record: Mapping[str, Any]) -> None:
        name = f"{record['scope']} {record['name']}"
        self.switches = switched(self.switches, record)
        self.dirty.add(("switch", name))

    def _conversation(self, name: str) -> Conversation:
        """The conversation, made if need be, about to be changed."""
        conversation = self.conversation(name)
        if conversation is None:
            conversation = self.conversations[name] = Conversation(id=name)
        self.dirty.add(("conversation", name))
        return conversation

    def _turn_to(self, day: str) -> None:
        if day > self.day:
            self.day = day
            self.principals.clear()

    def _touch_principal(self, principal: str) -> None:
        self.dirty.add(("principal", f"{self.day} {principal}"))

    def _take(self, hold: Hold) -> None:
        """Put the hold as it is now."""
        self.dirty.add(("review", hold.review.id))
        self.dirty.update(("review", gone.review.id) for gone in self.holds.take(hold))


_STEPS: Mapping[str, Callable[[State, Mapping[str, Any]], None]] = {
    "intent": State._intent,  # noqa: SLF001 - the table of its own methods
    "terminal": State._terminal,  # noqa: SLF001 - see above
    "registered": State._registered,  # noqa: SLF001 - see above
    "review_requested": State._review_requested,  # noqa: SLF001 - see above
    "review_attached": State._review_attached,  # noqa: SLF001 - see above
    "review_resolved": State._review_resolved,  # noqa: SLF001 - see above
    "stop": State._stop,  # noqa: SLF001 - see above
}
