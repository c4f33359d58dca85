"""A small OTLP/HTTP receiver for the demo: keeps spans in memory and draws the tree of one trace."""

from dataclasses import dataclass, field

from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

SHOWN = (
    "gen_ai.tool.name",
    "sidegate.decision",
    "sidegate.code",
    "sidegate.review_id",
    "error.type",
    "http.response.status_code",
)


@dataclass(slots=True)
class Collector:
    """Spans by trace id (32 hex digits), each with the service it came from."""

    traces: dict[str, list[tuple[str, Span]]] = field(default_factory=dict)

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
                    self.traces.setdefault(span.trace_id.hex(), []).append((service, span))
        return web.Response(content_type="application/x-protobuf")

    def names(self, trace_id: str) -> set[str]:
        """Names of the spans that have come."""
        return {span.name for _, span in self.traces.get(trace_id, [])}

    def tree(self, trace_id: str) -> list[str]:
        """Lines of the trace, children below their parents, in order of time."""
        spans = sorted(self.traces.get(trace_id, []), key=lambda pair: pair[1].start_time_unix_nano)
        known = {span.span_id for _, span in spans}
        roots = [pair for pair in spans if pair[1].parent_span_id not in known]
        return [line for root in roots for line in self._lines(root, spans, 0)]

    def _lines(self, pair: tuple[str, Span], spans: list[tuple[str, Span]], depth: int) -> list[str]:
        service, span = pair
        took = (span.end_time_unix_nano - span.start_time_unix_nano) / 1e6
        shown = {a.key: a.value.string_value or str(a.value.int_value) for a in span.attributes if a.key in SHOWN}
        facts = "  ".join(f"{key.rpartition('.')[2]}={value}" for key, value in shown.items())
        line = f"{'   ' * depth}{'└─ ' if depth else ''}{span.name}  [{service}]  {took:.1f} ms  {facts}".rstrip()
        children = [p for p in spans if p[1].parent_span_id == span.span_id]
        return [line, *(below for child in children for below in self._lines(child, spans, depth + 1))]
