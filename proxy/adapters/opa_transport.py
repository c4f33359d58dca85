"""AsyncOpaClient on a keep-alive pool over a unix socket or TCP: HTTP/1.1 by llhttp, one total deadline, no retry of an answer.

The stock client waits 0.9 s over a policy error and costs four times the CPU (opa.md 1, performance.md 6). What is overridden
here is all of its private surface that a request touches: `_init_session`, `_request`, `close_connection`.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, cast

import orjson
from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser
from opa_client import AsyncOpaClient

MAX_HEAD = 32 * 1024  # bytes of status line and headers
MEDIA_TYPE = "application/json"

_TARGET = re.compile(r"/[!-~]*")
_HEADER = re.compile(r"[!-9;-~]+: [ -~]*")


class OpaFault(Exception):
    """No usable answer came. `cause` is one of timeout, busy (no connection came free in time), unreachable, closed,
    malformed, too_large, media_type, status."""

    def __init__(self, cause: str) -> None:
        super().__init__(cause)
        self.cause = cause


@dataclass(frozen=True, slots=True, kw_only=True)
class OpaAnswer:
    """A whole HTTP answer; the methods are those that AsyncOpaClient calls on aiohttp's response."""

    status: int
    media_type: str
    body: bytes

    async def json(self) -> Any:
        """The body as JSON. Raises ValueError."""
        return orjson.loads(self.body)

    async def text(self) -> str:
        """The body as UTF-8."""
        return self.body.decode()

    def raise_for_status(self) -> None:
        """Raises OpaFault status from 400 on."""
        if self.status >= 400:
            raise OpaFault("status")


class SidecarOpaClient(AsyncOpaClient):  # type: ignore[misc]  # the package ships no types
    """`address` is `unix:///path` or `host:port`. `deadline` (seconds) covers waiting for a connection, connecting and the answer.

    A request is sent a second time only if a kept-alive connection turns out to be closed before any byte of an answer.
    A caller that is cancelled closes its connection, and OPA stops evaluating. Raises OpaFault.
    """

    def __init__(
        self,
        address: str,
        *,
        deadline: float = 0.25,
        connections: int = 32,
        max_body: int = 1 << 20,
        token: str | None = None,
    ) -> None:
        self._path, host, port = split_address(address)
        super().__init__(host, port, timeout=deadline, retries=0, token=token)
        self._max_body = max_body
        self._origin = f"{self.schema}{host}:{port}"
        self._fixed = {"Host": f"{host}:{port}", **(self.headers or {})}
        self._slots = asyncio.Semaphore(connections)
        self._open = False
        self._idle: list[_Connection] = []
        self._connections: set[_Connection] = set()

    async def post(self, path: str, body: bytes, headers: Mapping[str, str]) -> tuple[int, str, bytes]:
        """Status, media type and body of the answer to one query in JSON. An answer in anything else is a fault."""
        answer = await self._send(self._encode("POST", path, body, {"Content-Type": MEDIA_TYPE, **headers}), again=True)
        if answer.media_type != MEDIA_TYPE:
            raise OpaFault("media_type")
        return answer.status, answer.media_type, answer.body

    async def _init_session(self) -> None:
        self._open = True

    async def close_connection(self) -> None:
        """Close every connection; a call in flight fails as closed, a later one as unreachable."""
        self._open = False
        for connection in tuple(self._connections):
            connection.abort()
        await asyncio.sleep(0)  # sockets are closed in the loop's next turn

    @asynccontextmanager
    async def _request(
        self,
        method: str,
        url: str,
        *,
        json: Any = None,
        data: bytes = b"",
        headers: Mapping[str, str] | None = None,
    ) -> AsyncIterator[OpaAnswer]:
        if not url.startswith(f"{self._origin}/"):
            raise ValueError("the address is not this client's")
        body = data if json is None else orjson.dumps(json)
        typed = {**({} if json is None else {"Content-Type": MEDIA_TYPE}), **(headers or {})}
        # All but PATCH may happen twice without harm (RFC 9110, 9.2.2; POST to OPA is a query).
        again = method != "PATCH"
        yield await self._send(self._encode(method, url.removeprefix(self._origin), body, typed), again=again)

    def _encode(self, method: str, target: str, body: bytes, headers: Mapping[str, str]) -> bytes:
        lines = [f"{name}: {value}" for name, value in {**self._fixed, **headers, "Content-Length": len(body)}.items()]
        if not _TARGET.fullmatch(target) or not all(map(_HEADER.fullmatch, lines)):
            raise ValueError("a path or header that HTTP cannot carry")
        return "\r\n".join((f"{method} {target} HTTP/1.1", *lines, "", "")).encode() + body

    async def _send(self, request: bytes, *, again: bool) -> OpaAnswer:
        waiting = True
        try:
            async with asyncio.timeout(self.timeout), self._slots:
                waiting = False
                return await self._exchange(request, again=again)
        except TimeoutError:
            raise OpaFault("busy" if waiting else "timeout") from None
        except OSError:
            raise OpaFault("unreachable") from None

    async def _exchange(self, request: bytes, *, again: bool) -> OpaAnswer:
        connection = self._kept_alive()
        if connection is not None:
            try:
                return await self._ask(connection, request)
            except OpaFault as fault:
                if not again or connection.heard or fault.cause != "closed":
                    raise
        return await self._ask(await self._connect(), request)

    async def _ask(self, connection: "_Connection", request: bytes) -> OpaAnswer:
        answer = await connection.exchange(request)
        if connection.usable:
            self._idle.append(connection)
        return answer

    def _kept_alive(self) -> "_Connection | None":
        while self._idle:
            connection = self._idle.pop()
            if connection.usable:
                return connection
        return None

    async def _connect(self) -> "_Connection":
        loop = asyncio.get_running_loop()
        connection = _Connection(self._max_body, self._connections.discard)
        if self._path is not None:
            await loop.create_unix_connection(lambda: connection, self._path)
        else:
            await loop.create_connection(lambda: connection, self.host.strip("[]"), self.port)
        if not self._open:
            connection.abort()
            raise OpaFault("unreachable")
        self._connections.add(connection)
        return connection


class _Connection(asyncio.Protocol):
    """One connection and the one answer awaited on it. Bytes that nobody asked for end it: no answer may reach another call."""

    def __init__(self, max_body: int, on_lost: "Callable[[_Connection], None]") -> None:
        self._max_body = max_body
        self._on_lost = on_lost
        self._parser = HttpResponseParser(self)
        self._transport: asyncio.Transport | None = None
        self._waiter: asyncio.Future[OpaAnswer] | None = None
        self._reset()

    def _reset(self) -> None:
        self.heard = False
        self._head_size = 0
        self._fields_size = 0
        self._head_read = False
        self._media_type = ""
        self._parts: list[bytes] = []
        self._size = 0
        self._keep_alive = False
        self._answer: OpaAnswer | None = None
        self._fault: str | None = None

    @property
    def usable(self) -> bool:
        """Whether another request may be sent."""
        return self._transport is not None and not self._transport.is_closing()

    def abort(self) -> None:
        """Close at once."""
        if self._transport is not None:
            self._transport.abort()

    async def exchange(self, request: bytes) -> OpaAnswer:
        """Send one request, await its answer. Whatever else happens, the connection is closed."""
        if self._transport is None:
            raise OpaFault("closed")
        self._reset()
        self._waiter = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        keep = False
        try:
            answer = await self._waiter
            keep = self._keep_alive
        finally:
            self._waiter = None
            if not keep:
                self.abort()
        return answer

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is one in all but its class

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the protocol's signature
        self._transport = None
        self._fail("closed")
        self._on_lost(self)

    def data_received(self, data: bytes) -> None:
        if self._waiter is None:
            self.abort()
            return
        self.heard = True
        if not self._head_read:
            self._head_size += len(data)
        try:
            self._parser.feed_data(data)
        except (HttpParserError, HttpParserUpgrade):
            self._fault = "malformed"
        if not self._head_read and self._head_size > MAX_HEAD:
            self._fault = "too_large"
        if self._fault is not None:
            self._fail(self._fault)
            self.abort()
        elif self._answer is not None and not self._waiter.done():
            self._waiter.set_result(self._answer)

    def _fail(self, cause: str) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(OpaFault(cause))

    # llhttp's callbacks. What one of them raised would be wrapped: they take notes, `data_received` reads them.

    def on_message_begin(self) -> None:
        if self._answer is not None:
            self._fault = "malformed"  # a second answer behind the first

    def on_header(self, name: bytes, value: bytes) -> None:
        self._fields_size += len(name) + len(value)  # trailers, too
        if self._fields_size > MAX_HEAD:
            self._fault = "too_large"
        if not self._head_read and name.lower() == b"content-type":
            self._media_type = value.decode("latin-1").partition(";")[0].strip().lower()

    def on_headers_complete(self) -> None:
        self._head_read = True

    def on_body(self, body: bytes) -> None:
        self._size += len(body)
        if self._size > self._max_body:
            self._fault = "too_large"
        else:
            self._parts.append(body)

    def on_message_complete(self) -> None:
        self._keep_alive = self._parser.should_keep_alive()  # llhttp knows it only now
        self._answer = OpaAnswer(
            status=self._parser.get_status_code(),
            media_type=self._media_type,
            body=b"".join(self._parts),
        )


def split_address(address: str) -> tuple[str | None, str, int]:
    """Path of the unix socket, if it is one, and host and port as they stand in the Host header. Raises ValueError."""
    if address.startswith("unix:///"):
        return address.removeprefix("unix://"), "localhost", 8181
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536 or "/" in host:
        raise ValueError(f"OPA's address is unix:///path or host:port, not {address!r}")
    return None, host, int(port)
