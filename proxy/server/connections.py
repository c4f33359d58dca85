"""One connection of a port: read one request at a time, and no more of all that are not whole than there is room for.

aiohttp itself reads on while a handler works: of each connection up to 32 requests and of each of them half a MiB, and whatever
number of connections sends it.
"""

import asyncio
from dataclasses import dataclass
from typing import Any, cast

from aiohttp import StreamReader, web
from aiohttp.web_protocol import RequestHandler

from proxy.core.gate import fair
from proxy.errors import Code, Refusal
from proxy.server.rescue import refused

ROOM = 64 << 20  # bytes of all requests of a port that are not whole
AHEAD = 64 << 10  # bytes that may come on a connection behind a request that is being answered
TAKING = 75.0  # seconds for a caller to take an answer
_PIECE = 16 << 10  # bytes that are parsed at a time: so much of a next request at most


@dataclass(slots=True, kw_only=True)
class Room:
    """What the requests of a port take up until they are whole. None takes more than is free: so small ones find room beside
    those that are sent to fill it."""

    limit: int = ROOM
    taken: int = 0

    def take(self, held: int, more: int) -> bool:
        """More bytes of a request of which so many are held; false if there is no room."""
        if not fair(held, more, self.limit - self.taken):
            return False
        self.taken += more
        return True

    def give_back(self, held: int) -> None:
        """It is whole, or given up."""
        self.taken -= held


class Connection(RequestHandler):
    """Takes room for what comes until a request is whole; what comes behind that waits, unparsed, for its answer.

    Its answer to what is not HTTP is ours: aiohttp's own quotes the bad bytes (a token may be among them) in the answer and in
    the log, and names itself.
    """

    def __init__(self, manager: web.Server, room: Room, taking: float, **options: Any) -> None:
        super().__init__(manager, loop=asyncio.get_running_loop(), **options)
        self.reading: asyncio.Timeout | None = None  # of the handler that waits for the rest of a body
        self.crowded = False  # there was no room for the rest
        self._room = room
        self._taking = taking
        self._held = 0
        self._unparsed = b""
        self._latest: StreamReader | None = None  # the body of the request that came last, until its answer
        self._dropped: StreamReader | None = None  # the body of a request that was answered before it was whole

    def data_received(self, data: bytes) -> None:
        """Parse what has come, up to the end of a request. No bytes: aiohttp goes on with those that it put aside."""
        if self._close or self._force_close:
            return
        if self._dropped is not None and not self._dropped.is_eof():
            self._read(data)
            return
        if not data:
            self._read(data)
        elif not self._whole and not self._taken(len(data)):
            return
        self._unparsed += data
        self._parse()

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Answer, then look at what came meanwhile."""
        if self._close:
            resp.force_close()
        self._give_back()
        if not self._messages:
            self._latest = None
        self._dropped = None if request.content.is_eof() else request.content
        if self._dropped is not None:
            rest, self._unparsed = self._unparsed, b""
            self._read(rest)
        try:
            async with asyncio.timeout(self._taking):
                ended = await super().finish_response(request, resp, start_time)
        except TimeoutError:  # who does not read keeps what waits for him, and what he sent behind, in memory
            if self.transport is not None:
                self.transport.abort()
            return resp, True
        if self._unparsed and self.transport is not None and self._taken(len(self._unparsed)):
            self._parse()
        return ended

    def connection_lost(self, exc: BaseException | None) -> None:
        """What it held is free."""
        self._give_back()
        self._unparsed = b""
        super().connection_lost(exc)

    def handle_error(
        self,
        request: web.BaseRequest,  # noqa: ARG002 - the signature is aiohttp's
        status: int = 500,
        exc: BaseException | None = None,  # noqa: ARG002 - see above
        message: str | None = None,  # noqa: ARG002 - see above
    ) -> web.StreamResponse:
        """What is not HTTP, or a handler that failed."""
        response = refused(Refusal(Code.INVALID_CALL, "the request is not valid HTTP"), status)
        response.headers["server"] = "sidegate"
        response.force_close()
        return response

    @property
    def _body(self) -> StreamReader | None:
        """Of the request that came last, as long as it is not answered; None while there is only a part of a head."""
        return self._messages[-1][1] if self._messages else self._latest

    @property
    def _whole(self) -> bool:
        return self._body is not None and self._body.is_eof()

    def _read(self, data: bytes) -> None:
        super().data_received(data)
        if self._messages:  # also once it is taken from there: its handler begins in a later turn of the loop
            self._latest = self._messages[-1][1]

    def _parse(self) -> None:
        while self._unparsed and not self._reading_paused and not self._whole:
            piece, self._unparsed = self._unparsed[:_PIECE], self._unparsed[_PIECE:]
            self._read(piece)
        if self._whole:
            self._give_back()
            if len(self._unparsed) > AHEAD:  # who sends on without an answer is not waited for
                self._unparsed = b""
                self.close()

    def _taken(self, more: int) -> bool:
        if self._room.take(self._held, more):
            self._held += more
            return True
        self.crowded, self._unparsed = True, b""
        self._give_back()
        if self._body is None:
            cast("asyncio.Transport", self.transport).write(told(crowded()))
            self.force_close()
        else:  # its handler says so
            self.close()
            if self.reading is not None and not self.reading.expired():
                self.reading.reschedule(asyncio.get_running_loop().time())
        return False

    def _give_back(self) -> None:
        self._room.give_back(self._held)
        self._held = 0


class TurnedAway(asyncio.Protocol):
    """A connection over the share of its port: answered at once, and not kept."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Say so."""
        answered = cast("asyncio.Transport", transport)
        answered.write(told(Refusal(Code.OVERLOADED, "more connections are open than this port takes", retry_after=1)))
        answered.close()


def crowded() -> Refusal:
    """There is no room for more of a request."""
    return Refusal(
        Code.OVERLOADED,
        "too much is being sent here that has not come to its end",
        fix="send this request again later, whole and at once",
        retry_after=1,
    )


def told(refusal: Refusal) -> bytes:
    """The answer to a connection of which nothing is read."""
    body = cast("bytes", refused(refusal).body)
    head = (
        "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nRetry-After: 1\r\nConnection: close\r\n"
    )
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
