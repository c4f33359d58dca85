"""A port whose handlers and whose room a test chooses, and connections to it by hand."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import StreamReader, web

from proxy.server.body import read_body
from proxy.server.connections import TAKING, Room
from proxy.server.listeners import Listeners
from proxy.server.rescue import rescue
from proxy.settings import Listen
from tests.contracts.store_kit import until

MOST = 256 << 10  # bytes of a body
LARGE = 32 << 20  # bytes of an answer that no socket holds


@dataclass(slots=True)
class Port:
    """`/read` answers with the size of its body, `/wait` and `/late` when they are let go, the latter by reading its body then,
    `/deaf` at once without reading it, `/large` with more than a socket holds."""

    number: int = 0
    room: Room = field(default_factory=Room)
    entered: list[str] = field(default_factory=list)
    bodies: list[StreamReader] = field(default_factory=list)
    go: asyncio.Event = field(default_factory=asyncio.Event)
    dialled: list["Dialled"] = field(default_factory=list)
    open: Callable[[], int] = int  # connections on its side

    async def handle(self, request: web.Request) -> web.Response:
        """Any of them."""
        self.entered.append(request.path)
        self.bodies.append(request.content)
        if request.path == "/late":
            await self.go.wait()
        if request.path == "/large":
            return web.Response(body=b"x" * LARGE)
        size = -1 if request.path in ("/deaf", "/wait") else len(await read_body(request, MOST))
        if request.path == "/wait":
            await self.go.wait()
        return web.json_response({"size": size, "path": request.path_qs})

    async def dial(self) -> "Dialled":
        """A connection to it."""
        self.dialled.append(Dialled(*await asyncio.open_connection("127.0.0.1", self.number)))
        return self.dialled[-1]

    async def round_trip(self) -> None:
        """After it whatever had been sent before has been looked at."""
        other = await self.dial()
        await other.post("/read", 1)
        assert (await other.answer())[0] == 200

    async def until_taken(self, least: int, most: int | None = None) -> None:
        """Wait until so much lies there."""
        bound = least + 2000 if most is None else most
        await until(lambda: least <= self.room.taken <= bound)


@dataclass(slots=True)
class Dialled:
    """One connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def say(self, data: bytes) -> None:
        """Bytes as they are."""
        self.writer.write(data)
        await self.writer.drain()

    async def post(self, path: str, size: int, *, sent: int | None = None) -> None:
        """A request with a body of this size, of which so much is sent."""
        head = f"POST {path} HTTP/1.1\r\nhost: a\r\ncontent-length: {size}\r\n\r\n"
        await self.say(head.encode() + b"x" * (size if sent is None else sent))

    async def answer(self) -> tuple[int, dict[str, str], Any]:
        """Status, headers, document of the next answer, which comes before any body is given up as too slow."""
        async with asyncio.timeout(4):
            lines = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            headers = {n.lower(): v.strip() for n, _, v in (line.partition(":") for line in lines[1:] if line)}
            body = await self.reader.readexactly(int(headers["content-length"]))
        return int(lines[0].split()[1]), headers, json.loads(body)

    async def ended(self) -> bool:
        """Whether the other side closes it, without another byte."""
        async with asyncio.timeout(10):
            return await self.reader.read() == b""


@asynccontextmanager
async def port(room: int, *, taking: float = TAKING) -> AsyncIterator[Port]:
    """Bound as the process binds its own."""
    made, listeners = Port(), Listeners(taking=taking)
    app = web.Application(middlewares=[rescue], client_max_size=MOST)
    app.router.add_route("*", "/{name}", made.handle)
    await listeners.bind(app, Listen(host="127.0.0.1", port=0), room=room)
    made.open = lambda: len(listeners.runners[-1].server.connections)  # type: ignore[union-attr]  # it is bound
    made.number = listeners.runners[-1].addresses[0][1]
    made.room = listeners.runners[-1].room  # type: ignore[attr-defined]  # the runner's own, of which aiohttp knows nothing
    try:
        yield made
    finally:
        for one in made.dialled:
            one.writer.transport.abort()
        await listeners.close()
