"""What time it is for all pods of a shared store: the server's, whatever the clock of this pod says.

Otherwise a pod whose clock is ahead would end what other pods hold, before anybody could answer. But the server is only
believed so far: one whose clock stands still must not keep an approval open for days, or never let a day's counters end.
"""

import logging
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta

from proxy.adapters.seldom import Seldom
from proxy.adapters.store_valkey_troubles import unavailable
from proxy.ports import Clock

_SAME = timedelta(seconds=1)  # nearer than this, a clock is right: the round trip is in the difference
_FAR = timedelta(seconds=10)  # by so much tokens are judged wrongly, too, and somebody has to know
MOST = timedelta(minutes=10)  # a clock that is wrong by more is not followed any further
_TOLD = (
    "this pod's clock and the shared store's differ: holds go by the store's, to ten minutes off, tokens by this pod's"
)
_FIX = "set the clock of the one that is wrong"

_log = logging.getLogger("sidegate")


def server_time(reply: Sequence[bytes]) -> datetime:
    """The server's answer to TIME: seconds since 1970 and microseconds, as text. Raises Refusal state_unavailable for another."""
    try:
        seconds, microseconds = (int(part) for part in reply)
        return datetime.fromtimestamp(seconds, UTC) + timedelta(microseconds=microseconds)
    except (TypeError, ValueError, OverflowError, OSError) as error:
        raise unavailable("the server's answer to TIME is no time") from error


class StoreTime:
    """Port Clock: this pod's, its wall clock put right by what the server last said, by `MOST` at most; `read` takes the time
    from its answer."""

    def __init__(self, clock: Clock, read: Callable[[Sequence[bytes]], datetime] = server_time) -> None:
        self.own = clock
        self._read = read
        self._seldom = Seldom(clock)
        self.ahead = timedelta()  # of the server's, within MOST

    def now(self) -> datetime:
        """The server's time; where that is too far off, this pod's, moved by `MOST`."""
        return self.own.now() - self.ahead

    def monotonic(self) -> float:
        """As this pod's."""
        return self.own.monotonic()

    async def sleep(self, seconds: float) -> None:
        """As this pod's."""
        await self.own.sleep(seconds)

    def learn(self, reply: Sequence[bytes]) -> None:
        """Take what the server answered to TIME just now. Raises Refusal state_unavailable if that is no time."""
        ahead = self.own.now() - self._read(reply)
        self.ahead = timedelta() if abs(ahead) < _SAME else max(-MOST, min(ahead, MOST))
        if abs(ahead) >= _FAR and self._seldom.due("far") is not None:
            _log.warning(_TOLD, extra={"fields": {"ahead_seconds": round(ahead.total_seconds()), "fix": _FIX}})
