"""Whose turn it is in one conversation."""

import asyncio
from collections import deque


class Turn:
    """One at a time, in the order of asking: as `asyncio.Lock`, where one that is free costs no coroutine (three a call).

    Who finds it `taken` awaits `wait`, who finds it free sets `taken`; both `leave`.
    """

    __slots__ = ("_waiting", "taken")

    def __init__(self) -> None:
        self.taken = False
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def wait(self) -> None:
        """Until everybody before has left."""
        future = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        try:
            await future
        except BaseException:
            if future.done() and not future.cancelled():  # it was given the turn, and cannot take it
                self.leave()
            raise

    def leave(self) -> None:
        """Hand it to the next who still waits, or leave it free."""
        while self._waiting:
            future = self._waiting.popleft()
            if not future.done():
                future.set_result(None)
                return
        self.taken = False
