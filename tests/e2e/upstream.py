"""An HTTP/1.1 server by hand, so that it can misbehave by byte and by time."""

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field


@dataclass(slots=True, kw_only=True)
class Received:
    """One request as the upstream got it: raw request target and headers, body as bytes."""

    method: str
    target: str
    headers: list[tuple[str, str]]
    body: bytes

    @property
    def trace(self) -> str:
        """The trace id that came along."""
        return dict(self.headers).get("traceparent", "---").split("-")[1]


Answering = Callable[[Received, asyncio.StreamWriter], Awaitable[None]]


@dataclass(slots=True)
class Upstream:
    """An HTTP/1.1 server by hand, so that it can misbehave by byte and by time. `answer` may be replaced in a test."""

    received: list[Received] = field(default_factory=list)
    answer: Answering | None = None
    port: int = 0
    _server: asyncio.Server | None = None

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
                method, target, _ = head[0].split(" ")
                headers = [(n.lower(), v.strip()) for n, _, v in (line.partition(":") for line in head[1:] if line)]
                length = int(dict(headers).get("content-length", "0"))
                request = Received(method=method, target=target, headers=headers, body=await reader.readexactly(length))
                self.received.append(request)
                await (self.answer or echo)(request, writer)
                await writer.drain()
        writer.close()


async def echo(request: Received, writer: asyncio.StreamWriter) -> None:
    """200 with what was received, as JSON."""
    await reply(writer, json.dumps({"target": request.target, "body": request.body.decode()}).encode())


async def reply(
    writer: asyncio.StreamWriter, body: bytes, *, status: str = "200 OK", media_type: str = "application/json"
) -> None:
    """One plain answer."""
    head = f"HTTP/1.1 {status}\r\ncontent-type: {media_type}\r\ncontent-length: {len(body)}\r\n\r\n"
    writer.write(head.encode() + body)
