"""Counters, histograms and gauges with their own Prometheus text exposition (format 0.0.4).

Plain numbers in dictionaries: a client library costs 7 to 64 us a call for what takes one here (performance.md 2). All
calls come from the event loop, so there is nothing to lock. Label values must come from small sets; `CallMetrics` sees
to that.
"""

import math
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from proxy.telemetry import names

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

# Seconds: from a decision in OPA to a person who takes his time.
BUCKETS = (
    *(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0),
    *(60.0, 300.0, 900.0, 3600.0),
)

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
        """Count for these label values, in the order of the label names."""
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

    def observe(self, value: float, *values: str) -> None:
        """One observation for these label values."""
        counts = self._counts.get(values)
        if counts is None:
            counts = self._counts[values] = [0] * (len(self._buckets) + 1)
            self._sums[values] = 0.0
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
    """All metrics of one process. Names must be in `names.ALL_METRICS`, which has their help texts, and come once."""

    def __init__(self) -> None:
        self._families: dict[str, Counter | Histogram | Read] = {}

    def counter(self, name: str, labels: Sequence[str] = ()) -> Counter:
        """A new counter."""
        metric = Counter(name, labels)
        self._register(metric)
        return metric

    def histogram(self, name: str, labels: Sequence[str] = (), buckets: Sequence[float] = BUCKETS) -> Histogram:
        """A new histogram."""
        metric = Histogram(name, labels, buckets)
        self._register(metric)
        return metric

    def gauge(self, name: str, read: Callable[[], Reading], labels: Sequence[str] = ()) -> None:
        """A number read at each scrape: `read()`, or a mapping of label values to numbers."""
        self._register(Read(name, "gauge", labels, read))

    def counted(self, name: str, read: Callable[[], Reading], labels: Sequence[str] = ()) -> None:
        """A number kept elsewhere that only grows."""
        self._register(Read(name, "counter", labels, read))

    def exposition(self) -> str:
        """Everything, in the Prometheus text format."""
        lines: list[str] = []
        for name, metric in self._families.items():
            lines += [f"# HELP {name} {_help(names.ALL_METRICS[name])}", f"# TYPE {name} {metric.kind}"]
            lines += metric.lines()
        return "\n".join(lines) + "\n"

    def _register(self, metric: Counter | Histogram | Read) -> None:
        if metric.name not in names.ALL_METRICS or metric.name in self._families:
            raise ValueError(f"{metric.name} is registered twice, or not in names.ALL_METRICS")
        self._families[metric.name] = metric


class CallMetrics:
    """What is counted of tool calls. `known_tool` says whether a name is one of the catalog: others would be the model's."""

    def __init__(self, metrics: Metrics, known_tool: Callable[[str], bool]) -> None:
        self._known_tool = known_tool
        self._calls = metrics.counter(names.CALLS_TOTAL, ("tool", "decision", "code"))
        self._stages = metrics.histogram(names.STAGE_SECONDS, ("stage",))
        self._failed_closed = metrics.counter(names.FAIL_CLOSED_TOTAL, ("code",))
        self._faults = metrics.counter(names.TELEMETRY_FAULTS_TOTAL)

    def label(self, tool: str) -> str:
        """A tool's name as label value and in span names."""
        return tool if self._known_tool(tool) else names.OTHER

    def concluded(self, tool: str, decision: str, code: str, *, failed_closed: bool) -> None:
        """One call has ended. `tool` is a `label`."""
        self._calls.add(tool, decision, code)
        if failed_closed:
            self._failed_closed.add(code)

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
