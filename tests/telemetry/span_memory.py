"""The last spans kept in memory, and a trace of them drawn as a tree."""

from collections import deque
from collections.abc import Iterator, Mapping

from proxy.telemetry import names
from proxy.telemetry.spans import SpanRecord

_SHOWN = (names.DECISION, names.REASON, names.CODE, names.REVIEW_ID, names.REVIEW_STATUS, names.HTTP_STATUS)


class SpanMemory:
    """A sink of the tracer that keeps the last `size` spans."""

    def __init__(self, size: int = 4096) -> None:
        self._records: deque[SpanRecord] = deque(maxlen=size)

    def offer(self, record: SpanRecord) -> None:
        """Keep one."""
        self._records.append(record)

    def spans(self, trace_id: str | None = None) -> tuple[SpanRecord, ...]:
        """Spans of one trace or of all, in the order in which they ended."""
        return tuple(r for r in self._records if trace_id is None or r.trace_id == trace_id)

    def tree(self, trace_id: str) -> tuple[str, ...]:
        """One line a span, indented below its parent, by start: name, milliseconds, what matters of its attributes."""
        records = sorted(self.spans(trace_id), key=lambda record: record.start)
        known = {record.span_id for record in records}
        below: dict[str, list[SpanRecord]] = {}
        for record in records:
            below.setdefault(record.parent_id if record.parent_id in known else "", []).append(record)
        return tuple(_lines(below, "", 0))


def _lines(below: Mapping[str, list[SpanRecord]], parent: str, depth: int) -> Iterator[str]:
    for record in below.get(parent, ()):
        yield _line(record, depth)
        yield from _lines(below, record.span_id, depth + 1)


def _line(record: SpanRecord, depth: int) -> str:
    took = f"{(record.end - record.start) / 1e6:.1f} ms"
    shown = [f"{key.rpartition('.')[2]}={record.attributes[key]}" for key in _SHOWN if key in record.attributes]
    error = record.attributes.get(names.ERROR_TYPE)
    failed = [f"error={error}"] if record.error else []
    linked = [f"linked to {context.span_id}" for context in record.links]
    return "  ".join(["  " * depth + record.name, took, *shown, *failed, *linked])
