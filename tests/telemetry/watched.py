"""Telemetry of calls with everything that comes out of it, for tests."""

from collections.abc import Callable

from proxy.core.trail import Trail
from proxy.errors import Code, Refusal
from proxy.model import (
    Decision,
    Presented,
    SpanContext,
    ToolCall,
)
from proxy.telemetry.metrics import CallMetrics, Metrics
from proxy.telemetry.spans import SpanRecord
from proxy.telemetry.story import CallTelemetry
from tests.telemetry.exposition import parse
from tests.telemetry.samples import (
    ALLOWED,
    CALL,
    PARENT,
    RESULT,
    SECRET,
    TOOL,
    SteppedClock,
    tracer,
    trail,
)


class Watched:
    """Telemetry of calls with everything that comes out of it."""

    def __init__(self, **variables: str) -> None:
        self.clock = SteppedClock()
        self.clock.seconds = 2.0
        made, self.memory = tracer(**variables)
        self.metrics = Metrics()
        self.telemetry = CallTelemetry(made, CallMetrics(self.metrics, lambda name: name == TOOL.name), self.clock)

    def call(
        self,
        decision: Decision | None = ALLOWED,
        refusal: Refusal | None = None,
        *,
        call: ToolCall = CALL,
        trace: SpanContext | None = PARENT,
        before: Callable[[Trail], None] = lambda _: None,
    ) -> tuple[Trail, SpanRecord | None]:
        """One call from begin to conclude; its SERVER span, if it was recorded."""
        span = self.telemetry.begin(call, Presented(handle=SECRET, token=SECRET, trace=trace))
        known = trail(span.context, call=call, decision=decision)
        before(known)
        answer = known.answer(result=RESULT if refusal is None else None, refusal=refusal)
        self.telemetry.conclude(span, known, answer)
        ended = [r for r in self.memory.spans() if r.span_id == span.context.span_id]
        return known, ended[0] if ended else None

    def samples(self, metric: str) -> dict[tuple[str, ...], float]:
        """Values of one metric by its label values."""
        family = parse(self.metrics.exposition())[metric]
        return {tuple(value for _, value in labels): number for (_, labels), number in family.samples.items()}


def denied() -> Refusal:
    """What a denial becomes."""
    return Refusal(Code.DENIED, SECRET, fix=SECRET, details={"secret": SECRET}, reasons=(("arguments", "over_limit"),))
