"""Policies on trial (mode `shadow`): asked once a call has concluded, so they can neither fail nor slow it (design section 10).

What they say is a record of its own, found by call and trace: the call's terminal record is written before its agent sees
anything, and to wait for a policy on trial there would slow the call.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from proxy.adapters.seldom import Seldom
from proxy.core.review import Review
from proxy.core.trail import Trail
from proxy.errors import Refusal
from proxy.model import Answer, Presented, SpanContext, ToolCall, UnreadableCall
from proxy.ports import Clock, Span, Telemetry

WAITING_BYTES = 4 << 20  # of input documents; a call more is not tried, and counted
HEAD_START = 0.005  # seconds in which an answer leaves before OPA gets more to do
OF_NOBODY = 16  # of whoever reaches the port: no more of their calls wait to be tried
CLOSING_SECONDS = 1.0  # at most, for what still waits at the end

_log = logging.getLogger(__name__)


class Shadow(Protocol):
    """What is on trial."""

    async def shadow(self, document: bytes, trace: SpanContext) -> Mapping[str, Any]:
        """What policies on trial would have said, by policy. Raises Refusal."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class _Concluded:
    """A call that has been decided and has ended. `begin`: when it may be tried, by the monotonic clock."""

    record: Mapping[str, Any]
    document: bytes
    trace: SpanContext
    begin: float


class Trials:
    """Port Telemetry around another: what has concluded is put to the policies on trial, one call at a time.

    `on_trial` says whether any policy is; `note` writes what they would have said. `left_out` counts calls of which nothing
    could be said: their records know it, too.
    """

    def __init__(
        self,
        telemetry: Telemetry,
        shadow: Shadow,
        on_trial: Callable[[], bool],
        note: Callable[[Mapping[str, Any]], object],
        clock: Clock,
    ) -> None:
        self.left_out = 0
        self._telemetry = telemetry
        self._shadow = shadow
        self._on_trial = on_trial
        self._note = note
        self._clock = clock
        self._seldom = Seldom(clock)
        self._waiting: asyncio.Queue[_Concluded] = asyncio.Queue()
        self._bytes = 0

    def begin(self, call: ToolCall | UnreadableCall, presented: Presented) -> Span:
        """As the inner telemetry."""
        return self._telemetry.begin(call, presented)

    def held(self, trail: Trail, review: Review) -> None:
        """As the inner telemetry."""
        self._telemetry.held(trail, review)

    def resolved(self, trail: Trail, review: Review) -> None:
        """As the inner telemetry."""
        self._telemetry.resolved(trail, review)

    def conclude(self, span: Span, trail: Trail, answer: Answer) -> None:
        """As the inner telemetry; a call that policy has decided is tried from now on."""
        self._telemetry.conclude(span, trail, answer)
        if trail.document is None or trail.decision is None or not self._on_trial():
            return
        known = trail.caller is not None and trail.caller.registered
        if self._bytes + len(trail.document) > WAITING_BYTES or not (known or self._waiting.qsize() < OF_NOBODY):
            self._leave_out("too many calls wait to be tried")
            return
        self._bytes += len(trail.document)
        begin = self._clock.monotonic() + HEAD_START
        concluded = _Concluded(record=_about(trail), document=trail.document, trace=trail.trace, begin=begin)
        self._waiting.put_nowait(concluded)

    async def run(self) -> None:
        """Try one call after the other. Does not end."""
        while True:
            concluded = await self._waiting.get()
            try:
                if (early := concluded.begin - self._clock.monotonic()) > 0:
                    await self._clock.sleep(early)
                await self._try(concluded)
            except Exception as fault:  # noqa: BLE001 - whatever breaks in a trial, the next is tried
                self._leave_out(fault.code if isinstance(fault, Refusal) else type(fault).__name__)
            finally:
                self._bytes -= len(concluded.document)
                self._waiting.task_done()

    async def finish(self) -> None:
        """Let what waits be tried, for a moment; what is left then is left out."""
        try:
            async with asyncio.timeout(CLOSING_SECONDS):
                await self._waiting.join()
        except TimeoutError:
            self.left_out += self._waiting.qsize() + 1
            _log.warning("calls were not put to the policies on trial", extra={"fields": {"left_out": self.left_out}})

    async def _try(self, concluded: _Concluded) -> None:
        try:
            said = await self._shadow.shadow(concluded.document, concluded.trace)
        except Refusal as refusal:
            said = {"fault": refusal.details or refusal.code}
        said = {policy: what for policy, what in said.items() if _something(what)}
        if not said:
            return
        missing = {"left_out": self.left_out} if self.left_out else {}
        self._note({**concluded.record, "said": said, **missing})

    def _leave_out(self, why: str) -> None:
        self.left_out += 1
        if self._seldom.due("left out") is not None:
            fields = {"why": why, "left_out": self.left_out}
            _log.warning("a call was not put to the policies on trial", extra={"fields": fields})


def _about(trail: Trail) -> Mapping[str, Any]:
    return {
        "kind": "trial",
        "call": trail.call_id,
        "conversation": None if trail.caller is None else trail.caller.conversation,
        "tool": None if trail.checked is None else trail.checked.tool.name,
        "trace": trail.trace.trace_id,
    }


def _something(said: Any) -> bool:
    return any(said.values()) if isinstance(said, Mapping) else bool(said)
