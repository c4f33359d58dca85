"""Who waits on a review: woken by its end, by the clock, or by the end of the process."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from proxy.adapters.waiters import Waiters
from tests.contracts.executor import SteppedClock

LATER = datetime(2100, 1, 1, tzinfo=UTC)


class Still(SteppedClock):
    """Time that passes only when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.rung = asyncio.Event()

    async def sleep(self, seconds: float) -> None:
        await self.rung.wait()
        await super().sleep(seconds)


class Hasty(SteppedClock):
    """Its timers ring a millisecond too early, as a loop's may."""

    async def sleep(self, seconds: float) -> None:
        await super().sleep(max(seconds - 0.001, 0.000_1))


async def waiting(waiters: Waiters) -> "asyncio.Task[None]":
    task = asyncio.create_task(waiters.changed("r", 5.0, LATER))
    await asyncio.sleep(0)
    assert not task.done()
    return task


async def test_its_end_wakes_those_who_wait_on_it_and_no_others() -> None:
    waiters = Waiters(Still())
    task = await waiting(waiters)
    waiters.wake("other")
    assert not task.done()
    waiters.wake("r")
    await asyncio.wait_for(task, 5)


async def test_the_clock_ends_the_wait() -> None:
    clock = Still()
    task = await waiting(Waiters(clock))
    clock.rung.set()
    await asyncio.wait_for(task, 5)


@pytest.mark.parametrize(("seconds", "deadline"), [(5.0, 9.0), (9.0, 5.0)], ids=["patience", "deadline"])
async def test_a_timer_that_rings_too_early_ends_no_wait(seconds: float, deadline: float) -> None:
    clock = Hasty()
    began, due = clock.seconds, clock.now() + timedelta(seconds=deadline)
    await asyncio.wait_for(Waiters(clock).changed("r", seconds, due), 5)
    assert clock.seconds - began >= seconds or clock.now() >= due


async def test_the_end_of_the_process_lets_all_go() -> None:
    waiters = Waiters(Still())
    tasks = [await waiting(waiters), await waiting(waiters)]
    waiters.release_all()
    await asyncio.wait_for(asyncio.gather(*tasks), 5)
    assert waiters.released


def test_callers_are_counted_as_long_as_they_are_there() -> None:
    waiters = Waiters(Still())
    with waiters.alive("r"):
        with pytest.raises(ValueError, match="gone"), waiters.alive("r"):
            raise ValueError("gone")
        assert waiters.live == {"r": 1}
    assert waiters.live == {}
