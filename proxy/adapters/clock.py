"""The real time."""

import asyncio
import functools
import time
from datetime import UTC, datetime


class SystemClock:
    """Port Clock on the machine's clocks. A call asks it two dozen times, so the clocks' own functions stand in it."""

    now = staticmethod(functools.partial(datetime.now, UTC))
    monotonic = staticmethod(time.monotonic)

    async def sleep(self, seconds: float) -> None:
        """Sleep on the event loop."""
        await asyncio.sleep(seconds)
