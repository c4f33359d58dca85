"""An HTTP server on loopback that behaves byte by byte as it is told, and remembers every byte it was sent."""

import asyncio
import contextlib
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """One request as it came: `target` is the raw request-target."""

    method: bytes
    target: bytes
    headers: tuple[tuple[str, bytes], ...]  # names in lower case
    body: bytes
    connection: int

    def values(self, name: str) -> list[bytes]:
        """Every value of a header."""
        return [value for key, value in self.headers if key == name]


Behaviour = Callable[[asyncio.StreamWriter], Awaitable[None]]


def answer(
    body: bytes = b"{}", status: bytes = b"200 OK", *, headers: tuple[bytes, ...] = (b"Content-Type: application/json",)
) -> Behaviour:
    """A complete answer; the connection is kept."""
    lines = (b"HTTP/1.1 " + status, *headers, b"Content-Length: %d" % len(body))
    return raw(b"\r\n".join(lines) + b"\r\n\r\n" + body)


def raw(data: bytes, *, then: str = "keep") -> Behaviour:
    """These bytes; then `keep` the connection, `close` it or `reset` it."""

    async def behave(writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        await writer.drain()
        if then == "reset":
            # Linger of zero seconds: closing sends RST.
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        if then != "keep":
            writer.close()

    return behave


def hang() -> Behaviour:
    """No answer; the connection is kept."""
    return raw(b"")


def drip(data: bytes, seconds: float) -> Behaviour:
    """One byte at a time."""

    async def behave(writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            for at in range(len(data)):
                if writer.is_closing():
                    break
                writer.write(data[at : at + 1])
                await writer.drain()
                await asyncio.sleep(seconds)

    return behave


def flood(head: bytes, piece: bytes) -> Behaviour:
    """A head, then one piece after the other until the peer has had enough."""

    async def behave(writer: asyncio.StreamWriter) -> None:
        writer.write(head)
        with contextlib.suppress(ConnectionError):
            while not writer.is_closing():
                writer.write(piece)
                await writer.drain()

    return behave


class ByteServer:
    """Use `serving`. `script` is used up from the front; its last behaviour stays."""

    def __init__(self) -> None:
        self.received: list[Received] = []
        self.connections = 0
        self.closed = asyncio.Event()  # set whenever the peer closes a connection
        self.script: list[Behaviour] = [answer()]
        self.port = 0
        self._listener: asyncio.Server | None = None
        self._arrived = asyncio.Condition()
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        """Base URL, with a path of its own."""
        return f"http://127.0.0.1:{self.port}/v2"

    async def until_received(self, count: int) -> None:
        """Wait for so many requests."""
        async with asyncio.timeout(5), self._arrived:
            await self._arrived.wait_for(lambda: len(self.received) >= count)

    def say(self, data: bytes) -> None:
        """Send bytes on every connection, asked or not."""
        for writer in self._writers:
            writer.write(data)

    def stop_listening(self) -> None:
        """Refuse new connections, keep the others."""
        assert self._listener is not None
        self._listener.close()

    def drop(self) -> None:
        """Close every connection from this side."""
        for writer in self._writers:
            writer.close()

    async def listen(self, context: ssl.SSLContext | None) -> None:
        """Take connections on a free port of loopback."""
        self._listener = await asyncio.start_server(self._meet, "127.0.0.1", 0, ssl=context)
        self.port = self._listener.sockets[0].getsockname()[1]

    async def _meet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        self.connections += 1
        number = self.connections
        self._writers.add(writer)
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                request = await _request(reader, number)
                async with self._arrived:
                    self.received.append(request)
                    self._arrived.notify_all()
                behave = self.script.pop(0) if len(self.script) > 1 else self.script[0]
                await behave(writer)
        self.closed.set()
        writer.close()
        self._writers.discard(writer)
        self._tasks.discard(task)

    async def end(self) -> None:
        """Close everything and wait for the tasks."""
        self.stop_listening()
        self.drop()
        await asyncio.gather(*self._tasks)


async def _request(reader: asyncio.StreamReader, connection: int) -> Received:
    head = await reader.readuntil(b"\r\n\r\n")
    first, *lines = head[:-4].split(b"\r\n")
    method, target, _ = first.split(b" ", 2)
    pairs = [line.split(b":", 1) for line in lines]
    headers = tuple((name.decode().lower(), value.strip()) for name, value in pairs)
    length = next((int(value) for name, value in headers if name == "content-length"), 0)
    body = await reader.readexactly(length)
    return Received(method=method, target=target, headers=headers, body=body, connection=connection)


@contextlib.asynccontextmanager
async def serving(context: ssl.SSLContext | None = None) -> AsyncIterator[ByteServer]:
    """A server on a free port of loopback."""
    server = ByteServer()
    await server.listen(context)
    try:
        yield server
    finally:
        await server.end()


def free_port() -> int:
    """A port on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
