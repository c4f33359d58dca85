"""Who waits on a review: here by futures, in other pods by a sign on the server that runs out by itself."""

import asyncio
from collections.abc import AsyncIterator, Collection, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress

from proxy.adapters.store_valkey_link import Link
from proxy.adapters.store_valkey_rows import Command
from proxy.errors import Refusal
from proxy.ports import Clock

LIVE_MS = 5000  # how long a pod's word counts that somebody waits


class Waiting:
    """Callers of this pod that wait, or are about to."""

    def __init__(self, link: Link, clock: Clock) -> None:
        self._link = link
        self._clock = clock
        self._live: dict[str, int] = {}  # review -> callers
        self._futures: dict[str, set[asyncio.Future[None]]] = {}
        self.released = False

    def release_all(self) -> None:
        """The process ends: let all go."""
        self.released = True
        for name in list(self._futures):
            self.wake(name)

    def wake(self, review_id: str) -> None:
        """It is no longer pending."""
        for future in self._futures.get(review_id, ()):
            if not future.done():
                future.set_result(None)

    async def changed(self, review_id: str, seconds: float) -> None:
        """Return when it is no longer pending, or after `seconds` of the clock."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._futures.setdefault(review_id, set()).add(future)
        timer = asyncio.create_task(self._ring(future, seconds))
        try:
            await future
        finally:
            timer.cancel()
            self._futures[review_id].discard(future)
            if not self._futures[review_id]:
                del self._futures[review_id]

    async def live(self, review_ids: Collection[str]) -> set[str]:
        """Those of these on which somebody waits, in any pod. Raises Refusal state_unavailable."""
        answer = await self._link.run([], [("EXISTS", self._key(name)) for name in review_ids])
        return {name for name, there in zip(review_ids, answer.replies, strict=True) if there or name in self._live}

    def signs(self) -> list[Command]:
        """What tells other pods."""
        return [("SET", self._key(name), 1, "PX", LIVE_MS) for name in self._live]

    @asynccontextmanager
    async def alive(self, review_id: str) -> AsyncIterator[None]:
        """Say that somebody waits. Beats repeat it; it is taken back at the end, as far as possible."""
        with self.counted(review_id):
            await self._link.run([], [("SET", self._key(review_id), 1, "PX", LIVE_MS)])
            try:
                yield
            finally:
                await self._left(review_id)

    async def _left(self, review_id: str) -> None:
        if self._live[review_id] == 1:
            with suppress(Refusal):
                await self._link.run([], [("DEL", self._key(review_id))])

    @contextmanager
    def counted(self, review_id: str) -> Iterator[None]:
        """The same, within this pod."""
        self._live[review_id] = self._live.get(review_id, 0) + 1
        try:
            yield
        finally:
            self._live[review_id] -= 1
            if not self._live[review_id]:
                del self._live[review_id]

    def _key(self, review_id: str) -> bytes:
        return self._link.seal.name("live", review_id)

    async def _ring(self, future: "asyncio.Future[None]", seconds: float) -> None:
        await self._clock.sleep(max(0.0, seconds))
        if not future.done():
            future.set_result(None)
