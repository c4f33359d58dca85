"""Policies on trial (mode `shadow`): asked beside the call, so that they can neither fail nor slow it (design section 10)."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import orjson

from proxy.errors import Refusal
from proxy.model import Decision, SpanContext
from proxy.ports import Policy

AT_ONCE = 4  # trials under way; a call more is not tried, and counted


class Shadow(Protocol):
    """What is on trial."""

    async def shadow(self, document: bytes, trace: SpanContext) -> Mapping[str, Any]:
        """What policies on trial would have said, by policy. Raises Refusal."""
        ...


class TrialPolicy:
    """Port Policy around another. `on_trial` says whether any policy is; `note` writes what they would have said."""

    def __init__(
        self,
        policy: Policy,
        shadow: Shadow,
        on_trial: Callable[[], bool],
        note: Callable[[Mapping[str, Any]], object],
    ) -> None:
        self.left_out = 0
        self._policy = policy
        self._shadow = shadow
        self._on_trial = on_trial
        self._note = note
        self._trials: set[asyncio.Task[None]] = set()

    async def decide(self, document: bytes, trace: SpanContext) -> Decision:
        """As the inner policy."""
        decision = await self._policy.decide(document, trace)
        if self._on_trial():
            self._begin(document, trace)
        return decision

    async def visible(self, document: bytes, trace: SpanContext | None) -> frozenset[str]:
        """As the inner policy."""
        return await self._policy.visible(document, trace)

    async def finish(self) -> None:
        """Wait for trials under way: each is bounded by OPA's deadline."""
        await asyncio.gather(*self._trials, return_exceptions=True)

    def _begin(self, document: bytes, trace: SpanContext) -> None:
        if len(self._trials) >= AT_ONCE:
            self.left_out += 1
            return
        task = asyncio.create_task(self._try(document, trace))
        self._trials.add(task)
        task.add_done_callback(self._trials.discard)

    async def _try(self, document: bytes, trace: SpanContext) -> None:
        try:
            said = await self._shadow.shadow(document, trace)
        except Refusal as refusal:
            said = {"fault": refusal.details or refusal.code}
        said = {policy: what for policy, what in said.items() if _something(what)}
        if said:
            call = orjson.loads(document)
            record = {"kind": "trial", "call": call["call"]["id"], "conversation": call["conversation"]["id"]}
            try:
                self._note(record | {"trace": trace.trace_id, "said": said})
            except Refusal:
                self.left_out += 1


def _something(said: Any) -> bool:
    return any(said.values()) if isinstance(said, Mapping) else bool(said)
