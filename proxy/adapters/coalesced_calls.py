"""Port Calls over another: records of calls that could not even be read are coalesced (design section 15).

Whoever can reach the port can send nonsense as fast as it goes. Each is answered; but only so many a second are recorded one
by one, and the others as one record, the last of them, with a count by code. So the journal does not fill up with them.
"""

from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from proxy.core.tool import CheckedCall
from proxy.errors import Code, Refusal
from proxy.model import Caller, Facts
from proxy.ports import Calls, Clock

PER_SECOND = 50
WINDOW = 1.0  # seconds
_UNREAD = frozenset({Code.INVALID_JSON, Code.INVALID_CALL, Code.TOO_LARGE})


class CoalescedCalls:
    """Keep `watch` running, so that the count is written soon after a flood has ended."""

    def __init__(self, calls: Calls, clock: Clock) -> None:
        self._calls = calls
        self._clock = clock
        self._since = clock.monotonic()
        self._written = 0
        self._left_out: Counter[str] = Counter()
        self._last: Mapping[str, Any] = {}

    async def reserve(self, call_id: str, caller: Caller, checked: CheckedCall) -> Facts:
        """See Calls."""
        return await self._calls.reserve(call_id, caller, checked)

    def repeated(self, conversation: str, digest: str) -> int:
        """See Calls."""
        return self._calls.repeated(conversation, digest)

    async def commit(self, intent: Mapping[str, Any], *, durable: bool) -> None:
        """See Calls."""
        await self._calls.commit(intent, durable=durable)

    async def settle(self, terminal: Mapping[str, Any], *, durable: bool) -> None:
        """See Calls."""
        if terminal["principal"] is not None or terminal["code"] not in _UNREAD:
            await self._calls.settle(terminal, durable=durable)
            return
        now = self._clock.monotonic()
        if now >= self._since + WINDOW:
            await self.flush()
            self._since, self._written = now, 0
        if self._written < PER_SECOND:
            self._written += 1
            await self._calls.settle(terminal, durable=durable)
        else:
            self._left_out[str(terminal["code"])] += 1
            self._last = terminal

    async def flush(self) -> None:
        """Write the count of what was left out. Raises Refusal; the count is kept then."""
        if self._left_out:
            await self._calls.settle({**self._last, "coalesced": dict(self._left_out)}, durable=False)
            self._left_out.clear()

    async def watch(self) -> None:
        """Write the count each second, and at the end. Does not end by itself."""
        try:
            while True:
                await self._clock.sleep(WINDOW)
                with suppress(Refusal):
                    await self.flush()
        finally:
            with suppress(Refusal):
                await self.flush()
