"""One pipelined connection to Valkey or Redis (RESP2), with a deadline for each command.

Framing is hiredis'. The client of redis-py costs 46 us of CPU a command at 16 in flight where this costs 7 (performance.md 6),
and a call has four. One connection also keeps the order of what this pod sends.
"""

import asyncio
import logging
import ssl
from collections import deque
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import hiredis

from proxy.adapters.store_valkey_troubles import not_connected, refused_by_server, unavailable, why
from proxy.errors import Refusal
from proxy.settings import Valkey

Reply = Any  # bytes, int, None, a list of replies, or hiredis.ReplyError
CONNECTING = 4  # deadlines that a new connection may take: TLS, log-in, the question after durability
_LAST_LOOK = 0.001  # seconds
PAUSE = 0.2  # seconds between attempts to connect; who asks in between is refused at once

_log = logging.getLogger("sidegate")


class Connection:
    """Ask the server; connect when needed. `ready` is run on each new connection before anything else may use it."""

    def __init__(self, settings: Valkey, ready: Callable[["Ask"], Awaitable[None]]) -> None:
        self._settings = settings
        self._ready = ready
        self._wire: _Wire | None = None
        self._connecting: asyncio.Task[_Wire] | None = None
        self._not_before = 0.0
        self._why = "not connected yet"

    @property
    def up(self) -> bool:
        """Whether there is a connection at present."""
        return self._wire is not None and not self._wire.lost

    def ask(self, *words: str | bytes | int) -> Awaitable[Reply]:
        """One command; its reply, error replies included. Raises Refusal state_unavailable within two deadlines."""
        wire = self._wire
        if wire is None or wire.lost:
            return self._ask_when_connected(words)
        return wire.ask(words, self._settings.deadline)

    async def connect(self) -> None:
        """Connect once. Raises Refusal state_unavailable, and what `ready` raises."""
        self._wire = await self._open()

    def drop(self, cause: str) -> None:
        """Give this connection up: the next command gets another, perhaps to another server."""
        if self._wire is not None:
            self._wire.give_up(cause)

    async def close(self) -> None:
        """Close for good."""
        if self._connecting is not None:
            self._connecting.cancel()
            await asyncio.wait([self._connecting])
        self.drop("closed")

    async def _ask_when_connected(self, words: tuple[str | bytes | int, ...]) -> Reply:
        wire = await self._connected()
        return await wire.ask(words, self._settings.deadline)

    async def _connected(self) -> "_Wire":
        now = asyncio.get_running_loop().time()
        if self._connecting is None:
            if now < self._not_before:
                raise unavailable(self._why)
            self._connecting = asyncio.create_task(self._open())
            self._connecting.add_done_callback(self._opened)
        done, _ = await asyncio.wait([self._connecting], timeout=self._settings.deadline)
        if not done:
            raise unavailable("still connecting")
        if self._wire is None or self._wire.lost:
            raise unavailable(self._why)
        return self._wire

    def _opened(self, task: "asyncio.Task[_Wire]") -> None:
        self._connecting = None
        self._not_before = asyncio.get_running_loop().time() + PAUSE
        if task.cancelled():
            return
        error = task.exception()
        if error is None:
            self._wire = task.result()
            return
        cause = why(error) if isinstance(error, Refusal) else str(error)
        if cause != self._why:
            _log.warning("the shared store is not available", extra={"fields": {"error": cause}})
        self._why = cause

    async def _open(self) -> "_Wire":
        try:
            async with asyncio.timeout(CONNECTING * self._settings.deadline):
                wire = await self._dial()
                try:
                    await self._log_in(wire)
                    await self._ready(lambda *words: wire.ask(words, self._settings.deadline))
                except BaseException:
                    wire.give_up("could not begin")
                    raise
                return wire
        except OSError as e:
            raise not_connected(e) from e

    async def _dial(self) -> "_Wire":
        url, loop = urlsplit(self._settings.url), asyncio.get_running_loop()
        if url.scheme == "unix":
            _, wire = await loop.create_unix_connection(_Wire, unquote(url.path))
            return wire
        context = None
        if url.scheme == "rediss":
            context = _trust(self._settings.ca_file)
        _, wire = await loop.create_connection(_Wire, url.hostname or "", url.port or 6379, ssl=context)
        return wire

    async def _log_in(self, wire: "_Wire") -> None:
        url, deadline = urlsplit(self._settings.url), self._settings.deadline
        if self._settings.password_file is not None:
            password = await asyncio.to_thread(_password, self._settings.password_file)
            _refuse_error(await wire.ask(("AUTH", self._settings.username or "default", password), deadline))
        database = "" if url.scheme == "unix" else url.path.strip("/")
        if database not in ("", "0"):
            _refuse_error(await wire.ask(("SELECT", database), deadline))


Ask = Callable[..., Awaitable[Reply]]


class _Wire(asyncio.Protocol):
    """Replies come in the order of the commands. What is said in one turn of the loop goes in one write: one system call here,
    and at the server one turn, one flush and one write for all of it."""

    def __init__(self) -> None:
        self.lost = False
        self._reader = hiredis.Reader(notEnoughData=_MORE)
        self._unsent: list[bytes] = []
        self._waiting: deque[tuple[float, asyncio.Future[Reply]]] = deque()  # until when, and for whom
        self._timer: asyncio.TimerHandle | None = None
        self._transport: asyncio.WriteTransport | None = None
        self._loop = asyncio.get_running_loop()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]  # a stream's transport is a WriteTransport

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - as asyncio calls it
        self.give_up("the connection was lost")

    def data_received(self, data: bytes) -> None:
        try:
            self._reader.feed(data)
            while (reply := self._reader.gets()) is not _MORE:
                _, future = self._waiting.popleft()
                if not future.done():
                    future.set_result(reply)
        except (hiredis.HiredisError, IndexError):
            self.give_up("the server does not speak RESP")

    def ask(self, words: tuple[str | bytes | int, ...], deadline: float) -> "asyncio.Future[Reply]":
        """One command. After a missed deadline nobody knows what is still on its way, so the connection goes, too."""
        if self.lost or self._transport is None:
            raise unavailable("the connection was lost")
        future: asyncio.Future[Reply] = self._loop.create_future()
        self._waiting.append((self._loop.time() + deadline, future))
        if not self._unsent:
            self._loop.call_soon(self._send)
        self._unsent.append(hiredis.pack_command(words))  # type: ignore[arg-type]  # a tuple of any length
        if self._timer is None:
            self._timer = self._loop.call_later(deadline, self._look)
        return future

    def _send(self) -> None:
        said, self._unsent = self._unsent, []
        if self._transport is not None and not self.lost:
            self._transport.write(b"".join(said))

    def _look(self, last: "asyncio.Future[Reply] | None" = None) -> None:
        """One timer for all: answers come in order, so the first who waits is the first who is late."""
        self._timer = None
        if not self._waiting:
            return
        until, first = self._waiting[0]
        if (left := until - self._loop.time()) > 0:
            self._timer = self._loop.call_later(left, self._look)
        elif first is last:
            self.give_up("no answer within the deadline")
        else:
            # A loop that was busy runs its timers before it looks at its sockets, where the answer may lie in time.
            self._timer = self._loop.call_later(_LAST_LOOK, self._look, first)

    def give_up(self, cause: str) -> None:
        """Close at once; all who wait are refused."""
        if self.lost:
            return
        self.lost = True
        if self._transport is not None:
            self._transport.abort()
        if self._timer is not None:
            self._timer.cancel()
        for _, future in self._waiting:
            if not future.done():
                future.set_exception(unavailable(cause))
        self._waiting.clear()


_MORE = object()


def _refuse_error(reply: Reply) -> None:
    if isinstance(reply, hiredis.ReplyError):
        raise refused_by_server(reply)


def _trust(ca_file: Path | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca_file)
    except OSError as e:  # ssl.SSLError is one
        raise unavailable(f"`ca_file` holds no certificates that can be read: {e.strerror}") from e


def _password(path: Path) -> bytes:
    try:
        return path.read_bytes().rstrip(b"\r\n")
    except OSError as e:
        raise unavailable(f"`password_file` cannot be read: {e.strerror}") from e
