"""The instruments of one process, as the standard `OTEL_*` variables ask for them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from proxy.adapters.opa_process import OtlpTarget
from proxy.ports import Clock, Executor, FactSource, Policy, Telemetry, Tracer
from proxy.telemetry import names
from proxy.telemetry.destination import GRPC, Destination
from proxy.telemetry.exporter import SpanExporter, exporter_of
from proxy.telemetry.metrics import CallMetrics, Metrics, Reading
from proxy.telemetry.spans import CompactTracer
from proxy.telemetry.story import CallTelemetry
from proxy.telemetry.traced import TracedExecutor, TracedFacts, TracedPolicy

FLUSH_SECONDS = 3.0


@dataclass(slots=True, kw_only=True)
class Instruments:
    """Tracer, telemetry of calls, metrics. `known_tools` is what may become a label; it follows the catalog."""

    tracer: Tracer
    telemetry: Telemetry
    metrics: Metrics
    exporter: SpanExporter | None
    opa_target: OtlpTarget | None
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

    def watch(self, readings: Mapping[str, Callable[[], Reading]]) -> None:
        """Gauges by name: numbers that are read at each scrape."""
        for name, read in readings.items():
            labels = ("revision",) if name == names.POLICY_REVISION_INFO else ()
            self.metrics.gauge(name, read, labels)

    async def close(self) -> None:
        """Send what is left, in bounded time."""
        if self.exporter is not None:
            await self.exporter.shutdown(FLUSH_SECONDS)


def instruments(variables: Mapping[str, str], clock: Clock) -> Instruments:
    """Made and started; needs a running loop."""
    exporter = exporter_of(variables, clock)
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
    )
    metrics.counted(names.SPANS_DROPPED_TOTAL, lambda: 0 if exporter is None else exporter.dropped)
    return made


def _opa_target(destination: Destination) -> OtlpTarget | None:
    """OPA sends its spans to the same collector; it takes a host and a port, no path and no headers."""
    if destination.tls:
        return None
    if destination.protocol == GRPC:
        return OtlpTarget(type="grpc", address=destination.endpoint)
    return OtlpTarget(type="http", address=destination.place.partition("://")[2].partition("/")[0])
