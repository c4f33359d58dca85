"""A sidecar as its own process over the real OPA, an upstream that records raw requests, and clients of all three ports."""

import asyncio
import contextlib
import json
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from tests.e2e.sidecar import CREDENTIAL, REPO, SidecarProcess, free_ports
from tests.e2e.upstream import Received, Upstream, echo, reply
from tests.e2e.world import tool

__all__ = [
    "CREDENTIAL",
    "REPO",
    "Received",
    "Reply",
    "Rig",
    "Upstream",
    "echo",
    "free_ports",
    "native",
    "reply",
    "rig",
    "tool",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """An answer of the agent port to one native call."""

    status: int
    body: dict[str, Any]
    headers: dict[str, str]

    @property
    def code(self) -> str:
        """The refusal's code; empty for a result."""
        return str(self.body.get("refusal", {}).get("code", ""))

    @property
    def call_id(self) -> str:
        return self.headers["x-sidegate-call-id"]


class Rig(SidecarProcess):
    """What tests ask of a sidecar: calls, reviews, and what the journal says. Use `rig()`."""

    def records(self, **wanted: Any) -> list[dict[str, Any]]:
        """Journal records in order, those that have these values."""
        lines = [
            json.loads(line)
            for path in sorted((self.folder / self.settings["state"] / "journal").glob("*.jsonl"))
            for line in path.read_bytes().splitlines(keepends=True)
            if line.strip(b"\0\n") and line.endswith(b"\n")
        ]
        return [r for r in lines if all(r.get(key) == value for key, value in wanted.items())]

    async def ended(self, call_id: str) -> dict[str, Any]:
        """The one terminal record of a call, awaited."""
        await self.until_true(lambda: bool(self.records(kind="terminal", call=call_id)), f"call {call_id} ends")
        found = self.records(kind="terminal", call=call_id)
        assert len(found) == 1, found
        return found[0]

    def sent(self, call_id: str) -> list[Received]:
        """What the upstream received for a call, by its trace."""
        trace = self.records(kind="intent", call=call_id)[0]["trace"]
        return [request for request in self.upstream.received if request.trace == trace]

    async def sound(self) -> None:
        """What holds whatever has happened: nothing is under way, no call ended twice or not at all, nothing was sent without
        its intent, and the journal's chain is whole."""

        async def idle() -> bool:
            _, status = await self.review("GET", "/v1/status")
            return bool(status["in_flight"] == 0)

        if self.process is not None:
            await self.until(idle, "nothing is in flight")
        intents = Counter(record["call"] for record in self.records(kind="intent"))
        ends = Counter(record["call"] for record in self.records(kind="terminal"))
        assert {call for call, times in (intents + ends).items() if ends[call] != 1 or intents[call] > 1} == set()
        assert self.verify() == 0

    def verify(self) -> int:
        """Exit code of `sidegate audit verify` on this journal."""
        journal = self.folder / self.settings["state"] / "journal"
        command = [sys.executable, "-m", "proxy.cli", "audit", "verify", "--dir", str(journal)]
        return subprocess.run(command, cwd=REPO, capture_output=True, check=False).returncode

    async def register(self, conversation: str, user: str = "ada", **body: Any) -> str:
        """Register a conversation; returns its handle."""
        status, answer = await self.put(conversation, self.users[user], **body)
        assert status == 200, answer
        return str(answer["handle"])

    async def put(
        self, conversation: str, token: str, headers: dict[str, str] | None = None, **body: Any
    ) -> tuple[int, dict[str, Any]]:
        """A registration; status and body."""
        async with self.session.put(
            f"{self.url('agent')}/v1/conversations/{conversation}",
            headers={"authorization": f"Bearer {token}", **(headers or {})},
            json=body or {"text": "hello"},
        ) as response:
            return response.status, await response.json()

    async def call(
        self, handle: str | None, name: str, arguments: Any = None, *, name_it: str = "c1", **headers: str
    ) -> tuple[int, dict[str, Any]]:
        """One native call; status and body."""
        answer = await self.send(handle, name, arguments, name_it=name_it, **headers)
        return answer.status, answer.body

    async def send(
        self, handle: str | None, name: str, arguments: Any = None, *, name_it: str = "c1", **headers: str
    ) -> Reply:
        """One native call."""
        body = native(name, arguments, name_it=name_it)
        async with self.session.post(
            self.url("agent") + "/v1/tool-calls", data=body, headers=_headers(handle, headers)
        ) as response:
            return Reply(
                status=response.status,
                body=json.loads(await response.read()),
                headers={name.lower(): value for name, value in response.headers.items()},
            )

    async def post(self, path: str, body: str | bytes, handle: str | None = None, **headers: str) -> tuple[int, Any]:
        """Any POST to the agent port, with the body as it is."""
        async with self.session.post(
            self.url("agent") + path, data=body, headers=_headers(handle, headers)
        ) as response:
            return response.status, json.loads(await response.read())

    async def get(self, path: str, handle: str | None = None, **headers: str) -> tuple[int, Any]:
        """Any GET of the agent port."""
        async with self.session.get(self.url("agent") + path, headers=_headers(handle, headers)) as response:
            return response.status, json.loads(await response.read())

    async def raw(self, data: bytes, *, port: str = "agent", seconds: float = 5.0) -> bytes:
        """All that comes back for these bytes until the sidecar closes the connection; the client's side stays open."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.ports[port])
        try:
            writer.write(data)
            return await asyncio.wait_for(reader.read(), seconds)
        finally:
            writer.close()

    async def hang_up(self, handle: str, name: str, arguments: Any, *, when: Callable[[], Awaitable[bool]]) -> None:
        """Send a call on a connection of its own and close that once `when` holds."""
        await self.hang_up_on(handle, native(name, arguments), when=when)

    async def hang_up_on(self, handle: str, body: str, *, when: Callable[[], Awaitable[bool]]) -> None:
        """The same with any body."""
        _, writer = await asyncio.open_connection("127.0.0.1", self.ports["agent"])
        head = f"POST /v1/tool-calls HTTP/1.1\r\nhost: 127.0.0.1\r\nx-sidegate-conversation: {handle}\r\n"
        writer.write(f"{head}content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n{body}".encode())
        await self.until(when, "the moment to hang up")
        writer.close()
        await writer.wait_closed()

    async def review(self, method: str, path: str, body: Any = None, *, by: str = "rob") -> tuple[int, Any]:
        """Any request to the review port."""
        headers = {"authorization": f"Bearer {self.reviewers[by]}"}
        async with self.session.request(method, self.url("review") + path, json=body, headers=headers) as response:
            return response.status, json.loads(await response.read())

    async def approve(self, review: str, *, by: str = "rob") -> tuple[int, Any]:
        """Look at a review and say yes to what was shown."""
        _, shown = await self.review("GET", f"/v1/reviews/{review}", by=by)
        return await self.review("POST", f"/v1/reviews/{review}/approve", {"digest": shown.get("digest", "")}, by=by)


def native(name: str, arguments: Any = None, *, name_it: str = "c1") -> str:
    """The body of one native call."""
    return json.dumps({"id": name_it, "tool": name, "arguments": {"sku": "SKU-1"} if arguments is None else arguments})


def _headers(handle: str | None, more: dict[str, str]) -> dict[str, str]:
    given = {"content-type": "application/json", **{k.replace("_", "-"): v for k, v in more.items()}}
    return given if handle is None else given | {"x-sidegate-conversation": handle}


@contextlib.asynccontextmanager
async def rig(folder: Path) -> AsyncIterator[Rig]:
    """A prepared rig with its upstream running; the sidecar is started by the test."""
    upstream = Upstream()
    await upstream.start()
    async with aiohttp.ClientSession() as session:
        made = Rig(folder, upstream, session)
        made.prepare()
        try:
            yield made
        finally:
            if made.process is not None:
                await made.stop(signal.SIGKILL)
            await upstream.stop()
