"""A client's side of HTTP/1.1 (RFC 9112) over llhttp: kept connections, one request at a time on each, whole bounded answers.

OPA and the tools' upstreams are asked over these. aiohttp's client costs four times the CPU of this a request (performance.md 1
and 6), repeats requests by itself, and keeps bytes that come while nobody asks, to read them as the next answer.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

MAX_HEAD = 32 * 1024  # bytes of status line and headers, of trailers, too
_LAST_LOOK = 0.001  # seconds


class ConnectionFault(Exception):
    """No usable answer came. `cause` is one of busy (no place came free in time), timeout, closed, malformed, too_large.
    `heard`: whether any byte of an answer was; `status` once its head was."""

    def __init__(self, cause: str, *, heard: bool = False, status: int | None = None) -> None:
        super().__init__(cause)
        self.cause = cause
        self.heard = heard
        self.status = status


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpAnswer:
    """A whole answer. `headers` as they came, names in lower case."""

    status: int
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes

    def values(self, name: bytes) -> list[str]:
        """Every value of a header, in order."""
        return [value.decode("latin-1") for key, value in self.headers if key == name]


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request as it is written. Of its answer at most `most` bytes of body are read, until `deadline` on the loop's clock;
    with `head_only` (HEAD) there is none."""

    data: bytes
    most: int
    deadline: float
    head_only: bool = False


_NONE = Request(data=b"", most=0, deadline=0.0)


class HttpConnection(asyncio.Protocol):
    """One connection and the one answer awaited on it. Bytes that nobody asked for end it: no answer may reach another call.

    What comes here is believed only if it is a single final answer whose end its own framing tells.
    """

    def __init__(self, on_lost: "Callable[[HttpConnection], None]") -> None:
        self._on_lost = on_lost
        self._parser = HttpResponseParser(self)
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle
        self._waiter: asyncio.Future[HttpAnswer] | None = None
        self._reset(_NONE)

    def _reset(self, request: Request) -> None:
        self._most = request.most
        self._head_only = request.head_only
        self._heard = False
        self._head_size = 0
        self._fields_size = 0
        self._head_read = False
        self._headers: list[tuple[bytes, bytes]] = []
        self._parts: list[bytes] = []
        self._size = 0
        self._keep_alive = False
        self._answer: HttpAnswer | None = None
        self._fault: str | None = None

    @property
    def usable(self) -> bool:
        """Whether another request may be sent."""
        return self._transport is not None and not self._transport.is_closing()

    def abort(self) -> None:
        """Close at once."""
        if self._transport is not None:
            self._transport.abort()

    async def exchange(self, request: Request) -> HttpAnswer:
        """Send one request, await its answer. Whatever else happens, the connection is closed. Raises ConnectionFault."""
        if self._transport is None:
            raise ConnectionFault("closed")
        self._reset(request)
        loop = asyncio.get_running_loop()
        self._waiter = loop.create_future()
        # A timer of our own: asyncio.timeout costs five times as much, and this waits for nothing else.
        self._timer = loop.call_at(request.deadline, self._late, loop)
        self._transport.write(request.data)
        keep = False
        try:
            answer = await self._waiter
            # Who answers before it has read all may take the rest of this request for the beginning of the next.
            keep = self._keep_alive and not self._transport.get_write_buffer_size()
        finally:
            self._timer.cancel()
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
        self._heard = True
        if not self._head_read:
            self._head_size += len(data)
        try:
            self._parser.feed_data(data)
        except HttpParserUpgrade:
            self._upgraded()
        except HttpParserError:
            self._fault = self._fault or "malformed"
        if not self._head_read and self._head_size > MAX_HEAD:
            self._fault = "malformed"
        if self._fault is not None:
            self._fail(self._fault)
            self.abort()
        else:
            self._deliver()

    def _deliver(self) -> None:
        if self._answer is not None and self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(self._answer)

    def _late(self, loop: asyncio.AbstractEventLoop) -> None:
        # A loop that was busy runs its timers before it looks at its sockets, where the answer may lie in time.
        self._timer = loop.call_later(_LAST_LOOK, self._fail, "timeout")

    def _fail(self, cause: str) -> None:
        if self._waiter is not None and not self._waiter.done():
            status = self._parser.get_status_code() if self._head_read else None
            self._waiter.set_exception(ConnectionFault(cause, heard=self._heard, status=status))

    def _upgraded(self) -> None:
        self._fault = "malformed"

    def _complete(self, *, keep_alive: bool) -> None:
        self._keep_alive = keep_alive
        self._answer = HttpAnswer(
            status=self._parser.get_status_code(), headers=tuple(self._headers), body=b"".join(self._parts)
        )

    # llhttp's callbacks. What one of them raised would be wrapped: they take notes, `data_received` reads them.

    def on_message_begin(self) -> None:
        if self._answer is not None:
            self._fault = "malformed"  # a second answer behind the first

    def on_header(self, name: bytes, value: bytes) -> None:
        self._fields_size += len(name) + len(value)
        if self._fields_size > MAX_HEAD:
            self._fault = "too_large" if self._head_read else "malformed"
        elif not self._head_read:
            self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        self._head_read = True

    def on_body(self, body: bytes) -> None:
        self._size += len(body)
        if self._size > self._most:
            self._fault = "too_large"
        else:
            self._parts.append(body)

    def on_message_complete(self) -> None:
        if self._answer is None:
            self._complete(keep_alive=self._parser.should_keep_alive())  # llhttp knows it only now
