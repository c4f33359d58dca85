"""How an encoded export request reaches a collector: OTLP over HTTP, or over gRPC where that was asked for."""

import asyncio
import gzip
import os
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
_RECONNECT_MS = 10_000  # gRPC's own pause between connections grows to two minutes
_AGENT = f"sidegate/{__version__}"


_NO_HTTP = (
    "what answers speaks no OTLP over HTTP: where it wants TLS, write https:// in the endpoint; where it wants gRPC, set "
    "OTEL_EXPORTER_OTLP_PROTOCOL=grpc"
)
_NOT_THERE = "what stands before the collector does not reach it: see whether the collector runs, and on which port"
# What to do about the failures that people meet, by how they begin; for the log.
_FIXES = {
    "ClientConnectorCertificateError": "its certificate is not trusted: name its CA in OTEL_EXPORTER_OTLP_CERTIFICATE",
    "ClientConnectorSSLError": "it speaks no TLS, or wants a client certificate: see https:// and http:// in the endpoint",
    "ClientConnector": "nobody can be reached there: check host and port of the OTLP endpoint, and that the collector runs",
    "ClientOSError": "the connection broke: look at the collector; where its port wants TLS, write https:// in the endpoint",
    "TimeoutError": "it does not answer in time: see OTEL_EXPORTER_OTLP_TIMEOUT, and whether the collector keeps up",
    "FileNotFoundError": "a file of OTEL_EXPORTER_OTLP_CERTIFICATE, _CLIENT_CERTIFICATE or _CLIENT_KEY is not there",
    "PermissionError": "a file of OTEL_EXPORTER_OTLP_CERTIFICATE, _CLIENT_CERTIFICATE or _CLIENT_KEY cannot be read",
    "SSLError": "a file of OTEL_EXPORTER_OTLP_CERTIFICATE, _CLIENT_CERTIFICATE or _CLIENT_KEY holds no such thing",
    "Server": _NO_HTTP,
    "ClientResponseError": _NO_HTTP,
    "HTTP 400": "it does not understand the request: where its port wants TLS, write https:// in the endpoint",
    "HTTP 404": "it does not know the path: /v1/traces is appended to OTEL_EXPORTER_OTLP_ENDPOINT, the traces variable is "
    "taken as it is",
    "HTTP 401": "it wants to know who sends: see OTEL_EXPORTER_OTLP_HEADERS",
    "HTTP 403": "it does not take spans from this sender: see OTEL_EXPORTER_OTLP_HEADERS",
    "HTTP 413": "the request is too large for it: lower OTEL_BSP_MAX_EXPORT_BATCH_SIZE",
    "HTTP 429": "it takes no more from this sender: raise its limit, or send less (OTEL_TRACES_SAMPLER)",
    "HTTP 502": _NOT_THERE,
    "HTTP 503": "it is overloaded or starting: look at the collector's own log and at its memory and queue limits",
    "HTTP 504": _NOT_THERE,
    "gRPC UNAVAILABLE (certificate)": "its certificate is not trusted: name its CA in OTEL_EXPORTER_OTLP_CERTIFICATE",
    "gRPC UNAVAILABLE": "nobody speaks gRPC there: check host, port, and http:// or https://",
    "gRPC DEADLINE_EXCEEDED": "it does not answer in time: see OTEL_EXPORTER_OTLP_TIMEOUT, and whether it keeps up",
    "gRPC UNIMPLEMENTED": "what answers takes no spans over gRPC",
    "gRPC UNAUTHENTICATED": "it wants to know who sends: see OTEL_EXPORTER_OTLP_HEADERS",
}


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
    """OTLP/gRPC. gRPC is imported here only, when it is used (it costs memory and threads), and at start, not in a call's way."""

    def __init__(self, destination: Destination) -> None:
        os.putenv("GRPC_VERBOSITY", "NONE")  # its C core writes lines of its own to stderr, where ours are JSON
        import grpc.aio  # type: ignore[import-untyped] # grpcio ships no types

        self._grpc: Any = grpc
        self._to = destination
        self._channel: Any = None

    async def send(self, body: bytes) -> int:
        """Call Export, once."""
        try:
            channel = self._channel = self._channel or self._connect()
            export = channel.unary_unary(_METHOD)  # bytes in, bytes out: the request has been encoded already
            answer = await export(body, timeout=self._to.timeout, metadata=tuple(self._to.headers.items()))
        except self._grpc.aio.AioRpcError as error:
            code = error.code().name
            doubted = "CERTIFICATE_VERIFY_FAILED" in (error.details() or "")
            raise SendFailed(
                f"gRPC {code}{' (certificate)' if doubted else ''}", retry=code in _RETRYABLE_GRPC
            ) from error
        except (OSError, ValueError) as error:
            raise SendFailed(type(error).__name__, retry=True) from error
        return _rejected(answer)

    async def close(self) -> None:
        """Close the channel."""
        if self._channel is not None:
            await self._channel.close()

    def _connect(self) -> Any:
        grpc = self._grpc
        compression = grpc.Compression.Gzip if self._to.gzip else grpc.Compression.NoCompression
        options = (("grpc.primary_user_agent", _AGENT), ("grpc.max_reconnect_backoff_ms", _RECONNECT_MS))
        if not self._to.tls:
            return grpc.aio.insecure_channel(self._to.endpoint, options=options, compression=compression)
        files = (self._to.certificate, self._to.client_key, self._to.client_certificate)
        credentials = grpc.ssl_channel_credentials(*(_bytes(path) for path in files))
        return grpc.aio.secure_channel(self._to.endpoint, credentials, options=options, compression=compression)


def fix_of(why: str) -> str:
    """What whoever reads the log can do about a failure; empty if nothing is known."""
    return next((fix for begins, fix in _FIXES.items() if why.startswith(begins)), "")


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
