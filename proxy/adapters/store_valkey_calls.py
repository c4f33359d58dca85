"""Port Calls of the shared store: numbers, facts, intents and ends of calls, each in one round trip.

What a pod has under way stands in the hash `calls:POD`, too, so that whoever comes after it can end it. That hash is not sealed:
the conversation's row, which is, says whose a call is.
"""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from proxy.adapters.journal import Journal
from proxy.adapters.journal_reader import read
from proxy.adapters.store_valkey_connection import unavailable
from proxy.adapters.store_valkey_fold import COUNTERS_KEPT, counted, counters_key, intent, terminal
from proxy.adapters.store_valkey_holds import HeldCalls
from proxy.adapters.store_valkey_link import Link
from proxy.adapters.store_valkey_rows import Command
from proxy.adapters.store_valkey_talks import Draft, Talk, Talks
from proxy.core.hold_rules import deadline, refuse_spending
from proxy.core.limits import refuse_stopped
from proxy.core.registry import Registered
from proxy.core.reservation import Reservation, facts_below, new_reservation, of_caller
from proxy.core.state_records import recovered_record
from proxy.core.stops import stopped_by
from proxy.core.tool import CheckedCall
from proxy.errors import Refusal
from proxy.model import Caller, Facts
from proxy.ports import Clock

_REMEMBERED_ENDS = 10_000
_REMEMBERED_FAULTS = 10_000


class SharedCalls:
    """The server first, the journal of this pod right after it."""

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
        self._unsettled: OrderedDict[str, Mapping[str, Any]] = OrderedDict()  # ends that the server has not heard of

    async def reserve(self, call_id: str, caller: Caller, checked: CheckedCall) -> Facts:
        """Take the next number and the facts below it. A call that reserves again moves to the end and sees all till then."""
        day, principal = self._day(), counters_key(self._link.seal, self._day(), caller.principal.id)
        own: list[Reservation] = []
        known: list[Registered | None] = []
        found: list[Talk] = []

        def step(talk: Talk) -> Draft:
            conversation = of_caller(talk.conversation, caller)
            known.append(conversation.registered)
            if known[0] != known[-1]:
                raise unavailable("the conversation was registered anew meanwhile")  # this caller is of before
            earlier = self.released(talk, call_id)
            conversation.handed = number = max(conversation.handed, conversation.last) + 1
            own[:], found[:] = [new_reservation(call_id, caller, checked, number)], [talk]
            talk.reserved[call_id] = (self._pod, day, own[0])
            commands: list[Command] = [
                ("HSET", self._own, call_id, caller.conversation),
                ("HSET", principal, f"r:{call_id}", 1),
                ("EXPIRE", principal, COUNTERS_KEPT),
                ("HGETALL", principal),
            ]
            return Draft(commands=[*earlier, *commands])

        answer = await self._talks.change(caller.conversation, step, see=True)
        # Nothing else has run since the step was written: what is in memory is what stands below this number.
        facts = self._facts(own[0], found[0], answer.replies)
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
            principal = record["principal"]["id"]
            counters = counted(state, {}, principal, record["day"], self._link.seal)
            return Draft(commands=[*released, *counters], hold=spent)

        await self._talks.change(record["conversation"], step, reviews=review is not None)
        self._numbers[call] = 0  # committed, and in flight
        seq = self._journal.append(record)
        if durable:
            await self._journal.flushed(seq)

    async def settle(self, terminal_record: Mapping[str, Any], *, durable: bool) -> None:
        """Write the one terminal record, in the journal whatever the server says. What the server has not heard it is told
        later, and the result is withheld."""
        call = terminal_record["call"]
        if call in self._ended:
            raise RuntimeError(f"call {call} is settled twice")
        try:
            fault = await self._settled_at_server(terminal_record)
            unheard = {} if fault is None else {"unheard": str(fault.code)}
            seq = self._journal.append({**terminal_record, **unheard})
            self._remember(call)
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
        while self._unsettled:
            call, record = next(iter(self._unsettled.items()))
            await self._end(record)
            self._unsettled.pop(call, None)

    async def recover(self) -> int:
        """End the calls that were executing when the process before this one died. Returns how many; call it before serving."""
        calls = await self.calls_of(self._pod)
        said = (
            {r["call"]: r for r in read(self._directory) if r["kind"] == "terminal" and r["call"] in calls}
            if calls
            else {}
        )
        count = 0
        for call, conversation in calls.items():
            record = said.get(call)
            running = (await self._talks.read(conversation)).executing.get(call)
            if record is None and running is not None and running["pod"] == self._pod:
                record = recovered_record(call, running)
                await self._journal.flushed(self._journal.append(record))
                count += 1
            await self._ended_for(self._pod, call, conversation, record)
        return count

    async def take_over(self, pod: str) -> int:
        """End the calls of a pod that is gone; returns how many it had left executing. One of those who try ends each."""
        count = 0
        for call, conversation in (await self.calls_of(pod)).items():
            running = await self._ended_for(pod, call, conversation, None)
            if running is not None:
                self._journal.append({**recovered_record(call, running), "pod": pod})
                count += 1
        return count

    async def _ended_for(
        self, pod: str, call: str, conversation: str, record: Mapping[str, Any] | None
    ) -> Mapping[str, Any] | None:
        """End a call of `pod` by `record`, else by not knowing. Returns what was executing, None if it was not."""
        left: list[Mapping[str, Any]] = []

        def step(talk: Talk) -> Draft:
            left.clear()
            commands: list[Command] = [("HDEL", self._link.seal.name("calls", pod), call)]
            running, reserved = talk.executing.get(call), talk.reserved.get(call)
            if running is not None and running["pod"] == pod:
                left.append(running)
                commands += self._ending(talk, record or recovered_record(call, running))
            elif reserved is not None and reserved[0] == pod:
                commands += self.released(talk, call)
            return Draft(commands=commands)

        await self._talks.change(conversation, step)
        return left[0] if left else None

    async def calls_of(self, pod: str) -> Mapping[str, str]:
        """Calls that a pod has not ended: call -> conversation."""
        (flat,) = (await self._link.run([], [("HGETALL", self._link.seal.name("calls", pod))])).replies
        return {call.decode(): name.decode() for call, name in zip(flat[::2], flat[1::2], strict=True)}

    def leave(self, call: str) -> None:
        """A call has ended, or is held."""
        if self._numbers.pop(call, None) is not None:
            self._journal.leave()

    def released(self, talk: Talk, call: str) -> list[Command]:
        """Take a reservation out of the conversation; the command that takes it from its principal."""
        _, day, own = talk.reserved.pop(call, (None, "", None))
        return [] if own is None else [("HDEL", counters_key(self._link.seal, day, own.principal), f"r:{call}")]

    async def _settled_at_server(self, record: Mapping[str, Any]) -> Refusal | None:
        if not _matters(record):
            return None
        try:
            await self._end(record)
        except Refusal as fault:
            self._unsettled[record["call"]] = record
            if len(self._unsettled) > _REMEMBERED_FAULTS:
                self._unsettled.popitem(last=False)
            return fault
        return None

    async def _end(self, record: Mapping[str, Any]) -> None:
        def step(talk: Talk) -> Draft:
            if not talk.version and not talk.reserved:
                return Draft(nothing=True)  # never heard of
            return Draft(commands=[*self._ending(talk, record), ("HDEL", self._own, record["call"])])

        await self._talks.change(record["conversation"], step)

    def _ending(self, talk: Talk, record: Mapping[str, Any]) -> list[Command]:
        released = self.released(talk, record["call"])
        running = talk.executing.get(record["call"])
        state = terminal(record, talk, day=self._day())
        if running is None:
            return released
        principal = running["principal"]
        return [*released, *counted(state, running["counters"], principal, self._day(), self._link.seal)]

    def _facts(self, own: Reservation, talk: Talk, replies: Sequence[Any]) -> Facts:
        fields = dict(zip(replies[-2][::2], replies[-2][1::2], strict=True))
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
            today={n[2:].decode(): int(v) for n, v in fields.items() if n.startswith(b"c:") and int(v) > 0},
            reserved_today=sum(n.startswith(b"r:") and n != b"r:" + own.call.encode() for n in fields),
        )

    def _day(self) -> str:
        return self._clock.now().date().isoformat()

    def _remember(self, call: str) -> None:
        self._ended[call] = None
        if len(self._ended) > _REMEMBERED_ENDS:
            self._ended.popitem(last=False)


def _matters(record: Mapping[str, Any]) -> bool:
    """Whether the end of a call can change anything: it had a number, or counts as a failure."""
    return bool(record["conversation"]) and (record["number"] is not None or record["digest"] is not None)
