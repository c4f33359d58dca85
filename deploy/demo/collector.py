"""Where the demo's traces go unless Jaeger takes them: a small OTLP/HTTP receiver. And a trace drawn as a tree."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

SHOWN = (
    "gen_ai.tool.name",
    "sidegate.decision",
    "sidegate.code",
    "sidegate.review_id",
    "sidegate.review.status",
    "sidegate.review.by",
    "sidegate.review.seconds",
    "error.type",
    "http.response.status_code",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """What is drawn of one span. `start` only orders; `parent` is empty for a root."""

    service: str
    id: str
    parent: str
    name: str
    start: int
    milliseconds: float
    attributes: Mapping[str, str]


@dataclass(slots=True)
class Collector:
    """Spans by trace id (32 hex digits)."""

    traces: dict[str, list[Shown]] = field(default_factory=dict)

    def application(self) -> web.Application:
        """`POST /v1/traces`."""
        app = web.Application(client_max_size=1 << 24)
        app.router.add_post("/v1/traces", self.receive)
        return app

    async def receive(self, request: web.Request) -> web.Response:
        message = ExportTraceServiceRequest.FromString(await request.read())
        for resource in message.resource_spans:
            service = next((a.value.string_value for a in resource.resource.attributes if a.key == "service.name"), "?")
            for scope in resource.scope_spans:
                for span in scope.spans:
                    self.traces.setdefault(span.trace_id.hex(), []).append(_shown(service, span))
        return web.Response(content_type="application/x-protobuf")

    def spans(self, trace_id: str) -> list[Shown]:
        """Those that have come."""
        return self.traces.get(trace_id, [])


def tree(found: Iterable[Shown]) -> list[str]:
    """Lines of a trace, children below their parents, in order of time."""
    spans = sorted(found, key=lambda span: span.start)
    known = {span.id for span in spans}
    return [line for root in spans if root.parent not in known for line in _lines(root, spans, 0)]


def _lines(span: Shown, spans: list[Shown], depth: int) -> list[str]:
    facts = "  ".join(f"{key.rpartition('.')[2]}={span.attributes[key]}" for key in SHOWN if key in span.attributes)
    line = f"{'   ' * depth}{'└─ ' if depth else ''}{span.name}  [{span.service}]  {span.milliseconds:.1f} ms  {facts}"
    children = [other for other in spans if other.parent == span.id]
    return [line.rstrip(), *(below for child in children for below in _lines(child, spans, depth + 1))]


def _shown(service: str, span: Span) -> Shown:
    values = {a.key: (a.value, a.value.WhichOneof("value") or "") for a in span.attributes}
    return Shown(
        service=service,
        id=span.span_id.hex(),
        parent=span.parent_span_id.hex(),
        name=span.name,
        start=span.start_time_unix_nano,
        milliseconds=(span.end_time_unix_nano - span.start_time_unix_nano) / 1e6,
        attributes={key: str(getattr(value, kind, "")) for key, (value, kind) in values.items()},
    )
