"""Work in the background: a time that goes wrong is not the last one, and an end is seen."""

import asyncio
import logging
import signal
from contextlib import AsyncExitStack

import pytest

from proxy.adapters.again import again_and_again, in_background
from proxy.errors import Code, Refusal
from tests.contracts.executor import SteppedClock


class Work:
    """Fails in these ways, one a time, and then is cancelled."""

    def __init__(self, *faults: Exception | None) -> None:
        self.faults = list(faults)
        self.times = 0

    async def step(self) -> None:
        self.times += 1
        if not self.faults:
            raise asyncio.CancelledError
        if (fault := self.faults.pop(0)) is not None:
            raise fault


async def test_no_fault_ends_it(caplog: pytest.LogCaptureFixture) -> None:
    """A refusal is nothing new; anything else is told, once a minute, with how often it was not."""
    refusal = Refusal(Code.STATE_UNAVAILABLE, "away")
    work, clock = Work(None, refusal, TypeError("x"), KeyError("x"), None, *[OSError("x")] * 20), SteppedClock()
    with pytest.raises(asyncio.CancelledError):
        await again_and_again(clock, 5.0, work.step, "the work")
    assert work.times == 26
    assert clock.slept == [5.0] * 26
    told = [record.__dict__["fields"] for record in caplog.records]
    assert told[0] == {"work": "the work", "times_before": 0}
    assert told[1] == {"work": "the work", "times_before": 10}
    assert len(told) == 2


async def test_a_part_that_ends_by_a_fault_ends_the_process_in_order(caplog: pytest.LogCaptureFixture) -> None:
    """Not at the stack's end only, where nobody looks any more."""
    asked = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, asked.set)

    async def broken() -> None:
        raise ValueError("broken")

    try:
        async with AsyncExitStack() as stack:
            in_background(broken(), stack)
            await asyncio.wait_for(asked.wait(), 10)
    finally:
        asyncio.get_running_loop().remove_signal_handler(signal.SIGTERM)
    assert [record.levelno for record in caplog.records] == [logging.CRITICAL]


async def test_what_goes_on_is_ended_with_the_stack(caplog: pytest.LogCaptureFixture) -> None:
    ended = asyncio.Event()

    async def lasting() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async with AsyncExitStack() as stack:
        in_background(lasting(), stack)
        await asyncio.sleep(0)
        assert not ended.is_set()
    assert ended.is_set()
    assert not caplog.records
