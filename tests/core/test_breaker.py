"""The circuit breaker of one upstream."""

from proxy.core.breaker import FAILURES, OPEN_SECONDS, Breaker, Pass


def leave(breaker: Breaker, now: float) -> Pass:
    given = breaker.admit(now)
    assert given is not None
    return given


def attempt(breaker: Breaker, now: float, healthy: bool | None) -> None:
    breaker.settle(leave(breaker, now), now, healthy)


def opened(now: float = 0.0) -> Breaker:
    breaker = Breaker()
    for _ in range(FAILURES):
        attempt(breaker, now, healthy=False)
    return breaker


def test_five_failures_in_a_row_open_it_for_ten_seconds() -> None:
    breaker = Breaker()
    for _ in range(4):
        attempt(breaker, 0.0, healthy=False)
    assert breaker.admit(0.0) == Pass(probe=False)
    attempt(breaker, 1.0, healthy=False)
    assert breaker.admit(1.0) is None
    assert breaker.wait(4.0) == 7.0
    assert breaker.admit(10.99) is None
    assert breaker.admit(11.0) == Pass(probe=True)


def test_a_success_in_between_starts_the_count_again() -> None:
    breaker = Breaker()
    for healthy in [False] * 4 + [True] + [False] * 4:
        attempt(breaker, 0.0, healthy=healthy)
    assert breaker.admit(0.0) is not None


def test_what_says_nothing_about_the_upstream_changes_nothing() -> None:
    breaker = Breaker()
    for healthy in [False] * 4 + [None] * 9:
        attempt(breaker, 0.0, healthy=healthy)
    assert breaker.admit(0.0) is not None
    attempt(breaker, 0.0, healthy=False)
    assert breaker.admit(0.0) is None


def test_half_open_lets_one_probe_through_at_a_time() -> None:
    breaker = opened()
    probe = leave(breaker, OPEN_SECONDS)
    assert breaker.admit(OPEN_SECONDS) is None
    assert breaker.admit(OPEN_SECONDS + 1000) is None
    breaker.settle(probe, OPEN_SECONDS, healthy=True)
    assert [breaker.admit(OPEN_SECONDS), breaker.admit(OPEN_SECONDS)] == [Pass(probe=False)] * 2


def test_a_failed_probe_opens_it_again_at_once() -> None:
    breaker = opened()
    attempt(breaker, 12.0, healthy=False)
    assert breaker.admit(21.9) is None
    assert breaker.admit(22.0) == Pass(probe=True)


def test_an_abandoned_probe_makes_room_for_the_next() -> None:
    breaker = opened()
    attempt(breaker, 12.0, healthy=None)
    assert breaker.admit(12.0) == Pass(probe=True)


def test_after_a_good_probe_the_count_starts_at_zero() -> None:
    breaker = opened()
    attempt(breaker, 12.0, healthy=True)
    for _ in range(4):
        attempt(breaker, 12.0, healthy=False)
    assert breaker.admit(12.0) is not None


def test_attempts_begun_before_it_opened_are_old_news() -> None:
    breaker = Breaker()
    old = [leave(breaker, 0.0) for _ in range(3)]
    for _ in range(FAILURES):
        attempt(breaker, 0.0, healthy=False)
    breaker.settle(old[0], 1.0, healthy=True)
    assert breaker.admit(1.0) is None
    breaker.settle(old[1], 9.0, healthy=False)
    probe = leave(breaker, 10.0)
    breaker.settle(old[2], 10.0, healthy=None)
    assert breaker.admit(10.0) is None
    breaker.settle(probe, 10.0, healthy=True)
    assert breaker.admit(10.0) is not None


def test_there_is_nothing_to_wait_for_while_it_is_closed() -> None:
    assert Breaker().wait(5.0) == 0.0
    assert opened().wait(99.0) == 0.0
