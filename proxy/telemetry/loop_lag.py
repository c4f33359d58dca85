"""How late the event loop is: what every call and every probe of this process waits on top."""

from collections.abc import Callable

from proxy.ports import Clock

EVERY = 1.0  # seconds between looks


class LoopLag:
    """`observe` gets the seconds by which each sleep ended late."""

    def __init__(self, clock: Clock, observe: Callable[[float], None]) -> None:
        self._clock = clock
        self._observe = observe

    async def watch(self) -> None:
        """Look every second. Does not end."""
        while True:
            asked = self._clock.monotonic()
            await self._clock.sleep(EVERY)
            self._observe(max(0.0, self._clock.monotonic() - asked - EVERY))
