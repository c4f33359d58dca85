"""A registrar on a store in memory, with the tokens of three principals."""

import json
from dataclasses import replace
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from proxy.adapters.jwks import FileKeys
from proxy.adapters.signed_tokens import AttestationVerifier
from proxy.core.registry import Registered
from proxy.errors import Code, Refusal
from proxy.identify import Identify
from proxy.model import Agent, Presented, Principal
from proxy.register import Registrar
from tests.contracts.registered import MemoryConversations, NamedTokens
from tests.contracts.tokens import START, ManualClock

AGENT = Agent(namespace="shop", service_account="buyer-agent", pod="p1")
BEN = Principal(issuer="id", subject="ben", tenant="acme", roles=("buyer",), expires_at=START + timedelta(hours=1))
BOT = Principal(issuer="id", subject="bot")


class Office:
    """A registrar with Ben's and the bot's tokens."""

    def __init__(self, keys: Path | None = None) -> None:
        self.clock = ManualClock()
        self.tokens = NamedTokens({"ben": BEN, "ann": replace(BEN, subject="ann"), "bot": BOT})
        self.store = MemoryConversations()
        self.identify = Identify(conversations=self.store, tokens=self.tokens, clock=self.clock, agent=AGENT)
        self.handles = (f"{number:043d}" for number in count())
        self.registrar = Registrar(
            identify=self.identify,
            attestations=None
            if keys is None
            else AttestationVerifier(FileKeys(keys, self.clock), ["ES256"], self.clock),
            mint=lambda: next(self.handles),
        )

    async def put(
        self, name: str = "c1", token: str | None = "ben", handle: str | None = None, **body: Any
    ) -> tuple[str, Registered]:
        return await self.registrar.register(name, token, json.dumps(body).encode(), handle=handle)

    async def post(
        self, name: str = "c1", handle: str | None = None, token: str | None = None, **body: Any
    ) -> Registered:
        presented = Presented(handle=handle, token=token)
        return await self.registrar.add_request(name, presented, json.dumps(body).encode())


async def refused(awaitable: Any, code: Code) -> Refusal:
    with pytest.raises(Refusal) as refusal:
        await awaitable
    assert refusal.value.code == code, refusal.value
    return refusal.value
