"""Port Conversations of the shared store: registrations, and stop switches that all pods see."""

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

from proxy.adapters.journal import Journal
from proxy.adapters.store_valkey_link import Link
from proxy.adapters.store_valkey_rows import Command
from proxy.adapters.store_valkey_talks import Draft, Talk, Talks
from proxy.core.registry import Registered, bound, handle_taken
from proxy.core.state_json import registered_to_json
from proxy.core.stops import stop_record, stopped_by, switched
from proxy.core.tool import CheckedCall
from proxy.model import Caller
from proxy.ports import Clock

HANDLE_KEPT = 30 * 86400  # seconds after its registration has ended: so long its bearer is told that it has
_REMEMBERED_HANDLES = 10_000


class SharedConversations:
    """A conversation's row is its own tombstone and is never taken away. A handle's key only says where to look: the
    row must name that handle, so nobody is let in by a key that was forged."""

    def __init__(self, *, link: Link, talks: Talks, journal: Journal, clock: Clock) -> None:
        self._link = link
        self._talks = talks
        self._journal = journal
        self._clock = clock
        self._by_handle: OrderedDict[str, str] = OrderedDict()

    async def register(self, registered: Registered) -> Registered:
        """Bind or refresh."""
        bearer = await self.conversation(handle_hash=registered.handle_hash)
        now, made = self._clock.now(), [registered]

        def step(talk: Talk) -> Draft:
            known = talk.conversation.registered
            made[0] = bound(known, registered, now)
            if bearer is not None and bearer.conversation != registered.conversation:
                raise handle_taken()
            talk.conversation.register(made[0])
            seconds = int((made[0].expires_at - now).total_seconds()) + HANDLE_KEPT
            handle = self._link.seal.name("handle", registered.handle_hash)
            commands: list[Command] = [("SET", handle, registered.conversation, "EX", seconds)]
            if known is not None and known.handle_hash != registered.handle_hash:
                commands.append(("DEL", self._link.seal.name("handle", known.handle_hash)))
            return Draft(commands=commands)

        await self._talks.change(registered.conversation, step)
        record = {"kind": "registered", **registered_to_json(made[0])}
        await self._journal.flushed(self._journal.append(record))
        return made[0]

    async def conversation(
        self, *, handle_hash: str | None = None, conversation_id: str | None = None
    ) -> Registered | None:
        """What is registered, expired or not. A handle that was replaced at a refresh finds nothing any more."""
        if handle_hash is None:
            return None if conversation_id is None else await self._talks.registered(conversation_id)
        remembered = self._by_handle.get(handle_hash)
        found = None if remembered is None else await self._bearer(remembered, handle_hash)
        if found is not None:
            return found
        self._by_handle.pop(handle_hash, None)
        answer = await self._link.run([], [("GET", self._link.seal.name("handle", handle_hash))])
        if answer.replies[0] is None:
            return None
        name = answer.replies[0].decode(errors="replace")
        found = await self._bearer(name, handle_hash)
        if found is not None:
            self._by_handle[handle_hash] = name
            if len(self._by_handle) > _REMEMBERED_HANDLES:
                self._by_handle.popitem(last=False)
        return found

    async def throw(self, switch: Mapping[str, Any], *, standing: bool) -> None:
        """Throw or lift {"scope", "name", "by"?}. Pods see it at their next call, at the latest at their next beat."""
        record = stop_record(switch, standing=standing, at=self._clock.now())
        await self._link.throw(record, switched)
        await self._journal.flushed(self._journal.append(record))

    def stopped(self, caller: Caller, checked: CheckedCall | None) -> str | None:
        """The first switch that stands in the way, widest first."""
        return stopped_by(self._link.switches, caller, checked)

    async def _bearer(self, name: str, handle_hash: str) -> Registered | None:
        found = await self._talks.registered(name)
        return found if found is not None and found.handle_hash == handle_hash else None
