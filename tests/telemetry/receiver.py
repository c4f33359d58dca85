"""An OTLP/HTTP collector in this process: real sockets, decoded with opentelemetry-proto. For tests of every part."""

import asyncio
import ssl
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What the collector does with one request. A `hang` ends only with the receiver."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    delay: float = 0.0
    hang: bool = False
    rejected: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """One request as it came; `message` is empty if its reply was not a 200."""

    path: str
    headers: Mapping[str, str]
    body: bytes
    message: ExportTraceServiceRequest


class Receiver:
    """What came in. `replies` are used up one a request; after them `default` holds. `url` is the base URL."""

    def __init__(self) -> None:
        self.url = ""
        self.received: list[Received] = []
        self.replies: deque[Reply] = deque()
        self.default = Reply()
        self.ended = asyncio.Event()
        self._changed = asyncio.Event()

    @property
    def spans(self) -> list[Span]:
        """All spans that were accepted."""
        return [
            span
            for received in self.received
            for of_resource in received.message.resource_spans
            for of_scope in of_resource.scope_spans
            for span in of_scope.spans
        ]

    def named(self, name: str) -> list[Span]:
        """Spans of this name."""
        return [span for span in self.spans if span.name == name]

    def of_trace(self, trace_id: str) -> list[Span]:
        """Spans of one trace, by its hex id."""
        return [span for span in self.spans if span.trace_id.hex() == trace_id]

    async def until(self, condition: Callable[["Receiver"], bool], seconds: float = 10.0) -> None:
        """Return once the condition holds; it is looked at after each request. Raises TimeoutError."""
        async with asyncio.timeout(seconds):
            while not condition(self):
                self._changed.clear()
                await self._changed.wait()

    async def handle(self, request: web.BaseRequest) -> web.Response:
        """One export request."""
        reply = self.replies.popleft() if self.replies else self.default
        body = await request.read()
        message = ExportTraceServiceRequest()
        if reply.status == 200 and not reply.hang:
            message.ParseFromString(body)
        self.received.append(Received(path=request.path, headers=dict(request.headers), body=body, message=message))
        self._changed.set()
        if reply.hang:
            await self.ended.wait()
        if reply.delay:
            await asyncio.sleep(reply.delay)
        answer = ExportTraceServiceResponse()
        answer.partial_success.rejected_spans = reply.rejected
        return web.Response(
            status=reply.status,
            headers=dict(reply.headers),
            body=answer.SerializeToString(),
            content_type="application/x-protobuf",
        )


@asynccontextmanager
async def receiving(tls: ssl.SSLContext | None = None) -> AsyncIterator[Receiver]:
    """A collector on a free port of loopback."""
    receiver = Receiver()
    server = web.Server(receiver.handle)
    runner = web.ServerRunner(server, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
    await site.start()
    host, port = runner.addresses[0][:2]
    receiver.url = f"{'https' if tls else 'http'}://{host}:{port}"
    try:
        yield receiver
    finally:
        receiver.ended.set()
        await runner.cleanup()


def attributes(span: Any) -> dict[str, Any]:
    """Attributes of a span, event or resource as Python values."""
    return {pair.key: _value(pair.value) for pair in span.attributes}


def tree(spans: list[Span]) -> dict[str, list[str]]:
    """Names of spans by the name of their parent; roots (or spans with a parent elsewhere) are below an empty name."""
    names = {span.span_id: span.name for span in spans}
    below: dict[str, list[str]] = {}
    for span in sorted(spans, key=lambda s: s.start_time_unix_nano):
        below.setdefault(names.get(span.parent_span_id, ""), []).append(span.name)
    return below


def _value(value: AnyValue) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(item) for item in value.array_value.values]
    return None if kind is None else getattr(value, kind)
