"""Conversations of the shared store: read, changed by core's own fold, and written back if nobody was faster.

A conversation's row holds, beside what the embedded store keeps of it, the reservations and the executing calls in it, each
with its pod. So one guarded write takes a number and everything below it, whichever pods serve the conversation.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import orjson

from proxy.adapters.store_valkey_holds import HeldCalls
from proxy.adapters.store_valkey_link import Answer, Link
from proxy.adapters.store_valkey_rows import Command
from proxy.adapters.store_valkey_shown import ShownCalls, read_calls
from proxy.adapters.store_valkey_tallies import Changes, Tallies, Whose
from proxy.adapters.store_valkey_troubles import unavailable
from proxy.adapters.store_valkey_turn import Turn
from proxy.core.conversation import IMPLICIT, Conversation, conversation_from_json, conversation_to_json
from proxy.core.hold_rules import Hold
from proxy.core.registry import Registered
from proxy.core.reservation import SHOWN_CALLS, Reservation
from proxy.core.state_json import registered_from_json, registered_to_json
from proxy.ports import Clock

TRIES = 50  # each loses to somebody who has come further
FRESH = 1.0  # seconds for which a registration is taken from memory; whoever reserves on an old one is refused
IMPLICIT_SECONDS = 7 * 86400  # until what a pod did for nobody is forgotten
_EVICTIONS = 8


@dataclass(slots=True, kw_only=True)
class Talk:
    """A conversation, as it is at `version` (0: not there yet). Reserved calls: (pod, day, reservation)."""

    key: bytes
    version: int
    conversation: Conversation
    reserved: dict[str, tuple[str, str, Reservation]] = field(default_factory=dict)
    executing: dict[str, dict[str, Any]] = field(default_factory=dict)  # as in State, and `pod`
    # What most writes leave as it was, and its JSON.
    registered_as: tuple[Registered | None, orjson.Fragment | None] = (None, None)
    shown: ShownCalls = field(default_factory=ShownCalls)

    def document(self) -> dict[str, Any]:
        """The row's value."""
        c = self.conversation
        del c.calls[:-SHOWN_CALLS]  # facts tell of no more, and each step writes them anew
        if self.registered_as[0] is not c.registered and c.registered is not None:
            self.registered_as = (c.registered, orjson.Fragment(orjson.dumps(registered_to_json(c.registered))))
        return {
            "conversation": conversation_to_json(
                c, registered=self.registered_as[1], calls=self.shown.written(c.calls)
            ),
            "handed": c.handed,
            "reserved": self.reserved,
            "executing": self.executing,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """What one step writes beside the conversation: a review that it has changed, counts of principals, further commands. Or
    `nothing`. `tell`: whose counts it wants to know afterwards."""

    commands: Sequence[Command] = ()
    counts: Changes = field(default_factory=dict)
    tell: Whose | None = None
    hold: Hold | None = None
    nothing: bool = False


@dataclass(slots=True)
class _Slot:
    """One conversation in memory, and whose turn it is. `seen` is the highest version that was ever read here, `at` when it
    was last known to be the newest."""

    turn: Turn = field(default_factory=Turn)
    talk: Talk | None = None
    seen: int = 0
    at: float = 0.0


class Talks:
    """Changes in one conversation take turns within a pod, and compete between pods."""

    def __init__(self, link: Link, holds: HeldCalls, clock: Clock, pod: str, in_memory: int) -> None:
        self._link = link
        self._holds = holds
        self._clock = clock
        self._pod = pod
        self._tallies = Tallies(link.seal, pod)
        self._most = in_memory
        self._slots: dict[str, _Slot] = {}

    @property
    def in_memory(self) -> int:
        """How many conversations are."""
        return len(self._slots)

    def known(self, name: str) -> Conversation | None:
        """As it was last seen."""
        slot = self._slots.get(name)
        return None if slot is None or slot.talk is None else slot.talk.conversation

    async def registered(self, name: str) -> Registered | None:
        """What is registered, as of a moment ago. Raises Refusal state_unavailable."""
        slot = self._slot(name)
        if slot.talk is not None and self._clock.monotonic() < slot.at + FRESH:
            return slot.talk.conversation.registered
        if not slot.turn.taken:
            return (await self.read(name)).conversation.registered
        answer = await self._link.run([(self._key(name), "~0")], [])
        row = answer.rows[0]
        if not row:
            return self._opened(name, slot, row).conversation.registered
        found = self._link.seal.opened(self._key(name), row, least=slot.seen)[1]["conversation"]["registered"]
        return None if found is None else registered_from_json(found)

    async def read(self, name: str) -> Talk:
        """As it is now, to look at; a blank one of version 0 if there is none. Raises Refusal state_unavailable."""
        slot = self._slot(name)
        if slot.turn.taken:  # what is in memory is being changed: take what is written
            answer = await self._link.run([(self._key(name), "~0")], [])
            return self._opened(name, slot, answer.rows[0])
        slot.turn.taken = True
        try:
            return await self._refreshed(name, slot)
        finally:
            slot.turn.leave()

    async def change(
        self, name: str, step: Callable[[Talk], Draft], *, reviews: bool = False, see: bool = False
    ) -> Answer:
        """Take one step, again and again until nobody has been faster. `step` gets the conversation (a blank one of version 0
        if there is none) to change it in place; what it raises leaves nothing behind. `reviews`: it looks at reviews, too.
        `see`: know all reviews when it is done. Raises Refusal state_unavailable."""
        slot = self._slot(name)
        if slot.turn.taken:
            await slot.turn.wait()
        slot.turn.taken = True
        try:
            answer = await self._tried(name, slot, step, reviews=reviews)
            if see and self._holds.seq != self._link.counter:
                await self._holds.sync()
        except BaseException:
            slot.talk = None  # perhaps changed, perhaps written: nobody here knows
            raise
        finally:
            slot.turn.leave()
        return answer

    async def _tried(self, name: str, slot: _Slot, step: Callable[[Talk], Draft], *, reviews: bool) -> Answer:
        talk = slot.talk or await self._refreshed(name, slot)
        for _ in range(TRIES):
            if reviews:
                await self._holds.sync()
            counter = self._holds.seq if reviews else None
            draft = step(talk)
            if draft.nothing:
                return Answer(done=True, rows=(), replies=())
            shares = self._tallies.write(draft.counts, draft.tell)
            changed = () if draft.hold is None else self._holds.writes(draft.hold)
            commands = (*shares.commands, *draft.commands, *changed, self._write(name, talk))
            answer = await self._link.run([(talk.key, str(talk.version)), *shares.guards], commands, counter=counter)
            if answer.done:
                answer.tally = shares.done(answer.replies)
                talk.version, slot.at = talk.version + 1, self._clock.monotonic()
                slot.seen = 0 if name.startswith(IMPLICIT) else talk.version
                if draft.hold is not None:
                    self._holds.written(draft.hold)
                return answer
            shares.failed(answer.rows[1:])
            slot.talk = None
            talk = self._opened(name, slot, answer.rows[0]) if answer.rows[0] else await self._refreshed(name, slot)
            slot.talk = talk
        raise unavailable("too many pods change one conversation at once")

    async def _refreshed(self, name: str, slot: _Slot) -> Talk:
        known = slot.talk
        answer = await self._link.run([(self._key(name), f"~{known.version if known else 0}")], [])
        if known is None or answer.rows[0] != b"":
            slot.talk = known = self._opened(name, slot, answer.rows[0])
        slot.at = self._clock.monotonic()
        return known

    def _opened(self, name: str, slot: _Slot, row: bytes | None) -> Talk:
        """What a row says, or a blank one if there is no row. Raises Refusal state_unavailable for an odd one."""
        key = self._key(name)
        if not row:
            if slot.seen:
                raise self._link.seal.gone(key)
            return Talk(key=key, version=0, conversation=Conversation(id=name, untrusted=name.startswith(IMPLICIT)))
        version, body = self._link.seal.opened(key, row, least=slot.seen)
        slot.seen = 0 if name.startswith(IMPLICIT) else version
        with self._link.seal.reading(key):
            return _talk(key, version, body)

    def _write(self, name: str, talk: Talk) -> Command:
        row = self._link.seal.row(talk.key, talk.version + 1, talk.document())
        kept: Command = ("EX", IMPLICIT_SECONDS) if name.startswith(IMPLICIT) else ()
        return ("SET", talk.key, row, *kept)

    def _key(self, name: str) -> bytes:
        return self._link.seal.name("talk", implicit_of(self._pod) if name == IMPLICIT else name)

    def _slot(self, name: str) -> _Slot:
        """The slot, the last to leave memory now; idle ones leave when there are too many."""
        slot = self._slots.pop(name, None) or _Slot()
        self._slots[name] = slot
        over = len(self._slots) - self._most
        if over > 0:
            for other in list(islice(self._slots, min(over, _EVICTIONS))):
                if other != name and not self._slots[other].turn.taken:
                    del self._slots[other]
        return slot


def implicit_of(pod: str) -> str:
    """The name of the conversation in which a pod does what nobody has registered; in that pod it is IMPLICIT."""
    return f"{IMPLICIT} {pod}"


def _talk(key: bytes, version: int, body: Mapping[str, Any]) -> Talk:
    """What `Talk.document` has written. Raises KeyError, ValueError, TypeError and their like."""
    conversation = conversation_from_json({**body["conversation"], "calls": read_calls(body["conversation"]["calls"])})
    conversation.handed = body["handed"]
    reserved = {
        call: (pod, day, Reservation(**{**own, "labels": tuple(own["labels"]), "marks": tuple(own["marks"])}))
        for call, (pod, day, own) in body["reserved"].items()
    }
    return Talk(key=key, version=version, conversation=conversation, reserved=reserved, executing=body["executing"])
