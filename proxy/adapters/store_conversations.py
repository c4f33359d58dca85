"""Port Conversations of the embedded store: registrations and stop switches. A row once written is its own tombstone."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from proxy.adapters.store_log import StateLog
from proxy.core.registry import Registered
from proxy.core.state_json import registered_to_json
from proxy.core.tool import CheckedCall
from proxy.errors import Code, Refusal
from proxy.model import Agent, Caller
from proxy.ports import Clock

_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
_SCOPES = frozenset({"all", "conversation", "principal", "agent", "tool", "system"})


class EmbeddedConversations:
    """Port Conversations."""

    def __init__(self, log: StateLog, clock: Clock) -> None:
        self._log = log
        self._clock = clock

    async def register(self, registered: Registered) -> Registered:
        """Bind or refresh. `turns` is the whole count and never falls; the first `registered_at` stays."""
        self._log.refuse_if_behind()
        if not _ID.fullmatch(registered.conversation):
            raise Refusal(Code.INVALID_CALL, "a conversation id has 1 to 128 letters, digits, '.', '_' and '-'")
        if registered.expires_at <= self._clock.now():
            raise Refusal(Code.CONVERSATION_EXPIRED, "the token has expired", fix="register with a new token")
        known = self._find(registered.conversation)
        if known is not None:
            _refuse_other(known, registered)
            registered = replace(
                registered, turns=max(known.turns, registered.turns), registered_at=known.registered_at
            )
        bearer = self._log.by_handle(registered.handle_hash)
        if bearer is not None and bearer != registered.conversation:
            raise Refusal(Code.CONFLICTING_CONVERSATION, "this handle belongs to another conversation")
        seq = self._log.write({"kind": "registered", **registered_to_json(registered)})
        self._log.used(registered.conversation)
        await self._log.durable(seq)
        return registered

    async def conversation(
        self, *, handle_hash: str | None = None, conversation_id: str | None = None
    ) -> Registered | None:
        """What is registered, expired or not. A handle that was replaced at a refresh finds nothing any more."""
        name = conversation_id if handle_hash is None else self._log.by_handle(handle_hash)
        return None if name is None else self._find(name)

    async def throw(self, switch: Mapping[str, Any], *, standing: bool) -> None:
        """Throw or lift {"scope", "name", "by"?}, in force at once and durable on return."""
        scope, name = switch.get("scope"), switch.get("name")
        if scope not in _SCOPES or not (isinstance(name, str) or (scope == "all" and name is None)):
            raise Refusal(Code.INVALID_CALL, f"a stop names a scope ({', '.join(sorted(_SCOPES))}) and a name")
        name = "" if scope == "all" else name
        record = {"kind": "stop", "scope": scope, "name": name, "standing": standing, "by": switch.get("by")}
        await self._log.durable(self._log.write(record))

    def stopped(self, caller: Caller, checked: CheckedCall | None) -> str | None:
        """The first switch that stands in the way, widest first."""
        switches = self._log.state.switches
        if not switches:
            return None
        for scope, name in _names(caller, checked):
            if f"{scope} {name}" in switches:
                return "all calls are stopped" if scope == "all" else f"calls of this {scope} are stopped"
        return None

    def _find(self, name: str) -> Registered | None:
        found = self._log.state.conversation(name)
        return None if found is None else found.registered


def _refuse_other(known: Registered, registered: Registered) -> None:
    if known.principal.id != registered.principal.id:
        raise Refusal(Code.CONFLICTING_CONVERSATION, "this conversation id belongs to another user")
    if _workload(known.agent) != _workload(registered.agent):
        raise Refusal(Code.CONFLICTING_CONVERSATION, "this conversation id belongs to another agent")


def _workload(agent: Agent) -> tuple[str | None, str | None, str | None]:
    """An agent but for its pod, which may be replaced while a conversation goes on."""
    return agent.namespace, agent.service_account, agent.spiffe_id


def _names(caller: Caller, checked: CheckedCall | None) -> Iterator[tuple[str, str]]:
    yield "all", ""
    yield "conversation", caller.conversation
    yield "principal", caller.principal.id
    yield "principal", caller.principal.subject
    agent = caller.agent
    for name in (agent.spiffe_id, agent.pod, agent.service_account, f"{agent.namespace}/{agent.service_account}"):
        if name is not None:
            yield "agent", name
    if checked is not None:
        yield "tool", checked.tool.name
        yield "system", checked.tool.system.name
