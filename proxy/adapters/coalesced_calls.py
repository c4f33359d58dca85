"""Port Calls over another: records of what anybody can send are coalesced (design section 15).

Whoever can reach the port can send nonsense, and calls of nobody, as fast as it goes. Each is answered; but only so many a
second are recorded one by one and whole, and the others as one record, the last of them, with a count by code. Those that
took a number are recorded without what was asked. So the journal does not fill up with them.
"""

from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from proxy.adapters.again import again_and_again
from proxy.core.identity import ANONYMOUS
from proxy.core.tool import CheckedCall
from proxy.earlier import Outcome
from proxy.errors import Code, Ran, Refusal
from proxy.model import Caller, Facts
from proxy.ports import Calls, Clock

PER_SECOND = 50
WINDOW = 1.0  # seconds
# Refused before we looked who it is: it may be a user's, if it was read at all.
_ANYBODYS = frozenset({Code.OVERLOADED, Code.INTERNAL_ERROR})


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
        if not _of_nobody(terminal):
            await self._calls.settle(terminal, durable=durable)
            return
        now = self._clock.monotonic()
        if now >= self._since + WINDOW:
            await self.flush()
            self._since, self._written = now, 0
        if self._written < PER_SECOND:
            self._written += 1
            await self._calls.settle(terminal, durable=durable)
        elif terminal["number"] is None:
            self._left_out[str(terminal["code"])] += 1
            self._last = terminal
        else:  # it has a number that only its record gives back
            await self._calls.settle(_shortened(terminal), durable=durable)

    async def flush(self) -> None:
        """Write the count of what was left out. Raises Refusal; the count is kept then."""
        if not self._left_out:
            return
        left, self._left_out = self._left_out, Counter()  # what comes meanwhile is counted anew
        try:
            # It stands for no call: without a digest no state hangs on it, and it may be written again after a fault.
            await self._calls.settle({**self._last, "digest": None, "coalesced": dict(left)}, durable=False)
        except BaseException:
            self._left_out += left
            raise

    async def watch(self) -> None:
        """Write the count each second, and at the end. Does not end by itself."""
        try:
            await again_and_again(self._clock, WINDOW, self.flush, "counts of calls of nobody")
        finally:
            with suppress(Refusal):
                await self.flush()


def _of_nobody(terminal: Mapping[str, Any]) -> bool:
    """Whether a call was refused to somebody who is not known, or before anybody was: what whoever reaches the port can send."""
    principal = terminal["principal"]
    refused = terminal["outcome"] == Outcome.REFUSED and terminal["ran"] == Ran.NO
    if principal is None:
        return refused and (terminal["code"] not in _ANYBODYS or not terminal.get("asked_tool"))
    return bool(refused and principal["id"] == ANONYMOUS.id)


def _shortened(terminal: Mapping[str, Any]) -> dict[str, Any]:
    """Without what makes a record long: what was asked. It is marked, since it cannot be replayed."""
    record = {key: value for key, value in terminal.items() if key not in ("input", "arguments", "decision")}
    if (decision := terminal.get("decision")) is not None:
        record["decision"] = {key: decision[key] for key in ("effect", "guards", "reasons", "policy")}
    return record | {"shortened": True}
