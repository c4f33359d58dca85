"""Port Calls of the shared store: numbers, facts, intents and ends of calls, each in one round trip.

What a pod has under way stands in the hash `calls:POD`, too, so that whoever comes after it can end it. That hash is not sealed:
the conversation's row, which is, says whose a call is.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from proxy.adapters.journal import Journal
from proxy.adapters.store_valkey_ends import ends_of
from proxy.adapters.store_valkey_fold import counted, intent, recovered, terminal
from proxy.adapters.store_valkey_holds import HeldCalls
from proxy.adapters.store_valkey_link import Link
from proxy.adapters.store_valkey_rows import Command
from proxy.adapters.store_valkey_talks import Draft, Talk, Talks
from proxy.adapters.store_valkey_tallies import CALLS, Changes, Counts, added, together
from proxy.adapters.store_valkey_troubles import unavailable
from proxy.core.hold_rules import deadline, refuse_spending
from proxy.core.limits import refuse_stopped
from proxy.core.registry import Registered
from proxy.core.reservation import Reservation, facts_below, new_reservation, of_caller
from proxy.core.stops import stopped_by
from proxy.core.tool import CheckedCall
from proxy.errors import Refusal
from proxy.model import Caller, Facts
from proxy.ports import Clock

_REMEMBERED_ENDS = 10_000
_REMEMBERED_FAULTS = 10_000


class SharedCalls:
    """A call begins at the server first and ends in this pod's journal first: wherever a pod dies in between, what it leaves at
    the server brings whoever starts after it to the end that its journal has, or to none."""

    def __init__(
        self,
        *,
        link: Link,
        talks: Talks,
        holds: HeldCalls,
        journal: Journal,
        directory: Path,
        clock: Clock,
        pod: str,
    ) -> None:
        self._link = link
        self._talks = talks
        self._holds = holds
        self._journal = journal
        self._directory = directory
        self._clock = clock
        self._pod = pod
        self._own = link.seal.name("calls", pod)
        self._numbers: dict[str, int] = {}  # of calls that this process has reserved
        self._ended: OrderedDict[str, None] = OrderedDict()
        self._unsettled: OrderedDict[str, _End] = OrderedDict()  # ends that the server has not acknowledged

    async def reserve(self, call_id: str, caller: Caller, checked: CheckedCall) -> Facts:
        """Take the next number and the facts below it. A call that reserves again moves to the end and sees all till then."""
        whose = (self._day(), caller.principal.id)
        own: list[Reservation] = []
        known: list[Registered | None] = []  # at the first try
        found: list[Talk] = []

        def step(talk: Talk) -> Draft:
            conversation = of_caller(talk.conversation, caller)
            known.append(conversation.registered)
            if len(known) > 1 and known[0] != known[-1]:
                raise unavailable("the conversation was registered anew meanwhile")  # this caller is of before
            earlier = self.released(talk, call_id)
            conversation.handed = number = max(conversation.handed, conversation.last) + 1
            own[:], found[:] = [new_reservation(call_id, caller, checked, number)], [talk]
            talk.reserved[call_id] = (self._pod, whose[0], own[0])
            commands: list[Command] = [("HSET", self._own, call_id, caller.conversation)]
            return Draft(commands=commands, counts=together(earlier, {whose: {CALLS: 1}}), tell=whose)

        answer = await self._talks.change(caller.conversation, step, see=True)
        # Nothing else has run since the step was written: what is in memory is what stands below this number.
        facts = self._facts(own[0], found[0], answer.tally)
        if call_id not in self._numbers:
            self._journal.enter()
        self._numbers[call_id] = facts.seq
        refuse_stopped(stopped_by(self._link.switches, caller, checked))
        return facts

    async def commit(self, intent_record: Mapping[str, Any], *, durable: bool) -> None:
        """Write the intent of a reserved call and spend its approval, if it has one: from here on it counts for good."""
        record = {**intent_record, "day": self._day()}
        call, review = record["call"], record["review"]
        if self._numbers.get(call) != record["number"]:
            raise RuntimeError(f"call {call} is committed without its reservation")

        def step(talk: Talk) -> Draft:
            _, _, own = talk.reserved.get(call, (None, None, None))
            if own is None or own.number != record["number"]:
                raise unavailable("the reservation of this call was ended by another pod")  # that took us for dead
            hold = None
            if review is not None:
                hold = self._holds.all.get(review)
                refuse_spending(hold, record, own.entry, talk.conversation, self._clock.now())
            released = self.released(talk, call)
            state, spent = intent(record, talk, hold, pod=self._pod, seq=self._holds.seq + 1)
            counters = counted(state, {}, record["principal"]["id"], record["day"])
            return Draft(counts=together(released, counters), hold=spent)

        await self._talks.change(record["conversation"], step, reviews=review is not None)
        self._numbers[call] = 0  # committed, and in flight
        seq = self._journal.append(record)
        if durable:
            await self._journal.flushed(seq)

    async def settle(self, terminal_record: Mapping[str, Any], *, durable: bool) -> None:
        """Write the one terminal record, in the journal whatever the server says. What the server has not heard it is told
        later, and the result is withheld; a record of kind `unheard` says so."""
        call = terminal_record["call"]
        if call in self._ended:
            raise RuntimeError(f"call {call} is settled twice")
        try:
            try:
                seq = self._journal.append(terminal_record)
                self._remember(call)
            finally:
                fault = await self._settled_at_server(terminal_record)
            if fault is not None:
                self._journal.append({"kind": "unheard", "call": call, "code": str(fault.code)})
            if durable:
                await self._journal.flushed(seq)
        finally:
            self.leave(call)
        if fault is not None:
            raise fault

    def repeated(self, conversation: str, digest: str) -> int:
        """How often in a row this very call was refused or failed, as of the last look at the conversation."""
        found = self._talks.known(conversation)
        return 0 if found is None else found.failures.get(digest, 0)

    async def settle_late(self) -> None:
        """Tell the server of ends that it has not heard of. Raises Refusal while it still cannot be told."""

        async def tell(call: str) -> None:
            if (end := self._unsettled.get(call)) is not None:
                await self._end(end)
                self._unsettled.pop(call, None)

        await self._link.each(list(self._unsettled), tell)

    async def recover(self) -> int:
        """End the calls that were executing when the process before this one died, those that it had taken over, too. Returns
        how many; call it before serving. A call whose conversation cannot be read stays. Raises Refusal."""
        calls, count = await self.calls_of(self._pod), 0
        left: dict[str, Mapping[str, Any] | None] = {}  # what was executing; None: reserved, or ended

        async def look(call: str) -> None:
            running = (await self._talks.read(calls[call])).executing.get(call)
            left[call] = running if running is not None and running["pod"] == self._pod else None

        async def end(call: str) -> None:
            nonlocal count
            record, running = said.get(call), left[call]
            if new := record is None and running is not None:
                record = recovered(call, running)
                await self._journal.flushed(self._journal.append(record))
            await self.end_left(call, calls[call], record)
            count += new

        await self._link.each_there(calls, look)
        executing = {call for call, running in left.items() if running is not None}
        said = await asyncio.to_thread(ends_of, self._directory, executing)
        await self._link.each_there(left, end)
        return count

    async def end_left(self, call: str, conversation: str, record: Mapping[str, Any] | None) -> None:
        """End a call that is this pod's and that no process of it is in: by `record`, else by not knowing."""

        def step(talk: Talk) -> Draft:
            if not talk.version:
                return Draft(nothing=True)  # the list of calls is not sealed: nobody has ever been in there
            counts: Changes = {}
            running, reserved = talk.executing.get(call), talk.reserved.get(call)
            if running is not None and running["pod"] == self._pod:
                counts = self._ending(talk, record or recovered(call, running))
            elif reserved is not None and reserved[0] == self._pod:
                counts = self.released(talk, call)
            return Draft(commands=[("HDEL", self._own, call)], counts=counts)

        await self._talks.change(conversation, step)

    async def calls_of(self, pod: str) -> Mapping[str, str]:
        """Calls that a pod has not ended: call -> conversation."""
        (flat,) = (await self._link.run([], [("HGETALL", self._link.seal.name("calls", pod))])).replies
        words = [word.decode(errors="replace") for word in flat]
        return dict(zip(words[::2], words[1::2], strict=True))

    def leave(self, call: str) -> None:
        """A call has ended, or is held."""
        if self._numbers.pop(call, None) is not None:
            self._journal.leave()

    def released(self, talk: Talk, call: str) -> Changes:
        """Take a reservation out of the conversation; what that changes for its principal."""
        _, day, own = talk.reserved.pop(call, (None, "", None))
        return {} if own is None else {(day, own.principal): {CALLS: -1}}

    async def _settled_at_server(self, record: Mapping[str, Any]) -> Refusal | None:
        if not _matters(record):
            return None
        end = _End(record)
        try:
            await self._end(end)
        except Refusal as fault:
            self._unsettled[record["call"]] = end
            if len(self._unsettled) > _REMEMBERED_FAULTS:
                self._unsettled.popitem(last=False)
            return fault
        return None

    async def _end(self, end: "_End") -> None:
        record, call = end.record, end.record["call"]

        def step(talk: Talk) -> Draft:
            there = call in talk.reserved or call in talk.executing
            if (end.doubtful and not there) or (not talk.version and not talk.reserved):
                return Draft(nothing=True)  # heard, or never heard of
            return Draft(commands=[("HDEL", self._own, call)], counts=self._ending(talk, record))

        try:
            await self._talks.change(record["conversation"], step)
        except Refusal:
            end.doubtful = True
            raise

    def _ending(self, talk: Talk, record: Mapping[str, Any]) -> Changes:
        released = self.released(talk, record["call"])
        running, day = talk.executing.get(record["call"]), self._day()
        state = terminal(record, talk, day=day)
        if running is None:
            return released
        return together(released, counted(state, running["counters"], running["principal"], day))

    def _facts(self, own: Reservation, talk: Talk, tally: Counts) -> Facts:
        now = self._clock.now()
        return facts_below(
            own,
            talk.conversation,
            lower=[other for _, _, other in talk.reserved.values() if other.call != own.call],
            holds=[
                hold
                for hold in self._holds.of_conversation(own.conversation)
                if hold.review.status.open and now < deadline(hold.review)
            ],
            today={name: value for name, value in added(tally, {CALLS: -1}).items() if value > 0},  # without its own
            reserved_today=0,  # they are counted among the others
        )

    def _day(self) -> str:
        return self._clock.now().date().isoformat()

    def _remember(self, call: str) -> None:
        self._ended[call] = None
        if len(self._ended) > _REMEMBERED_ENDS:
            self._ended.popitem(last=False)


@dataclass(slots=True)
class _End:
    """A terminal record. `doubtful`: it was said, and nobody knows whether the server has heard: it has if the call is gone. An
    end that leaves no trace but a count of failures is then not said again."""

    record: Mapping[str, Any]
    doubtful: bool = False


def _matters(record: Mapping[str, Any]) -> bool:
    """Whether the end of a call can change anything: it had a number, or counts as a failure."""
    return bool(record["conversation"]) and (record["number"] is not None or record["digest"] is not None)
