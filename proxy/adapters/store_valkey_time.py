"""What time it is for all pods of a shared store: the server's, whatever the clock of this pod says.

Otherwise a pod whose clock is ahead would end what other pods hold, before anybody could answer.
"""

import logging
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta

from proxy.adapters.seldom import Seldom
from proxy.ports import Clock

_SAME = timedelta(seconds=1)  # nearer than this, a clock is right: the round trip is in the difference
_FAR = timedelta(seconds=10)  # by so much tokens are judged wrongly, too, and somebody has to know
_TOLD = "this pod's clock and the shared store's differ: holds go by the store's, tokens by this pod's"
_FIX = "set the clock of the one that is wrong"

_log = logging.getLogger("sidegate")


def server_time(reply: Sequence[bytes]) -> datetime:
    """The server's answer to TIME: seconds since 1970 and microseconds, as text."""
    seconds, microseconds = (int(part) for part in reply)
    return datetime.fromtimestamp(seconds, UTC) + timedelta(microseconds=microseconds)


class StoreTime:
    """Port Clock: this pod's, its wall clock put right by what the server last said; `read` takes the time from its answer."""

    def __init__(self, clock: Clock, read: Callable[[Sequence[bytes]], datetime] = server_time) -> None:
        self.own = clock
        self._read = read
        self._seldom = Seldom(clock)
        self.ahead = timedelta()  # of the server's

    def now(self) -> datetime:
        """The server's time."""
        return self.own.now() - self.ahead

    def monotonic(self) -> float:
        """As this pod's."""
        return self.own.monotonic()

    async def sleep(self, seconds: float) -> None:
        """As this pod's."""
        await self.own.sleep(seconds)

    def learn(self, reply: Sequence[bytes]) -> None:
        """Take what the server answered to TIME just now."""
        ahead = self.own.now() - self._read(reply)
        self.ahead = timedelta() if abs(ahead) < _SAME else ahead
        if abs(ahead) >= _FAR and self._seldom.due("far") is not None:
            _log.warning(_TOLD, extra={"fields": {"ahead_seconds": round(ahead.total_seconds()), "fix": _FIX}})
