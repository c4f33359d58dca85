"""A pod's clock, put right by the shared store's."""

import logging
from datetime import timedelta
from pathlib import Path

import pytest

from proxy.adapters.store_valkey_time import StoreTime
from proxy.core.review import ReviewStatus
from proxy.errors import Code
from tests.adapters.journal_disk import StillClock
from tests.adapters.valkey_rig import pods_on_server
from tests.contracts.store_kit import ManualClock, hold, refusing, register
from tests.contracts.store_values import checked, tool

PRICES = tool("get_prices", system="pricing", labels=["prices"], trusted=False)


def said(clock: StillClock, ahead: float) -> list[bytes]:
    """What a server answers to TIME whose clock this pod's is so far ahead of."""
    seconds = clock.now().timestamp() - ahead
    return [b"%d" % int(seconds), b"%d" % round(seconds % 1 * 1e6)]


@pytest.mark.parametrize("ahead", [600.0, -600.0, 1.5, -1.5])
def test_the_time_is_the_servers(ahead: float) -> None:
    """Also between two answers."""
    clock = StillClock()
    time = StoreTime(clock)
    time.learn(said(clock, ahead))
    assert clock.now() - time.now() == timedelta(seconds=ahead)
    clock.seconds += 5
    assert clock.now() - time.now() == timedelta(seconds=ahead)
    time.learn(said(clock, 0))
    assert time.now() == clock.now()


@pytest.mark.parametrize("ahead", [0.0, 0.9, -0.9])
def test_what_a_round_trip_may_take_is_no_difference(ahead: float) -> None:
    clock = StillClock()
    time = StoreTime(clock)
    time.learn(said(clock, ahead))
    assert time.now() == clock.now()


def test_a_clock_that_is_far_off_is_told_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    """By how much, and what to do."""
    clock = StillClock()
    time = StoreTime(clock)
    with caplog.at_level(logging.WARNING):
        for _ in range(5):
            time.learn(said(clock, 600))
            clock.seconds += 10
        assert [record.__dict__["fields"]["ahead_seconds"] for record in caplog.records] == [600]
        clock.seconds += 60
        time.learn(said(clock, -20))
        assert [record.__dict__["fields"]["ahead_seconds"] for record in caplog.records] == [600, -20]
    caplog.clear()
    clock.seconds += 60
    time.learn(said(clock, 9))
    assert caplog.records == []


async def test_a_pod_whose_clock_is_ahead_ends_nobodys_hold(tmp_path: Path) -> None:
    """Two hours ahead: what another pod holds for an hour stays open, can be answered through it, and ends in its time."""
    fast = ManualClock()
    fast.advance(7200)
    async with pods_on_server(tmp_path) as pods, pods.pod("a") as a, pods.pod("fast", clock=fast) as ahead:
        one, other = [await hold(a, await register(a), checked(PRICES)) for _ in range(2)]
        assert await ahead.reviews.expire() == 0
        assert (
            await ahead.reviews.resolve(one.id, ReviewStatus.APPROVED, "rita", None)
        ).status is ReviewStatus.APPROVED
        assert [found.status for found in await a.reviews.find(review_id=other.id)] == [ReviewStatus.PENDING]
        for clock in (pods.clock, fast):
            clock.advance(3600)
        assert await ahead.reviews.expire() == 2
        assert pods.records("fast", kind="review_resolved")[-1]["resolved_at"] == "2026-11-25T13:00:00+00:00"


async def test_a_pod_whose_clock_is_behind_answers_nothing_too_late(tmp_path: Path) -> None:
    """A yes after the deadline is refused as it is in every other pod."""
    async with pods_on_server(tmp_path) as pods, pods.pod("a") as a, pods.pod("slow", clock=ManualClock()) as behind:
        asked = await hold(a, await register(a), checked(PRICES))
        pods.clock.advance(3601)
        await behind.pods.beat()
        with refusing(Code.REVIEW_EXPIRED):
            await behind.reviews.resolve(asked.id, ReviewStatus.APPROVED, "rita", None)


async def test_what_a_pod_asks_whose_clock_is_off_ends_when_it_should(tmp_path: Path) -> None:
    """By the store's time, so many seconds after it was asked."""
    fast = ManualClock()
    fast.advance(600)
    async with pods_on_server(tmp_path) as pods, pods.pod("a") as a, pods.pod("fast", clock=fast) as ahead:
        who, now = await register(ahead), fast.now()
        asked = await hold(ahead, who, checked(PRICES), requested_at=now, expires_at=now + timedelta(minutes=5))
        (found,) = await a.reviews.find(review_id=asked.id)
        assert (found.requested_at, found.expires_at) == (pods.clock.now(), pods.clock.now() + timedelta(minutes=5))
