"""Counters, histograms and gauges with their own text exposition: Prometheus 0.0.4, or OpenMetrics 1.0 where asked for.

Plain numbers in dictionaries: a client library costs 7 to 64 us a call for what takes one here (performance.md 2). All
calls come from the event loop, so there is nothing to lock. Label values must come from small sets; `CallMetrics` sees
to that.
"""

import math
import re
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from proxy.errors import Code
from proxy.model import Effect
from proxy.telemetry import names

# Seconds. A stage: from a decision in OPA to a call that is held as long as its caller can wait.
BUCKETS = (
    *(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0),
    *(60.0, 300.0, 900.0, 3600.0, 14400.0),
)
# A person: from one who looked already to one who comes back tomorrow.
WAIT_BUCKETS = (1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 1800.0, 3600.0, 7200.0, 14400.0, 28800.0, 86400.0)
LAG_BUCKETS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)

# Refused because something of Sidegate's own failed, not because somebody said no.
FAIL_CLOSED = frozenset(
    {
        Code.POLICY_UNAVAILABLE,
        Code.POLICY_INVALID,
        Code.FACTS_UNAVAILABLE,
        Code.STATE_UNAVAILABLE,
        Code.AUDIT_UNAVAILABLE,
        Code.INTERNAL_ERROR,
    }
)
OUTCOMES = ("approved", "rejected", "expired", "abandoned")  # of reviews
MAX_REASONS = 256  # pairs of policy and reason that are told apart; a policy can make up more
_REASON = re.compile(r"[a-z][a-z0-9_-]{0,63}")

Labels = tuple[str, ...]
Reading = float | Mapping[Labels, float]


class Counter:
    """A number per label values that only grows."""

    kind = "counter"

    def __init__(self, name: str, labels: Sequence[str] = ()) -> None:
        self.name = name
        self._labels = tuple(labels)
        self._counts: dict[Labels, int] = {} if labels else {(): 0}

    def add(self, *values: str, by: int = 1) -> None:
        """Count for these label values, in the order of the label names. `by=0` shows a zero: a first increase is seen only
        from there."""
        self._counts[values] = self._counts.get(values, 0) + by

    def lines(self) -> Iterator[str]:
        """Samples."""
        for values, count in self._counts.items():
            yield _sample(self.name, zip(self._labels, values, strict=True), count)


class Histogram:
    """Observations per label values in fixed buckets (upper bounds, inclusive)."""

    kind = "histogram"

    def __init__(self, name: str, labels: Sequence[str] = (), buckets: Sequence[float] = BUCKETS) -> None:
        self.name = name
        self._labels = tuple(labels)
        self._buckets = tuple(buckets)
        self._counts: dict[Labels, list[int]] = {}
        self._sums: dict[Labels, float] = {}
        if not labels:
            self.begin()

    def begin(self, *values: str) -> list[int]:
        """Show these label values with no observation yet."""
        self._sums[values] = 0.0
        return self._counts.setdefault(values, [0] * (len(self._buckets) + 1))

    def observe(self, value: float, *values: str) -> None:
        """One observation for these label values."""
        counts = self._counts.get(values)
        if counts is None:
            counts = self.begin(*values)
        counts[bisect_left(self._buckets, value)] += 1
        self._sums[values] += value

    def lines(self) -> Iterator[str]:
        """Samples: cumulative buckets, sum and count."""
        for values, counts in self._counts.items():
            pairs = list(zip(self._labels, values, strict=True))
            so_far = 0
            for bound, count in zip((*self._buckets, math.inf), counts, strict=True):
                so_far += count
                yield _sample(f"{self.name}_bucket", [*pairs, ("le", _number(bound))], so_far)
            yield _sample(f"{self.name}_sum", pairs, self._sums[values])
            yield _sample(f"{self.name}_count", pairs, so_far)


class Read:
    """A number, or one per label values, that somebody else keeps: read when it is asked for."""

    def __init__(self, name: str, kind: str, labels: Sequence[str], read: Callable[[], Reading]) -> None:
        self.name = name
        self.kind = kind
        self._labels = tuple(labels)
        self._read = read

    def lines(self) -> Iterator[str]:
        """Samples; none if reading fails, since one broken number must not hide the others."""
        try:
            reading = self._read()
        except Exception:  # noqa: BLE001 - whatever a callback raises, the scrape goes on
            return
        readings = reading if isinstance(reading, Mapping) else {(): reading}
        for values, value in readings.items():
            yield _sample(self.name, zip(self._labels, values, strict=True), value)


class Metrics:
    """All metrics of one process. Names must be in `names.ALL_METRICS`, which has their help texts, and come once; their
    labels are those of `names.METRIC_LABELS`."""

    def __init__(self) -> None:
        self._families: dict[str, Counter | Histogram | Read] = {}

    def counter(self, name: str) -> Counter:
        """A new counter."""
        metric = Counter(name, _labels(name))
        self._register(metric)
        return metric

    def histogram(self, name: str, buckets: Sequence[float] = BUCKETS) -> Histogram:
        """A new histogram."""
        metric = Histogram(name, _labels(name), buckets)
        self._register(metric)
        return metric

    def gauge(self, name: str, read: Callable[[], Reading]) -> None:
        """A number read at each scrape: `read()`, or a mapping of label values to numbers."""
        self._register(Read(name, "gauge", _labels(name), read))

    def counted(self, name: str, read: Callable[[], Reading]) -> None:
        """A number kept elsewhere that only grows."""
        self._register(Read(name, "counter", _labels(name), read))

    def exposition(self, *, openmetrics: bool = False) -> str:
        """Everything, in the Prometheus text format, or as OpenMetrics: a counter's family has no `_total`, and an end."""
        lines: list[str] = []
        for name, metric in self._families.items():
            family = name.removesuffix("_total") if openmetrics and metric.kind == "counter" else name
            lines += [f"# HELP {family} {_help(names.ALL_METRICS[name])}", f"# TYPE {family} {metric.kind}"]
            lines += metric.lines()
        if openmetrics:
            lines.append("# EOF")
        return "\n".join(lines) + "\n"

    def _register(self, metric: Counter | Histogram | Read) -> None:
        if metric.name not in names.ALL_METRICS or metric.name in self._families:
            raise ValueError(f"{metric.name} is registered twice, or not in names.ALL_METRICS")
        self._families[metric.name] = metric


class CallMetrics:
    """What is counted of tool calls. `known_tool` says whether a name is one of the catalog: others would be the model's."""

    def __init__(self, metrics: Metrics, known_tool: Callable[[str], bool]) -> None:
        self._known_tool = known_tool
        self._calls = metrics.counter(names.CALLS_TOTAL)
        self._decisions = metrics.counter(names.DECISIONS_TOTAL)
        self._deciding = metrics.counter(names.DECIDING_REASONS_TOTAL)
        self._stages = metrics.histogram(names.STAGE_SECONDS)
        self._failed_closed = metrics.counter(names.FAIL_CLOSED_TOTAL)
        self._waits = metrics.histogram(names.REVIEW_WAIT_SECONDS, WAIT_BUCKETS)
        self._faults = metrics.counter(names.TELEMETRY_FAULTS_TOTAL)
        self._reasons: set[tuple[str, str]] = set()
        for effect in Effect:
            self._decisions.add(effect.value, by=0)
        for code in sorted(FAIL_CLOSED):
            self._failed_closed.add(code.value, by=0)
        for outcome in OUTCOMES:
            self._waits.begin(outcome)

    def label(self, tool: str) -> str:
        """A tool's name as label value and in span names."""
        return tool if self._known_tool(tool) else names.OTHER

    def concluded(self, tool: str, decision: str, code: str) -> None:
        """One call has ended. `tool` is a `label`; `decision` an effect or `names.NO_DECISION`."""
        self._calls.add(tool, decision, code)
        if code in FAIL_CLOSED:
            self._failed_closed.add(code)
        elif decision != names.NO_DECISION:
            self._decisions.add(decision)

    def refused_by(self, effect: str, policy: str, reason: str) -> None:
        """What decided that a call is denied or held."""
        pair = (policy, reason)
        if pair not in self._reasons:
            plain = _REASON.fullmatch(policy) and _REASON.fullmatch(reason)
            if not plain or len(self._reasons) >= MAX_REASONS:
                pair = (names.OTHER, names.OTHER)
            else:
                self._reasons.add(pair)
        self._deciding.add(effect, *pair)

    def reviewed(self, outcome: str, seconds: float) -> None:
        """A review has ended, one of OUTCOMES, so long after it was requested."""
        self._waits.observe(seconds, outcome)

    def took(self, stages: Iterable[tuple[str, float]], total: float) -> None:
        """Seconds of one call by stage; what no stage took is overhead."""
        rest = total
        for stage, seconds in stages:
            self._stages.observe(seconds, stage)
            rest -= seconds
        self._stages.observe(max(0.0, rest), "overhead")
        self._stages.observe(total, "total")

    def fault(self) -> None:
        """Telemetry itself failed."""
        self._faults.add()


def _sample(name: str, labels: Iterable[tuple[str, str]], value: float) -> str:
    shown = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels)
    return f"{name}{{{shown}}} {_number(value)}" if shown else f"{name} {_number(value)}"


def _number(value: float) -> str:
    if isinstance(value, int):
        return str(value)
    if math.isfinite(value):
        return repr(value)
    return "NaN" if math.isnan(value) else ("+Inf" if value > 0 else "-Inf")


def _escaped(text: str) -> str:
    printable = text.encode("utf-8", "backslashreplace").decode()
    return printable.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _help(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n")


def _labels(name: str) -> tuple[str, ...]:
    return names.METRIC_LABELS.get(name, ())
