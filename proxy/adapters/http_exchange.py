"""One request to an HTTP upstream, sent at most once, and what went wrong with it: shared by tools and fact sources.

Theory of operation. aiohttp repeats a GET, PUT or DELETE by itself when a kept connection turns out to be closed; where it would
see the exceptions that make it do so, it sees one of ours, so that only `core.retry` decides. `_Request.send` is where it begins
to write: before it nothing can have been delivered, whatever was raised; afterwards everything is possible (its tracing tells
the same for 20 us a call more). A kept connection on which something came while nobody asked would answer the next call with
it, perhaps with another user's data: aiohttp looks only whether it is open; here it is closed unused.
"""

import asyncio
from contextvars import ContextVar
from dataclasses import dataclass, field
from enum import Enum

import aiohttp
from aiohttp.connector import Connection
from yarl import URL

from proxy.adapters.credentials import Credential
from proxy.core.breaker import Breaker
from proxy.core.http_request import HttpRequest
from proxy.core.tool import Upstream
from proxy.model import Response, SpanContext
from proxy.ports import Clock

BULKHEAD = 128  # requests under way to one upstream
_CONNECTIONS = 3  # tried for one request if each is spoiled before it is used
_DNS_SECONDS = 10
_NO_TIMEOUT = aiohttp.ClientTimeout(total=None)
_REPEATED = (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError)
_HEADERS = {"User-Agent": "sidegate/0.1", "Accept-Encoding": "identity"}


class Kind(Enum):
    """What can go wrong; the value is for records."""

    OPEN = "breaker open"
    OVERLOADED = "bulkhead full"
    UNREACHABLE = "not connected"
    TIMEOUT = "deadline over"
    BROKEN = "broken off after sending"
    REDIRECT = "not a final answer"
    UNREADABLE = "an answer that is not read"


class FaultError(Exception):
    """No usable answer. `why` continues a sentence that begins with the tool's name, without host or URL; `cause` is the
    class of the exception behind it, for records."""

    def __init__(self, kind: Kind, why: str, *, cause: str | None = None, retry_after: float | None = None) -> None:
        super().__init__(f"{kind.value}: {why}")
        self.kind = kind
        self.why = why
        self.cause = cause
        self.retry_after = retry_after


@dataclass(slots=True, kw_only=True)
class Delivery:
    """How far one call has come, over all its attempts. Changes while it is under way."""

    ever_sent: bool = False  # a byte may have been sent, by this or an earlier attempt
    sent: bool = False  # the same, by this attempt
    admitted: bool = False  # this attempt has its place among those under way
    status: int | None = None  # of this attempt's answer

    def begin(self) -> None:
        """A new attempt."""
        self.sent, self.admitted, self.status = False, False, None

    def mark_sent(self) -> None:
        """From now on something may have arrived."""
        self.sent = self.ever_sent = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Outbound:
    """What one call sends. `cap`: most bytes of a body that are read; `deadline`: on the event loop's clock, for all attempts."""

    upstream: Upstream
    request: HttpRequest
    headers: dict[str, str] = field(repr=False)
    cap: int
    deadline: float
    delivery: Delivery = field(default_factory=Delivery)


@dataclass(slots=True, kw_only=True)
class _Lane:
    session: aiohttp.ClientSession
    bulkhead: asyncio.Semaphore
    breaker: Breaker = field(default_factory=Breaker)


# aiohttp makes the request object; this is how it knows whose it is. Set and read within one task.
_under_way: ContextVar[Delivery] = ContextVar("_under_way")


class _DroppedError(Exception):
    """Stands for the exceptions on which aiohttp would send again."""


class _SpoiledError(Exception):
    """The connection holds bytes that answer no request; nothing was sent on it."""


class _Request(aiohttp.ClientRequest):
    async def send(self, conn: Connection) -> aiohttp.ClientResponse:
        if conn.protocol is None or conn.protocol.should_close:
            raise _SpoiledError
        _under_way.get().mark_sent()
        return await super().send(conn)


class _Answer(aiohttp.ClientResponse):
    async def start(self, connection: Connection) -> aiohttp.ClientResponse:
        try:
            return await super().start(connection)
        except _REPEATED as e:
            raise _DroppedError from e


class HttpExchange:
    """One session, bulkhead and breaker for each upstream, by its name. Use within one event loop; `close` at the end."""

    def __init__(self, clock: Clock, *, bulkhead: int = BULKHEAD) -> None:
        self._clock = clock
        self._bulkhead = bulkhead
        self._lanes: dict[str, _Lane] = {}

    async def send(self, outbound: Outbound) -> Response:
        """One attempt. Raises FaultError."""
        lane = self._lane(outbound.upstream)
        leave = lane.breaker.admit(self._clock.monotonic())
        if leave is None:
            wait = lane.breaker.wait(self._clock.monotonic())
            raise FaultError(Kind.OPEN, "is not called for a while: it failed several times in a row", retry_after=wait)
        outbound.delivery.begin()
        healthy: bool | None = None
        try:
            response = await _in_time(lane, outbound)
            healthy = response.status < 500
        except FaultError as fault:
            healthy = _healthy(fault.kind, outbound.delivery.status)
            raise
        finally:
            lane.breaker.settle(leave, self._clock.monotonic(), healthy)
        return response

    async def close(self) -> None:
        """Close all connections."""
        lanes, self._lanes = self._lanes, {}
        for lane in lanes.values():
            await lane.session.close()

    def _lane(self, upstream: Upstream) -> _Lane:
        lane = self._lanes.get(upstream.name)
        if lane is None:
            lane = _Lane(session=_session(), bulkhead=asyncio.Semaphore(self._bulkhead))
            self._lanes[upstream.name] = lane
        return lane


def request_headers(media_type: str, trace: SpanContext, credential: Credential | None) -> dict[str, str]:
    """What every request carries: nothing here comes from the caller but the trace context."""
    headers = {"Accept": media_type, "traceparent": trace.traceparent}
    if trace.state:
        headers["tracestate"] = trace.state
    if credential is not None:
        headers[credential.header] = credential.value.reveal()
    return headers


def _session() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, ttl_dns_cache=_DNS_SECONDS),
        cookie_jar=aiohttp.DummyCookieJar(),
        headers=_HEADERS,
        timeout=_NO_TIMEOUT,
        request_class=_Request,
        response_class=_Answer,
        trust_env=False,
        auto_decompress=False,
    )


async def _in_time(lane: _Lane, outbound: Outbound) -> Response:
    try:
        async with asyncio.timeout_at(outbound.deadline), lane.bulkhead:
            outbound.delivery.admitted = True
            return await _once(lane.session, outbound)
    except TimeoutError:
        if outbound.delivery.admitted:
            raise FaultError(Kind.TIMEOUT, "did not answer in time") from None
        raise FaultError(Kind.OVERLOADED, "has too many calls under way") from None


async def _once(session: aiohttp.ClientSession, outbound: Outbound) -> Response:
    _under_way.set(outbound.delivery)
    try:
        answer = await _answer(session, outbound)
        outbound.delivery.status = answer.status
        try:
            return await _read(answer, outbound.cap)
        finally:
            answer.close()  # after a complete answer the connection is in the pool already, and this does nothing
    except FaultError:
        raise
    except Exception as e:  # noqa: BLE001 - whatever the library trips over: once a byte is sent, the outcome is not known
        raise _fault(e, outbound.delivery) from None


async def _answer(session: aiohttp.ClientSession, outbound: Outbound) -> aiohttp.ClientResponse:
    request = outbound.request
    url = URL(f"{outbound.upstream.url}{request.target}", encoded=True)
    headers = outbound.headers | dict(request.headers)
    for _ in range(_CONNECTIONS):
        try:
            return await session.request(request.method, url, data=request.body, headers=headers, allow_redirects=False)
        except _SpoiledError:
            continue
    raise _SpoiledError


async def _read(answer: aiohttp.ClientResponse, cap: int) -> Response:
    if not 200 <= answer.status < 600 or 300 <= answer.status < 400:
        what = "a redirect, which is not followed" if 300 <= answer.status < 400 else f"HTTP status {answer.status}"
        raise FaultError(Kind.REDIRECT, f"answered with {what}")
    if _encodings(answer) - {"identity", "chunked", ""}:
        raise FaultError(Kind.UNREADABLE, "answered in a compressed form that was not asked for")
    types = set(answer.headers.getall("Content-Type", ()))
    if len(types) > 1:
        raise FaultError(Kind.UNREADABLE, "answered with several content types at once")
    body = bytearray()
    if (answer.content_length or 0) <= cap:
        async for piece in answer.content.iter_any():
            body += piece
            if len(body) > cap:
                break
        else:
            media_type = "".join(types).partition(";")[0].strip().lower()
            return Response(status=answer.status, media_type=media_type, body=bytes(body))
    raise FaultError(Kind.UNREADABLE, f"answered with more than {cap} bytes, which is more than is read")


def _encodings(answer: aiohttp.ClientResponse) -> set[str]:
    lines = [*answer.headers.getall("Content-Encoding", ()), *answer.headers.getall("Transfer-Encoding", ())]
    return {coding.strip().lower() for line in lines for coding in line.split(",")}


def _fault(error: Exception, delivery: Delivery) -> FaultError:
    cause = type(error.__cause__ or error).__name__
    if delivery.sent:
        when = "before its answer" if delivery.status is None else "in the middle of its answer"
        return FaultError(Kind.BROKEN, f"broke off {when}", cause=cause)
    match error:
        case aiohttp.ClientConnectorDNSError():
            what = "its name could not be resolved"
        case aiohttp.ClientSSLError():
            what = "no trusted TLS connection could be made"
        case aiohttp.ClientConnectorError(os_error=ConnectionRefusedError()):
            what = "the connection was refused"
        case _:
            what = "no connection could be made"
    return FaultError(Kind.UNREACHABLE, f"could not be reached: {what}", cause=cause)


def _healthy(kind: Kind, status: int | None) -> bool | None:
    if kind in {Kind.UNREACHABLE, Kind.TIMEOUT}:
        return False
    if kind in {Kind.REDIRECT, Kind.UNREADABLE} and status is not None:
        return status < 500
    return None
