"""A pod's clock, put right by the shared store's."""

import logging
import math
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from proxy.adapters.store_valkey_time import StoreTime
from proxy.core.review import ReviewStatus
from proxy.errors import Code
from tests.adapters.journal_disk import StillClock
from tests.adapters.valkey_rig import pods_on_server
from tests.contracts.store_kit import ManualClock, hold, refusing, register, run
from tests.contracts.store_values import checked, fresh, tool

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


@pytest.mark.parametrize("ahead", [601.0, -601.0, 1e6, -1e6])
def test_a_server_that_is_more_than_ten_minutes_off_is_followed_for_ten(
    ahead: float, caplog: pytest.LogCaptureFixture
) -> None:
    """How far off it says is logged."""
    clock = StillClock()
    time = StoreTime(clock)
    time.learn(said(clock, ahead))
    assert clock.now() - time.now() == timedelta(seconds=math.copysign(600, ahead))
    assert [record.__dict__["fields"]["ahead_seconds"] for record in caplog.records] == [ahead]


@pytest.mark.parametrize(
    "reply",
    [[], [b"1"], [b"x", b"0"], [b"1", b"2", b"3"], [b"9" * 14, b"0"], [b"9" * 30, b"0"], [b"1", b"9" * 30], 1, None],
)
def test_an_odd_answer_to_time_is_refused_and_changes_nothing(reply: Any) -> None:
    clock = StillClock()
    time = StoreTime(clock)
    time.learn(said(clock, 60))
    with refusing(Code.STATE_UNAVAILABLE):
        time.learn(reply)
    assert clock.now() - time.now() == timedelta(seconds=60)


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
    """Ten minutes ahead: what another pod holds for five stays open, can be answered through it, and ends in its time."""
    fast = ManualClock()
    fast.advance(600)
    async with pods_on_server(tmp_path) as pods, pods.pod("a") as a, pods.pod("fast", clock=fast) as ahead:
        end = pods.clock.now() + timedelta(minutes=5)
        one, other = [await hold(a, await register(a), checked(PRICES), expires_at=end) for _ in range(2)]
        assert await ahead.reviews.expire() == 0
        assert (
            await ahead.reviews.resolve(one.id, ReviewStatus.APPROVED, "rita", None)
        ).status is ReviewStatus.APPROVED
        assert [found.status for found in await a.reviews.find(review_id=other.id)] == [ReviewStatus.PENDING]
        for clock in (pods.clock, fast):
            clock.advance(300)
        assert await ahead.reviews.expire() == 2
        assert pods.records("fast", kind="review_resolved")[-1]["resolved_at"] == "2026-11-25T12:05:00+00:00"


async def test_a_pod_whose_clock_is_behind_answers_nothing_too_late(tmp_path: Path) -> None:
    """A yes after the deadline is refused as it is in every other pod."""
    async with pods_on_server(tmp_path) as pods, pods.pod("a") as a, pods.pod("slow", clock=ManualClock()) as behind:
        end = pods.clock.now() + timedelta(minutes=5)
        asked = await hold(a, await register(a), checked(PRICES), expires_at=end)
        pods.clock.advance(301)
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


async def test_a_server_whose_clock_stands_still_keeps_no_approval_open_and_no_day(tmp_path: Path) -> None:
    """Ten minutes after its end an approval is over; and a day's counters begin anew when the day does."""
    own, what = ManualClock(), checked(PRICES)
    async with pods_on_server(tmp_path) as pods, pods.pod(clock=own) as store:
        who = await register(store)
        asked = await hold(store, who, what)
        await store.reviews.resolve(asked.id, ReviewStatus.APPROVED, "rita", None)
        await run(store, await register(store), what)
        for seconds in (3600, 12 * 3600):
            own.advance(seconds)
            await store.pods.beat()
        assert [found.status for found in await store.reviews.find(review_id=asked.id)] == [ReviewStatus.EXPIRED]
        facts = await store.calls.reserve(fresh("call"), who, what)
        assert facts.history.principal_counters == {}


async def test_a_server_whose_clock_jumps_a_day_on_begins_no_day(tmp_path: Path) -> None:
    """Who has used up a budget does not get another one by it."""
    own, what = ManualClock(), checked(PRICES)
    async with pods_on_server(tmp_path) as pods, pods.pod(clock=own) as store:
        who = await register(store)
        await run(store, who, what)
        pods.clock.advance(86400)
        await store.pods.beat()
        facts = await store.calls.reserve(fresh("call"), who, what)
        assert facts.history.principal_counters == {"calls": 1}


async def test_reviews_are_as_old_as_the_stores_clock_says(tmp_path: Path) -> None:
    """The clock by which they were asked for."""
    own = ManualClock()
    own.advance(-60)
    async with pods_on_server(tmp_path) as pods, pods.pod(clock=own) as store:
        assert store.now() == pods.clock.now()
