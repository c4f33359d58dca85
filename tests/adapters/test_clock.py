"""The real clock."""

from datetime import UTC, datetime, timedelta

from proxy.adapters.clock import SystemClock


async def test_the_clock_is_utc_goes_forward_and_sleeps() -> None:
    clock = SystemClock()
    assert clock.now().tzinfo is UTC
    assert abs(clock.now() - datetime.now(UTC)) < timedelta(minutes=1)
    before = clock.monotonic()
    await clock.sleep(0.001)
    assert clock.monotonic() - before >= 0.001
