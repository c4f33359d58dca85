"""Kept connections to one place, shared by all who ask there."""

import asyncio
import math
from collections.abc import Awaitable, Callable

from proxy.adapters.http_connection import ConnectionFault, HttpAnswer, HttpConnection, Request


class ConnectionPool:
    """At most `places` requests under way, for one of which a request waits half of its time; connections are kept for the
    next request, idle at most `keep` seconds.

    `connect` opens the transport of a new one; what it raises (OSError) comes through. Use within one event loop.
    """

    def __init__(
        self,
        connect: Callable[[HttpConnection], Awaitable[object]],
        *,
        places: int,
        keep: float = math.inf,
        kind: type[HttpConnection] = HttpConnection,
    ) -> None:
        self._connect = connect
        self._kind = kind
        self._places = asyncio.Semaphore(places)
        self._keep = keep
        self._all: set[HttpConnection] = set()
        self._idle: list[tuple[HttpConnection, float]] = []
        self._sweep: asyncio.TimerHandle | None = None

    async def send(
        self,
        request: Request,
        *,
        again: bool = False,
        wanted: Callable[[], None] = lambda: None,
        sending: Callable[[], None] = lambda: None,
    ) -> HttpAnswer:
        """The answer to one request. `wanted` is called before a connection is looked for, `sending` right before the first byte is
        written: what either raises comes through, and nothing has been sent. With `again` the request is written a second time
        if a kept connection turns out to be closed before any byte of an answer. Raises ConnectionFault, OSError."""
        await self._place(request.deadline)
        try:
            wanted()
            return await self._sent(request, sending, again=again)
        finally:
            self._places.release()

    async def _sent(self, request: Request, sending: Callable[[], None], *, again: bool) -> HttpAnswer:
        now = asyncio.get_running_loop().time()
        if now >= request.deadline:
            raise ConnectionFault("timeout")
        kept = self._kept(now)
        if kept is not None:
            try:
                return await self._ask(kept, request, sending)
            except ConnectionFault as fault:
                if not again or fault.heard or fault.cause != "closed":
                    raise
        return await self._ask(await self._new(request.deadline), request, sending)

    async def _ask(self, connection: HttpConnection, request: Request, sending: Callable[[], None]) -> HttpAnswer:
        if not connection.usable:  # it was lost as it opened: nothing can have been sent
            raise ConnectionFault("closed")
        try:
            sending()
        except BaseException:
            self._take_back(connection, asyncio.get_running_loop())
            raise
        answer = await connection.exchange(request)
        self._take_back(connection, asyncio.get_running_loop())
        return answer

    def close(self) -> None:
        """Close every connection; what is under way on one fails as closed."""
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None
        for connection in tuple(self._all):
            connection.abort()

    def close_idle(self) -> None:
        """Close what nobody uses; what is under way goes on."""
        while self._idle:
            self._idle.pop()[0].abort()

    async def _place(self, deadline: float) -> None:
        if not self._places.locked():
            await self._places.acquire()
            return
        now = asyncio.get_running_loop().time()
        try:
            # The other half is for the answer: who got a place at the last moment would take the far side for slow.
            async with asyncio.timeout_at(now + (deadline - now) / 2):
                await self._places.acquire()
        except TimeoutError:
            raise ConnectionFault("busy") from None

    async def _new(self, deadline: float) -> HttpConnection:
        connection = self._kind(self._all.discard)
        try:
            async with asyncio.timeout_at(deadline):
                await self._connect(connection)
        except TimeoutError:
            raise ConnectionFault("timeout") from None
        self._all.add(connection)
        return connection

    def _kept(self, now: float) -> HttpConnection | None:
        while self._idle:
            connection, since = self._idle.pop()
            if connection.usable and now - since < self._keep:
                return connection
            connection.abort()
        return None

    def _take_back(self, connection: HttpConnection, loop: asyncio.AbstractEventLoop) -> None:
        if connection.usable:
            self._idle.append((connection, loop.time()))
            if self._sweep is None and self._keep < math.inf:
                self._sweep = loop.call_later(self._keep, self._expire, loop)

    def _expire(self, loop: asyncio.AbstractEventLoop) -> None:
        now = loop.time()
        for connection, since in self._idle:
            if now - since >= self._keep:
                connection.abort()
        self._idle = [(c, since) for c, since in self._idle if c.usable]
        self._sweep = loop.call_later(self._keep, self._expire, loop) if self._idle else None
