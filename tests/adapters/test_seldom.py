"""Equal warnings, one a minute."""

from proxy.adapters.seldom import Seldom
from tests.contracts.executor import SteppedClock


def test_repeated_warnings_are_let_through_once_a_minute() -> None:
    """Each kind by itself, and the next one says how many were held back."""
    clock = SteppedClock()
    seldom = Seldom(clock)
    assert [seldom.due("a") for _ in range(4)] == [0, None, None, None]
    assert seldom.due("b") == 0
    clock.seconds += 59
    assert seldom.due("a") is None
    clock.seconds += 1
    assert [seldom.due("a"), seldom.due("a")] == [4, None]
