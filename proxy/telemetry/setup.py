"""The instruments of one process, as the standard `OTEL_*` variables ask for them."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from proxy.adapters.opa_process import OtlpTarget
from proxy.ports import Clock, Executor, FactSource, Policy, Reviews, Tracer
from proxy.telemetry import names
from proxy.telemetry.destination import GRPC, PATH, Destination, read_destination
from proxy.telemetry.loop_lag import LoopLag
from proxy.telemetry.metrics import LAG_BUCKETS, CallMetrics, Metrics, Reading
from proxy.telemetry.spans import CompactTracer
from proxy.telemetry.story import CallTelemetry
from proxy.telemetry.traced import TracedExecutor, TracedFacts, TracedPolicy, TracedReviews

if TYPE_CHECKING:
    from proxy.telemetry.exporter import SpanExporter

FLUSH_SECONDS = 3.0

_logger = logging.getLogger(__name__)


@dataclass(slots=True, kw_only=True)
class Instruments:
    """Tracer, telemetry of calls, metrics. `known_tools` is what may become a label; it follows the catalog."""

    tracer: Tracer
    telemetry: CallTelemetry
    metrics: Metrics
    exporter: "SpanExporter | None"
    opa_target: OtlpTarget | None
    lag: LoopLag
    known_tools: Callable[[], Mapping[str, object]] = field(default=dict)

    def traced(
        self, policy: Policy, facts: FactSource, executor: Executor
    ) -> tuple[TracedPolicy, TracedFacts, TracedExecutor]:
        """The ports with spans around them."""
        return (
            TracedPolicy(policy, self.tracer),
            TracedFacts(facts, self.tracer),
            TracedExecutor(executor, self.tracer),
        )

    def answered(self, reviews: Reviews) -> TracedReviews:
        """The store of reviews for those who answer them."""
        return TracedReviews(reviews, self.telemetry.answered)

    def watch(self, readings: Mapping[str, Callable[[], Reading]]) -> None:
        """Numbers that are read at each scrape, by name; `_total` marks one that only grows."""
        for name, read in readings.items():
            register = self.metrics.counted if name.endswith("_total") else self.metrics.gauge
            register(name, read)

    async def close(self) -> None:
        """Send what is left, in bounded time."""
        if self.exporter is not None:
            await self.exporter.shutdown(FLUSH_SECONDS)


def instruments(variables: Mapping[str, str], clock: Clock) -> Instruments:
    """Made and started; needs a running loop."""
    exporter = _exporter(variables, clock)
    if exporter is not None:
        exporter.start()
    sinks = () if exporter is None else (exporter.offer,)
    tracer = CompactTracer(variables, clock, sinks)
    metrics = Metrics()
    made = Instruments(
        tracer=tracer,
        telemetry=CallTelemetry(tracer, CallMetrics(metrics, lambda name: name in made.known_tools()), clock),
        metrics=metrics,
        exporter=exporter,
        opa_target=None if exporter is None else _opa_target(exporter.destination),
        lag=LoopLag(clock, metrics.histogram(names.LOOP_LAG_SECONDS, LAG_BUCKETS).observe),
    )
    metrics.counted(names.SPANS_DROPPED_TOTAL, lambda: 0 if exporter is None else exporter.dropped)
    return made


def _exporter(variables: Mapping[str, str], clock: Clock) -> "SpanExporter | None":
    destination = read_destination(variables)
    if destination is None:
        return None
    # With it comes protobuf, which who exports nothing need not keep in memory.
    from proxy.telemetry.exporter import exporter_to

    return exporter_to(destination, variables, clock)


def _opa_target(destination: Destination) -> OtlpTarget | None:
    """OPA sends its spans to the same collector where it can: it takes a host and a port, no path and no headers."""
    parts = urlsplit(destination.endpoint)
    grpc = destination.protocol == GRPC
    if destination.tls or destination.headers or not (grpc or parts.path == PATH):
        _logger.warning(
            "OPA's own spans are left out: it can send to a host and port only, without TLS, headers or path"
        )
        return None
    if grpc:
        return OtlpTarget(type="grpc", address=destination.endpoint)
    return OtlpTarget(type="http", address=parts.netloc.rpartition("@")[2])
