"""Ports of the server on loopback, as the process binds them, over a line whose policy and upstreams a test scripts."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

from proxy.model import Principal
from proxy.register import Registrar
from proxy.server.agent import LOOPBACK, AgentPort
from proxy.server.listeners import Listeners
from proxy.server.review import ReviewPort
from proxy.settings import Listen
from tests.contracts.line import HANDLE, Line, opened
from tests.contracts.registered import NamedTokens

LIMIT = 4096  # bytes of a body
REVIEWERS = {
    "rita": Principal(issuer="desk", subject="rita", tenant="shop", roles=("leads",)),
    "oscar": Principal(issuer="desk", subject="oscar", tenant="shop", roles=("operator",)),
    "ada-too": Principal(issuer="desk", subject="ada", tenant="shop", roles=("leads",)),
    "tom": Principal(issuer="desk", subject="tom", tenant="other", roles=("leads", "operator")),
}


@asynccontextmanager
async def bound(application: web.Application) -> AsyncIterator[str]:
    """An application on a free port; yields its URL."""
    listeners = Listeners()
    await listeners.bind(application, Listen(host="127.0.0.1", port=0))
    try:
        yield f"http://127.0.0.1:{listeners.runners[0].addresses[0][1]}"
    finally:
        await listeners.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """One response, read whole."""

    status: int
    headers: Any
    body: bytes

    @property
    def tree(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """The refusal's code."""
        return str(self.tree["refusal"]["code"])


@dataclass(slots=True)
class Ports:
    """Agent and review port over one line."""

    line: Line
    session: aiohttp.ClientSession
    agent: str = ""
    review: str = ""
    figures: dict[str, Any] = field(default_factory=lambda: {"ready": True})

    async def send(self, method: str, url: str, **given: Any) -> Reply:
        async with self.session.request(method, url, **given) as response:
            return Reply(status=response.status, headers=response.headers, body=await response.read())

    async def call(self, body: Any, path: str = "/v1/tool-calls", **headers: str) -> Reply:
        """A POST of JSON with ada's handle; bytes are sent as they are."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        given = {"content-type": "application/json", "x-sidegate-conversation": HANDLE}
        given |= {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.send("POST", self.agent + path, data=data, headers=given)

    async def get(self, path: str, handle: str | None = HANDLE, **headers: str) -> Reply:
        given = {} if handle is None else {"x-sidegate-conversation": handle}
        given |= {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.send("GET", self.agent + path, headers=given)

    async def desk(self, method: str, path: str, body: Any = None, by: str = "rita") -> Reply:
        """Any request of a reviewer."""
        return await self.send(method, self.review + path, json=body, headers={"authorization": f"Bearer {by}"})


def call_of(tool: str = "get_capacity", name: str = "c1", **arguments: Any) -> dict[str, Any]:
    """A native call."""
    return {"id": name, "tool": tool, "arguments": arguments or {"supplier_id": "s1"}}


@asynccontextmanager
async def ports(path: Path) -> AsyncIterator[Ports]:
    """Both ports, ready."""
    async with opened(path) as line, aiohttp.ClientSession() as session:
        made = Ports(line, session)
        agent = AgentPort(
            note=line.store.log._journal.append,
            pipeline=line.pipeline,
            registrar=Registrar(identify=line.pipeline.identify),
            body_bytes=LIMIT,
            hosts=LOOPBACK,
        )
        desk = ReviewPort(
            reviews=line.store.reviews,
            conversations=line.store.conversations,
            verifier=NamedTokens(dict(REVIEWERS)),
            status=lambda: made.figures,
            switches=lambda: line.store.switches,
        )
        async with bound(agent.application()) as made.agent, bound(desk.application()) as made.review:
            yield made
