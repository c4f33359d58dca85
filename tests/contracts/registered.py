"""Fakes behind two ports, for tests of who calls: registered conversations in memory, and tokens by name."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from proxy.core.claims import refused
from proxy.core.registry import Registered
from proxy.core.tool import CheckedCall
from proxy.model import Caller, Principal


@dataclass
class MemoryConversations:
    """Port Conversations."""

    known: dict[str, Registered] = field(default_factory=dict)

    async def register(self, registered: Registered) -> Registered:
        self.known[registered.conversation] = registered
        return registered

    async def conversation(
        self, *, handle_hash: str | None = None, conversation_id: str | None = None
    ) -> Registered | None:
        if conversation_id is not None:
            return self.known.get(conversation_id)
        return next((one for one in self.known.values() if one.handle_hash == handle_hash), None)

    async def throw(self, switch: Mapping[str, Any], *, standing: bool) -> None:
        raise NotImplementedError

    def stopped(self, caller: Caller, checked: CheckedCall | None) -> str | None:
        raise NotImplementedError


@dataclass
class NamedTokens:
    """Port TokenVerifier."""

    principals: dict[str, Principal] = field(default_factory=dict)

    async def verify(self, token: str) -> Principal:
        if token not in self.principals:
            raise refused("the token is not known")
        return self.principals[token]
