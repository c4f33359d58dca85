"""Durations as people write them."""

import pytest

from proxy.core.duration import seconds


@pytest.mark.parametrize(
    ("text", "value"), [("250ms", 0.25), ("3s", 3.0), ("1.5m", 90.0), ("12h", 43200.0), ("0s", 0.0)]
)
def test_read(text: str, value: float) -> None:
    """In seconds, whatever the unit."""
    assert seconds(text) == value


@pytest.mark.parametrize("text", ["3", "s", "-1s", "3 s", "3S", "3d", "1e3s", ".5s", "3sx", "3s\n", "\u0663s", ""])
def test_not_a_duration(text: str) -> None:
    """Said with an example."""
    with pytest.raises(ValueError, match="is not a duration such as"):
        seconds(text)


@pytest.mark.parametrize("text", ["8785h", "9" * 400 + "h"])
def test_longer_than_a_year(text: str) -> None:
    """Nobody means that."""
    with pytest.raises(ValueError, match="longer than a year"):
        seconds(text)
