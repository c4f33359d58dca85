"""All reviews of a shared store, as this pod knows them: a copy that is brought up by a counter which each change raises.

Who changes a review does it under the guard of that counter, so first answers win, approvals are spent once, and limits hold
for all pods together.
"""

import asyncio
from collections.abc import Callable
from datetime import timedelta

from proxy.adapters.store_valkey_link import Link
from proxy.adapters.store_valkey_rows import Command
from proxy.adapters.store_valkey_troubles import unavailable, why
from proxy.core.hold_rules import Hold, hold_from_json, hold_to_json
from proxy.core.holds import CONCLUDED_REVIEWS, Holds
from proxy.errors import Refusal

KEPT = timedelta(days=7)  # for late questions
_SLICE = 200


class HeldCalls(Holds):
    """Reviews by id, in the order in which they became known here."""

    def __init__(self, link: Link) -> None:
        super().__init__()
        self.seq = 0  # of the newest change that is in here
        self.unreadable: dict[
            str, str
        ] = {}  # why: reviews of a format that this version does not know; limits leave them out
        self.changed: Callable[[str], None] = lambda _: None  # told each review that has changed
        self._link = link
        self._lock = asyncio.Lock()

    async def sync(self) -> None:
        """Take in what others have changed. Costs nothing while the counter stands. Raises Refusal state_unavailable."""
        while self.seq != self._link.counter:
            async with self._lock:
                await self._sync_slice()

    async def fresh(self) -> None:
        """The same, after asking the server whether there is anything. Raises Refusal state_unavailable."""
        await self._link.run([], [])
        await self.sync()

    def writes(self, hold: Hold) -> list[Command]:
        """Commands that write a changed review as change number `seq + 1`."""
        name, seal, seq = hold.review.id, self._link.seal, self.seq + 1
        key, index = seal.name("review", name), seal.name("changes")
        row = seal.row(key, seq, hold_to_json(hold))
        kept: Command = () if hold.review.status.open else ("EX", int(KEPT.total_seconds()))
        commands: list[Command] = [("ZADD", index, seq, name), ("SET", key, row, *kept)]
        if not hold.review.status.open and len(self.concluded) >= CONCLUDED_REVIEWS:
            oldest = next(iter(self.concluded))
            commands += [("ZREM", index, oldest), ("DEL", seal.name("review", oldest))]
        return [*commands, ("SET", seal.name("reviews"), seq)]

    def written(self, hold: Hold) -> None:
        """They have been written."""
        self.seq += 1
        self._link.counter = self.seq
        self._take(hold)

    async def _sync_slice(self) -> None:
        seal, counter = self._link.seal, self._link.counter
        if counter < self.seq:
            raise unavailable("the counter of reviews has gone back")
        if counter == self.seq:
            return
        index = seal.name("changes")
        found = ("ZRANGEBYSCORE", index, f"({self.seq}", counter, "WITHSCORES", "LIMIT", 0, _SLICE)
        (flat,) = (await self._link.run([], [found])).replies
        names = [name.decode(errors="replace") for name in flat[::2]]
        keys = [seal.name("review", name) for name in names]
        rows = (await self._link.run([], [("GET", key) for key in keys])).replies if keys else []
        gone = []
        for name, key, row in zip(names, keys, rows, strict=True):
            if row is None:
                gone.append(name)
                self._lose(name)
            else:
                self._read(name, key, row)
        self.seq = counter if len(names) < _SLICE else int(flat[-1])
        if gone:
            await self._link.run([], [("ZREM", index, *gone)])

    def _read(self, name: str, key: bytes, row: bytes) -> None:
        """Take in what a row says. One that a later version has written is in nobody else's way: calls of its conversation are
        refused, since that is written with it; the others go on. Raises Refusal for one that is not ours."""
        seal = self._link.seal
        try:
            found = seal.opened(key, row)[1]
            with seal.reading(key):
                hold = hold_from_json(found)
        except Refusal as refusal:
            if not seal.ours(key, row):
                raise
            self._lose(name)
            self.unreadable[name] = why(refusal)
        else:
            self.unreadable.pop(name, None)
            self._take(hold)

    def _lose(self, name: str) -> None:
        self.unreadable.pop(name, None)
        if name in self.all:
            self.forget(name)

    def _take(self, hold: Hold) -> None:
        self.take(hold)
        self.changed(hold.review.id)
