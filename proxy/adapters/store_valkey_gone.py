"""What a pod that is gone has left at the shared store: whoever sees that first takes it over, and then ends it as its own.

Two steps, because the journal is written in between: what was executing first becomes this pod's, then its journal has the end,
then the server hears of it. So a lost answer, a full journal or a kill -9 leaves a call that a later look or start still finds.
"""

import logging
from collections import Counter
from dataclasses import dataclass

from proxy.adapters.journal import Journal
from proxy.adapters.store_valkey_calls import SharedCalls
from proxy.adapters.store_valkey_fold import recovered
from proxy.adapters.store_valkey_link import Link
from proxy.adapters.store_valkey_rows import Command
from proxy.adapters.store_valkey_talks import Draft, Talk, Talks, implicit_of
from proxy.adapters.store_valkey_tallies import Changes
from proxy.core.conversation import IMPLICIT

_log = logging.getLogger("sidegate")


@dataclass(slots=True, kw_only=True)
class _Adopted:
    """A call that was another pod's; `seq` is that of its end in this pod's journal, once it is there."""

    conversation: str
    seq: int | None = None


class Gone:
    """Takes over and ends. What it has not brought to an end when the process dies, `SharedCalls.recover` does."""

    def __init__(self, *, link: Link, talks: Talks, calls: SharedCalls, journal: Journal, pod: str) -> None:
        self._link = link
        self._talks = talks
        self._calls = calls
        self._journal = journal
        self._pod = pod
        self._adopted: dict[str, _Adopted] = {}

    async def take_over(self, pod: str) -> None:
        """Make what a pod has executing this pod's, and take its reservations back. Raises Refusal."""
        calls = await self._calls.calls_of(pod)

        async def adopt(call: str) -> None:
            conversation = implicit_of(pod) if calls[call] == IMPLICIT else calls[call]
            await self._talks.change(conversation, lambda talk: self._adopt(pod, call, conversation, talk))

        await self._link.each(calls, adopt)

    def _adopt(self, pod: str, call: str, conversation: str, talk: Talk) -> Draft:
        if not talk.version:
            return Draft(nothing=True)  # the list of calls is not sealed: nobody has ever been in there
        commands: list[Command] = [("HDEL", self._link.seal.name("calls", pod), call)]
        counts: Changes = {}
        running, reserved = talk.executing.get(call), talk.reserved.get(call)
        if running is not None and running["pod"] == pod:
            talk.executing[call] = {**running, "pod": self._pod, "of": running.get("of", pod)}
            commands.append(("HSET", self._link.seal.name("calls", self._pod), call, conversation))
            self._adopted.setdefault(call, _Adopted(conversation=conversation))  # also if the answer gets lost
        elif reserved is not None and reserved[0] == pod:
            counts = self._calls.released(talk, call)
        return Draft(commands=commands, counts=counts)

    async def end_adopted(self) -> int:
        """End what was taken over, in the journal first; returns how many ends that has got. Raises Refusal."""
        ended: Counter[str] = Counter()

        async def end(call: str) -> None:
            if (adopted := self._adopted.get(call)) is None:
                return
            running = (await self._talks.read(adopted.conversation)).executing.get(call)
            if running is not None and running["pod"] == self._pod:
                if adopted.seq is None:
                    adopted.seq = self._journal.append(recovered(call, running))
                    ended[running["of"]] += 1
                await self._journal.flushed(adopted.seq)
            await self._calls.end_left(call, adopted.conversation, None)
            self._adopted.pop(call, None)

        try:
            await self._link.each(list(self._adopted), end)
        finally:
            for pod, count in ended.items():
                fields = {"pod": pod, "calls": count}
                _log.warning("calls of a pod that is gone were executing", extra={"fields": fields})
        return ended.total()
