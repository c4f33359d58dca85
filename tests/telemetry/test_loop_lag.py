"""How late the event loop is."""

import asyncio
import contextlib

import pytest

from proxy.telemetry.loop_lag import EVERY, LoopLag


class LateClock:
    """Each sleep takes so much longer than asked; then there are no more."""

    def __init__(self, *late: float) -> None:
        self.seconds = 100.0
        self._late = iter(late)

    def now(self) -> None:
        raise NotImplementedError

    def monotonic(self) -> float:
        return self.seconds

    async def sleep(self, seconds: float) -> None:
        late = next(self._late, None)
        if late is None:
            raise asyncio.CancelledError
        self.seconds += seconds + late


async def test_what_a_sleep_took_longer_is_observed() -> None:
    """A clock that was early counts as in time."""
    seen: list[float] = []
    with contextlib.suppress(asyncio.CancelledError):
        await LoopLag(LateClock(0.25, 0.0, -EVERY / 2), seen.append).watch()  # type: ignore[arg-type]  # `now` is never asked
    assert seen == pytest.approx([0.25, 0.0, 0.0])
