"""Durations as people write them."""

import re

MAX_SECONDS = 366 * 86400.0
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


def seconds(given: str) -> float:
    """A duration such as `250ms`, `3s`, `15m`, `12h` in seconds, at most a year. Raises ValueError."""
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h)", given)
    if match is None:
        raise ValueError(f"{given!r} is not a duration such as 250ms, 3s, 15m or 12h")
    found = float(match[1]) * _UNITS[match[2]]
    if found > MAX_SECONDS:
        raise ValueError(f"{given[:40]!r} is longer than a year")
    return found
