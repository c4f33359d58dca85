"""Who waits on a review in this process, by futures; the same for every store."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime

from proxy.ports import Clock


class Waiters:
    """Callers that wait, or are about to. Use within one event loop."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.live: dict[str, int] = {}  # review -> callers that will run the call
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

    async def changed(self, review_id: str, seconds: float, deadline: datetime) -> None:
        """Return when it is no longer pending, when `deadline` has come, or after `seconds`."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._futures.setdefault(review_id, set()).add(future)
        timer = asyncio.create_task(self._ring(future, seconds, deadline))
        try:
            await future
        finally:
            timer.cancel()
            self._futures[review_id].discard(future)
            if not self._futures[review_id]:
                del self._futures[review_id]

    @contextmanager
    def alive(self, review_id: str) -> Iterator[None]:
        """Count a caller as long as this lasts."""
        self.live[review_id] = self.live.get(review_id, 0) + 1
        try:
            yield
        finally:
            self.live[review_id] -= 1
            if not self.live[review_id]:
                del self.live[review_id]

    async def _ring(self, future: "asyncio.Future[None]", seconds: float, deadline: datetime) -> None:
        """A timer runs on another clock than a deadline and may ring before it: whoever woke then would find it pending."""
        ends = self._clock.monotonic() + seconds
        while (left := min(ends - self._clock.monotonic(), (deadline - self._clock.now()).total_seconds())) > 0:
            await self._clock.sleep(left)
        if not future.done():
            future.set_result(None)
