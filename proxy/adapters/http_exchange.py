"""One request to an HTTP upstream, sent at most once, and what went wrong with it: shared by tools and fact sources.

Nothing is repeated here: only `core.retry` decides. Until `Delivery.mark_sent` nothing can have been delivered, whatever was
raised; afterwards everything is possible. No redirect is followed, no cookie kept, no compressed body asked for or read.
"""

import asyncio
import re
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from urllib.parse import urlsplit

from proxy.adapters.credentials import Credential
from proxy.adapters.http_connection import ConnectionFault, HttpAnswer, HttpConnection, Request
from proxy.adapters.http_pool import ConnectionPool
from proxy.adapters.upstream_connection import UpstreamConnection, codings, dial
from proxy.core.breaker import Breaker
from proxy.core.http_request import HttpRequest
from proxy.core.tool import Upstream
from proxy.model import Response, SpanContext
from proxy.ports import Clock

BULKHEAD = 128  # requests under way to one upstream
_KEEP = 15.0  # seconds that an idle connection is kept: shorter than what servers do, so that few die under a request
_FIXED = (("User-Agent", "sidegate/0.1"), ("Accept-Encoding", "identity"))
_TARGET = re.compile(r"/[!-~]*")
_HEADER = re.compile(r"[!-9;-~]+: [\t -~]*")  # RFC 9110 section 5.5 without what is obsolete in it: one line each


class Kind(Enum):
    """What can go wrong; the value is for records."""

    OPEN = "breaker open"
    OVERLOADED = "bulkhead full"
    STOPPED = "stopped"
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
    status: int | None = None  # of this attempt's answer

    def begin(self) -> None:
        """A new attempt."""
        self.sent, self.status = False, None

    def mark_sent(self) -> None:
        """From now on something may have arrived."""
        self.sent = self.ever_sent = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Outbound:
    """What one call sends. `cap`: most bytes of a body that are read; `deadline`: on the event loop's clock, for all attempts;
    `stopped`: the stop switch that stands in its way, asked before each byte that is the first of an attempt."""

    upstream: Upstream
    request: HttpRequest
    headers: dict[str, str] = field(repr=False)
    cap: int
    deadline: float
    stopped: Callable[[], str | None] = lambda: None
    delivery: Delivery = field(default_factory=Delivery)

    def refuse_stopped(self) -> None:
        """Raises FaultError: whoever was told that calls are stopped can rely on it, however long this one waited."""
        if (switch := self.stopped()) is not None:
            raise FaultError(Kind.STOPPED, switch)

    def begin_sending(self) -> None:
        """The last moment to say no. Raises FaultError."""
        self.refuse_stopped()
        self.delivery.mark_sent()


@dataclass(slots=True, kw_only=True)
class _Lane:
    """What one upstream is reached by. `prefix`: the path of its base URL; `host`: its Host header."""

    url: str
    prefix: str
    host: str
    pool: ConnectionPool
    breaker: Breaker = field(default_factory=Breaker)


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
            lane.pool.close()
        await asyncio.sleep(0)  # sockets are closed in the loop's next turn

    def _lane(self, upstream: Upstream) -> _Lane:
        lane, url = self._lanes.get(upstream.name), upstream.url or ""
        if lane is None or lane.url != url:
            before, lane = lane, _lane(url, self._bulkhead)
            if before is not None:  # the catalog names another place now: what is under way there ends by itself
                before.pool.close_idle()
                lane.breaker = before.breaker
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


def _lane(url: str, places: int) -> _Lane:
    parts = urlsplit(url)
    host, secure = parts.hostname or "", parts.scheme == "https"
    port = parts.port or (443 if secure else 80)

    async def connect(connection: HttpConnection) -> None:
        await dial(connection, host, port, secure=secure)

    pool = ConnectionPool(connect, places=places, keep=_KEEP, kind=UpstreamConnection)
    return _Lane(url=url, prefix=parts.path, host=parts.netloc, pool=pool)


async def _in_time(lane: _Lane, outbound: Outbound) -> Response:
    delivery = outbound.delivery
    try:
        answer = await lane.pool.send(
            _encoded(lane, outbound), wanted=outbound.refuse_stopped, sending=outbound.begin_sending
        )
    except ConnectionFault as fault:
        delivery.status = fault.status
        raise _broken(fault, outbound) from None
    except (OSError, ValueError) as e:
        raise _unreachable(e) from None
    delivery.status = answer.status
    return _response(answer)


def _encoded(lane: _Lane, outbound: Outbound) -> Request:
    """Raises ValueError for a header that HTTP cannot carry."""
    request, body = outbound.request, outbound.request.body
    headers = [("Host", lane.host), *_FIXED, *outbound.headers.items(), *request.headers]
    if body is not None:
        headers.append(("Content-Length", str(len(body))))
    target, lines = f"{lane.prefix}{request.target}", [f"{name}: {value}" for name, value in headers]
    if _TARGET.fullmatch(target) is None or not all(map(_HEADER.fullmatch, lines)):
        raise ValueError("a path or header that HTTP cannot carry")
    head = "\r\n".join((f"{request.method} {target} HTTP/1.1", *lines, "", ""))
    return Request(
        data=head.encode() + (body or b""),
        most=outbound.cap,
        deadline=outbound.deadline,
        head_only=request.method == "HEAD",
    )


def _response(answer: HttpAnswer) -> Response:
    status = answer.status
    if not 200 <= status < 600 or 300 <= status < 400:
        what = "a redirect, which is not followed" if 300 <= status < 400 else f"HTTP status {status}"
        raise FaultError(Kind.REDIRECT, f"answered with {what}")
    if codings(answer.headers):
        raise FaultError(Kind.UNREADABLE, "answered in a compressed form that was not asked for")
    types = {value.strip() for value in answer.values(b"content-type")}
    if len(types) > 1:
        raise FaultError(Kind.UNREADABLE, "answered with several content types at once")
    media_type = "".join(types).partition(";")[0].strip().lower()
    return Response(status=status, media_type=media_type, body=answer.body)


def _broken(fault: ConnectionFault, outbound: Outbound) -> FaultError:
    match fault.cause:
        case "busy":
            return FaultError(Kind.OVERLOADED, "has too many calls under way")
        case "timeout":
            return FaultError(Kind.TIMEOUT, "did not answer in time")
        case "too_large":
            return FaultError(
                Kind.UNREADABLE, f"answered with more than {outbound.cap} bytes, which is more than is read"
            )
    when = "before its answer" if fault.status is None else "in the middle of its answer"
    return FaultError(Kind.BROKEN, f"broke off {when}", cause=fault.cause)


def _unreachable(error: Exception) -> FaultError:
    match error:
        case socket.gaierror():
            what = "its name could not be resolved"
        case ssl.SSLError():
            what = "no trusted TLS connection could be made"
        case ConnectionRefusedError():
            what = "the connection was refused"
        case _:
            what = "no connection could be made"
    return FaultError(Kind.UNREACHABLE, f"could not be reached: {what}", cause=type(error).__name__)


def _healthy(kind: Kind, status: int | None) -> bool | None:
    if kind in {Kind.UNREACHABLE, Kind.TIMEOUT}:
        return False
    if kind in {Kind.REDIRECT, Kind.UNREADABLE} and status is not None:
        return status < 500
    return None
