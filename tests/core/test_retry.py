"""When a request may be sent again, and after how long."""

import pytest

from proxy.core.retry import delays, may_retry


def test_delays_double_up_to_two_seconds() -> None:
    assert list(delays(7, lambda: 1.0)) == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0])


def test_chance_decides_over_the_upper_half() -> None:
    assert list(delays(3, lambda: 0.0)) == pytest.approx([0.05, 0.1, 0.2])
    chances = iter([0.5, 0.0])
    assert list(delays(2, lambda: next(chances))) == pytest.approx([0.075, 0.1])


def test_no_retries_no_delays() -> None:
    assert list(delays(0, lambda: 0.0)) == []


@pytest.mark.parametrize(
    ("sent", "idempotent", "allowed"),
    [(False, False, True), (False, True, True), (True, True, True), (True, False, False)],
)
def test_after_the_first_byte_only_idempotent_tools_are_repeated(
    *, sent: bool, idempotent: bool, allowed: bool
) -> None:
    assert may_retry(sent=sent, idempotent=idempotent, delay=0.1, remaining=1.0) is allowed


def test_no_attempt_begins_at_or_after_the_deadline() -> None:
    assert not may_retry(sent=False, idempotent=True, delay=0.1, remaining=0.1)
    assert may_retry(sent=False, idempotent=True, delay=0.1, remaining=0.11)
