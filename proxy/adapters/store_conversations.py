"""Port Conversations of the embedded store: registrations and stop switches. A row once written is its own tombstone."""

from collections.abc import Mapping
from typing import Any

from proxy.adapters.store_log import StateLog
from proxy.core.registry import Registered, bound, handle_taken
from proxy.core.state_json import registered_to_json
from proxy.core.stops import stop_record, stopped_by
from proxy.core.tool import CheckedCall
from proxy.model import Caller
from proxy.ports import Clock


class EmbeddedConversations:
    """Port Conversations."""

    def __init__(self, log: StateLog, clock: Clock) -> None:
        self._log = log
        self._clock = clock

    async def register(self, registered: Registered) -> Registered:
        """Bind or refresh. `turns` is the whole count and never falls; the first `registered_at` stays."""
        self._log.refuse_if_behind()
        registered = bound(self._find(registered.conversation), registered, self._clock.now())
        bearer = self._log.by_handle(registered.handle_hash)
        if bearer is not None and bearer != registered.conversation:
            raise handle_taken()
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
        record = stop_record(switch, standing=standing, at=self._clock.now())
        await self._log.durable(self._log.write(record))

    def stopped(self, caller: Caller, checked: CheckedCall | None) -> str | None:
        """The first switch that stands in the way, widest first."""
        return stopped_by(self._log.state.switches, caller, checked)

    def _find(self, name: str) -> Registered | None:
        found = self._log.state.conversation(name)
        return None if found is None else found.registered
