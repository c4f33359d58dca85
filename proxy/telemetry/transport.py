"""How an encoded export request reaches a collector: OTLP over HTTP, or over gRPC where that was asked for."""

import asyncio
import gzip
import ssl
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Protocol

import aiohttp
from google.protobuf.message import DecodeError  # type: ignore[import-untyped] # protobuf ships no types
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from proxy import __version__
from proxy.telemetry.destination import GRPC, Destination

_RETRYABLE = frozenset({429, 502, 503, 504})  # OTLP 1.x, "Retryable Response Codes"
_RETRYABLE_GRPC = frozenset({"CANCELLED", "DEADLINE_EXCEEDED", "ABORTED", "OUT_OF_RANGE", "UNAVAILABLE", "DATA_LOSS"})
_METHOD = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
_MAX_ANSWER = 64 * 1024
_AGENT = f"sidegate/{__version__}"


class SendFailed(Exception):
    """A request was not taken. `retry`: it may be later, after `after` seconds if the collector said so."""

    def __init__(self, why: str, *, retry: bool, after: float | None = None) -> None:
        super().__init__(why)
        self.why = why
        self.retry = retry
        self.after = after


class Transport(Protocol):
    """Something that takes encoded requests."""

    async def send(self, body: bytes) -> int:
        """How many spans the collector rejected. Raises SendFailed in bounded time."""
        ...

    async def close(self) -> None: ...


class HttpTransport:
    """OTLP/HTTP with binary protobuf."""

    def __init__(self, destination: Destination) -> None:
        self._to = destination
        self._session: aiohttp.ClientSession | None = None
        self._headers = {**destination.headers, "content-type": "application/x-protobuf", "user-agent": _AGENT}
        if destination.gzip:
            self._headers["content-encoding"] = "gzip"

    async def send(self, body: bytes) -> int:
        """POST it, once."""
        if self._to.gzip:
            body = await asyncio.to_thread(gzip.compress, body, 5)
        try:
            session = self._session = self._session or self._connect()
            async with session.post(
                self._to.endpoint, data=body, headers=self._headers, allow_redirects=False
            ) as response:
                if response.status // 100 == 2:
                    return _rejected(await response.content.read(_MAX_ANSWER))
                after = _seconds(response.headers.get("Retry-After"))
                raise SendFailed(f"HTTP {response.status}", retry=response.status in _RETRYABLE, after=after)
        except (aiohttp.ClientError, OSError, ValueError) as error:  # a timeout is an OSError
            raise SendFailed(type(error).__name__, retry=True) from error

    async def close(self) -> None:
        """Close connections."""
        if self._session is not None:
            await self._session.close()

    def _connect(self) -> aiohttp.ClientSession:
        """Made at the first request: it needs the loop, and a certificate that is missing must not stop the start."""
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=_tls(self._to) if self._to.tls else True, limit=1),
            timeout=aiohttp.ClientTimeout(total=self._to.timeout),
            cookie_jar=aiohttp.DummyCookieJar(),
        )


class GrpcTransport:
    """OTLP/gRPC. gRPC is imported here only, when it is used: it costs memory and threads."""

    def __init__(self, destination: Destination) -> None:
        self._to = destination
        self._channel: Any = None

    async def send(self, body: bytes) -> int:
        """Call Export, once."""
        import grpc.aio  # type: ignore[import-untyped] # grpcio ships no types

        try:
            channel = self._channel = self._channel or self._connect()
            export = channel.unary_unary(_METHOD)  # bytes in, bytes out: the request has been encoded already
            answer = await export(body, timeout=self._to.timeout, metadata=tuple(self._to.headers.items()))
        except grpc.aio.AioRpcError as error:
            code = error.code().name
            raise SendFailed(f"gRPC {code}", retry=code in _RETRYABLE_GRPC) from error
        except (OSError, ValueError) as error:
            raise SendFailed(type(error).__name__, retry=True) from error
        return _rejected(answer)

    async def close(self) -> None:
        """Close the channel."""
        if self._channel is not None:
            await self._channel.close()

    def _connect(self) -> Any:
        import grpc
        import grpc.aio

        compression = grpc.Compression.Gzip if self._to.gzip else grpc.Compression.NoCompression
        options = (("grpc.primary_user_agent", _AGENT),)
        if not self._to.tls:
            return grpc.aio.insecure_channel(self._to.endpoint, options=options, compression=compression)
        files = (self._to.certificate, self._to.client_key, self._to.client_certificate)
        credentials = grpc.ssl_channel_credentials(*(_bytes(path) for path in files))
        return grpc.aio.secure_channel(self._to.endpoint, credentials, options=options, compression=compression)


def transport_to(destination: Destination) -> Transport:
    """The transport that a destination asks for."""
    return GrpcTransport(destination) if destination.protocol == GRPC else HttpTransport(destination)


def _tls(destination: Destination) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=destination.certificate or None)
    if destination.client_certificate:
        context.load_cert_chain(destination.client_certificate, destination.client_key or None)
    return context


def _bytes(path: str) -> bytes | None:
    if not path:
        return None
    with open(path, "rb") as file:  # noqa: PTH123 - a path from a variable, read once
        return file.read()


def _rejected(body: bytes) -> int:
    """Partial success. An answer that cannot be read counts as a full one: the status was fine."""
    try:
        answer = ExportTraceServiceResponse.FromString(body)
    except DecodeError:
        return 0
    return max(0, int(answer.partial_success.rejected_spans))


def _seconds(header: str | None) -> float | None:
    """Retry-After: seconds or an HTTP date (RFC 9110 10.2.3)."""
    if header is None:
        return None
    if header.isascii() and header.isdigit() and len(header) <= 9:
        return float(header)
    try:
        until = parsedate_to_datetime(header)
    except ValueError:
        return None
    return max(0.0, (until.replace(tzinfo=until.tzinfo or UTC) - datetime.now(UTC)).total_seconds())
