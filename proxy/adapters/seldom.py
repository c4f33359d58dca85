"""Warnings that would come in floods."""

from proxy.ports import Clock


class Seldom:
    """Lets one of many equal warnings through per `seconds`, and counts the others."""

    def __init__(self, clock: Clock, seconds: float = 60.0) -> None:
        self._clock = clock
        self._seconds = seconds
        self._next: dict[str, float] = {}
        self._held_back: dict[str, int] = {}

    def due(self, key: str) -> int | None:
        """How many were held back since the last one, if this one is to be logged; None if it is not. Keys are constants."""
        now = self._clock.monotonic()
        if now < self._next.get(key, now):
            self._held_back[key] = self._held_back.get(key, 0) + 1
            return None
        self._next[key] = now + self._seconds
        return self._held_back.pop(key, 0)
