"""Notices an OPA that runs but does not answer. Calls are refused by their deadline anyway; this ends the refusing.

It asks over a connection of its own and with more patience than a call has: an OPA that is only busy must not be ended.
"""

from collections.abc import Awaitable, Callable

from proxy.adapters.again import again_and_again
from proxy.ports import Clock

DEADLINE = 3.0  # seconds for an answer
EVERY = 1.0  # seconds between questions
PATIENCE = 3  # silences in a row


class OpaWatchdog:
    """`ask` is a query with a known answer and a deadline; `end` ends the process, so that its supervisor starts a new one
    (nothing to do for an OPA that is not ours)."""

    def __init__(self, ask: Callable[[], Awaitable[object]], end: Callable[[], None], clock: Clock) -> None:
        self.silences = 0
        self.answer: object = None  # the last one; None before the first
        self._ask = ask
        self._end = end
        self._clock = clock

    @property
    def answers(self) -> bool:
        """Whether OPA has answered one of the last questions."""
        return self.silences < PATIENCE

    async def watch(self) -> None:
        """Ask now and then. Does not end."""
        await again_and_again(self._clock, EVERY, self.look, "the watch over OPA")

    async def look(self) -> None:
        """Ask once. Whatever is no answer is silence, and raised."""
        try:
            self.answer = await self._ask()
        except Exception:
            self.silences += 1
            if self.silences % PATIENCE == 0:
                self._end()
            raise
        self.silences = 0
