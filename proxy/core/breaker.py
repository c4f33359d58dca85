"""Circuit breaker of one upstream: after failures in a row nothing is sent for a while, then one probe decides.

Pure: time is given in (seconds that never go back). Connect failures, timeouts and 5xx answers are failures; the caller says so.
"""

from dataclasses import dataclass

FAILURES = 5
OPEN_SECONDS = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Pass:
    """Leave for one attempt. It is given back by `settle`, whichever way the attempt ends."""

    probe: bool


class Breaker:
    """Closed; open for 10 s after five failures in a row; then half-open: one attempt at a time may try."""

    def __init__(self) -> None:
        self._failures = 0
        self._open_until: float | None = None
        self._probing = False

    def admit(self, now: float) -> Pass | None:
        """Leave for one attempt, or None: nothing may be sent."""
        if self._open_until is None:
            return Pass(probe=False)
        if now < self._open_until or self._probing:
            return None
        self._probing = True
        return Pass(probe=True)

    def settle(self, given: Pass, now: float, healthy: bool | None) -> None:
        """How the attempt ended: well, badly, or (None) in a way that says nothing about the upstream."""
        if given.probe:
            self._probing = False
        elif self._open_until is not None:
            return  # begun before it opened: old news
        if healthy is False:
            self._failures += 1
            if self._failures >= FAILURES:
                self._open_until = now + OPEN_SECONDS
        elif healthy:
            self._failures = 0
            self._open_until = None

    def wait(self, now: float) -> float:
        """Seconds until it is worth trying again."""
        return max(0.0, (self._open_until or now) - now)
