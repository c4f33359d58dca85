"""Who waits on a review: here by futures, in other pods by a sign on the server that runs out by itself."""

from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager, suppress

from proxy.adapters.store_valkey_link import Link
from proxy.adapters.store_valkey_rows import Command
from proxy.adapters.waiters import Waiters
from proxy.errors import Refusal
from proxy.ports import Clock

LIVE_MS = 5000  # how long a pod's word counts that somebody waits


class Waiting(Waiters):
    """Callers of this pod, and what other pods are told of them."""

    def __init__(self, link: Link, clock: Clock) -> None:
        super().__init__(clock)
        self._link = link

    async def live_anywhere(self, review_ids: Collection[str]) -> set[str]:
        """Those of these on which somebody waits, in any pod. Raises Refusal state_unavailable."""
        answer = await self._link.run([], [("EXISTS", self._key(name)) for name in review_ids])
        return {name for name, there in zip(review_ids, answer.replies, strict=True) if there or name in self.live}

    def signs(self) -> list[Command]:
        """What tells other pods."""
        return [("SET", self._key(name), 1, "PX", LIVE_MS) for name in self.live]

    @asynccontextmanager
    async def alive_for_all(self, review_id: str) -> AsyncIterator[None]:
        """Say that somebody waits. Beats repeat it; it is taken back at the end, as far as possible."""
        with self.alive(review_id):
            await self._link.run([], [("SET", self._key(review_id), 1, "PX", LIVE_MS)])
            try:
                yield
            finally:
                await self._left(review_id)

    async def _left(self, review_id: str) -> None:
        if self.live[review_id] == 1:
            with suppress(Refusal):
                await self._link.run([], [("DEL", self._key(review_id))])

    def _key(self, review_id: str) -> bytes:
        return self._link.seal.name("live", review_id)
