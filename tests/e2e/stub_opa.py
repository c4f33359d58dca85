"""An OPA in this process that answers as the real one would have to, until a test tells it to misbehave (mode `external`)."""

import asyncio
import contextlib
import io
import json
import tarfile
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Misbehaving = Callable[[asyncio.StreamWriter, dict[str, Any]], Awaitable[None]]

ALLOW = {"grants": [{"code": "granted"}]}


@dataclass(slots=True)
class StubOpa:
    """On a unix socket. `misbehave` takes over the answers to decisions about calls; `held` stops them until it is set."""

    socket: Path
    bundle: Path
    misbehave: Misbehaving | None = None
    asked: list[dict[str, Any]] = field(default_factory=list)
    _server: asyncio.Server | None = None

    async def start(self) -> None:
        self._server = await asyncio.start_unix_server(self._serve, self.socket)

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()

    def decision(self, **over: Any) -> dict[str, Any]:
        """An allow, but for what is said otherwise."""
        return {
            "schema": 1,
            "effect": "allow",
            "guards": [],
            "deny": {},
            "review": {},
            "allow": ALLOW,
            "obligations": {},
            "warn": {},
            "revision": self.revision(),
        } | over

    def revision(self) -> str:
        """That of the bundle as it is now."""
        with tarfile.open(fileobj=io.BytesIO(self.bundle.read_bytes())) as archive:
            names = [name for name in archive.getnames() if name.endswith(".manifest")]
            manifest = archive.extractfile(names[0])
            assert manifest is not None
            return str(json.load(manifest)["revision"])

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower().split("\r\n")
                headers = dict(line.split(": ", 1) for line in head[1:] if line)
                body = json.loads(await reader.readexactly(int(headers["content-length"])))
                await self._answer(head[0].split(" ")[1], body["input"], writer)
                await writer.drain()
        writer.close()

    async def _answer(self, path: str, document: dict[str, Any], writer: asyncio.StreamWriter) -> None:
        if "/mismatch" in path:
            say(writer, {"result": []})
        elif not document:  # the query whose answer is known
            say(writer, {"result": self.decision(effect="deny", allow={}, guards=["facts_missing"])})
        else:
            self.asked.append(document)
            if self.misbehave is None:
                say(writer, {"result": self.decision()})
            else:
                await self.misbehave(writer, self.decision())


def say(writer: asyncio.StreamWriter, document: Any) -> None:
    """HTTP 200 with JSON."""
    respond(writer, json.dumps(document).encode())


def respond(
    writer: asyncio.StreamWriter,
    body: bytes,
    *,
    status: str = "200 OK",
    media_type: str = "application/json",
    length: int | None = None,
    more: str = "",
) -> None:
    """One answer, byte for byte; `length` is what it claims."""
    claimed = len(body) if length is None else length
    writer.write(
        f"HTTP/1.1 {status}\r\ncontent-type: {media_type}\r\ncontent-length: {claimed}\r\n{more}\r\n".encode() + body
    )
