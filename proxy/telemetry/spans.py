"""Spans without the SDK's span objects: a slotted object while one is open, one tuple when it has ended.

What a span costs is paid on the hot path of every call (performance.md 2): start, twelve attributes and end take a few
microseconds here. Encoding and sending happen elsewhere, later (`encode`, `exporter`).
"""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from random import getrandbits
from typing import NamedTuple

from proxy.model import SpanContext
from proxy.ports import Clock, Span
from proxy.telemetry.names import ERROR_TYPE, SPAN_SERVER
from proxy.telemetry.variables import SpanLimits, Variables, read_limits, read_sampling

Value = str | float | bool | Sequence[str]
Attributes = Mapping[str, Value]

_LOW_64 = slice(16, 32)  # hex digits of the low 64 bits of a trace id
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class SpanEvent(NamedTuple):
    """Something that happened at one moment of a span. Time is in nanoseconds since 1970."""

    name: str
    time: int
    attributes: Attributes


class Dropped(NamedTuple):
    """How many were over the limits."""

    attributes: int
    events: int
    links: int


class SpanRecord(NamedTuple):
    """An ended span. Ids are lower-case hex, times nanoseconds since 1970, `parent_id` is empty for a root."""

    trace_id: str
    span_id: str
    parent_id: str
    remote_parent: bool
    state: str
    name: str
    kind: str
    start: int
    end: int
    error: bool
    attributes: Attributes
    events: tuple[SpanEvent, ...]
    links: tuple[SpanContext, ...]
    dropped: Dropped | None


Sink = Callable[[SpanRecord], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """What all spans of one tracer share."""

    clock: Clock
    limits: SpanLimits
    sinks: tuple[Sink, ...]


class CompactTracer:
    """Port Tracer over `sinks`, which take each recorded span at its end and must neither block nor raise.

    Sampling by OTEL_TRACES_SAMPLER(_ARG) as the SDK's samplers decide it, with one difference: a parent elsewhere that
    is not sampled leaves the choice to our own root sampler, so that a remote flag raises and never lowers. Spans
    that end with an error, that are kept, or that started with `record` are recorded whatever the sampler said. Without
    sinks nothing is recorded and a parent's context is handed on as it came.
    """

    def __init__(self, variables: Variables, clock: Clock, sinks: Sequence[Sink]) -> None:
        self._sampling = read_sampling(variables)
        self._recording = Recording(clock=clock, limits=read_limits(variables), sinks=tuple(sinks))

    def start(
        self,
        name: str,
        kind: str,
        parent: SpanContext | None,
        *,
        links: Sequence[SpanContext] = (),
        record: bool = False,
    ) -> "CompactSpan":
        """Kind: server (its parent is in another process), client or internal."""
        trace_id = os.urandom(16).hex() if parent is None else parent.trace_id
        if not self._recording.sinks:
            context = parent or SpanContext(trace_id=trace_id, span_id=_span_id(), sampled=False)
            return CompactSpan(self._recording, context, name, kind, None, ())
        context = SpanContext(
            trace_id=trace_id,
            span_id=_span_id(),
            sampled=record or self._samples(trace_id, kind, parent),
            state="" if parent is None else parent.state,
        )
        return CompactSpan(self._recording, context, name, kind, parent, links)

    def _samples(self, trace_id: str, kind: str, parent: SpanContext | None) -> bool:
        if parent is not None and self._sampling.parent_based and (parent.sampled or kind != SPAN_SERVER):
            return parent.sampled
        return int(trace_id[_LOW_64], 16) < self._sampling.bound


class CompactSpan:
    """Port Span. Attributes, events and links over the limits are left out and counted."""

    __slots__ = (
        "_attributes",
        "_began",
        "_dropped",
        "_dropped_events",
        "_ended",
        "_events",
        "_keep",
        "_kind",
        "_links",
        "_name",
        "_parent",
        "_recording",
        "_start",
        "context",
    )

    def __init__(
        self,
        recording: Recording,
        context: SpanContext,
        name: str,
        kind: str,
        parent: SpanContext | None,
        links: Sequence[SpanContext],
    ) -> None:
        self.context = context
        self._recording = recording
        self._name = name
        self._kind = kind
        self._parent = parent
        self._links = links
        self._attributes: dict[str, Value] = {}
        self._events: list[SpanEvent] | None = None
        self._dropped = self._dropped_events = 0
        self._keep = context.sampled
        self._ended = not recording.sinks  # an inert span, since nobody takes it
        self._start = _nanoseconds(recording.clock.now())
        self._began = recording.clock.monotonic()

    @property
    def recording(self) -> bool:
        """Whether it can still be recorded: it has not ended, and somebody takes it."""
        return not self._ended

    def update(self, attributes: Attributes) -> None:
        """Set or replace these attributes. None is not a value; callers leave it out."""
        if self._ended:
            return
        limits, own = self._recording.limits, self._attributes
        if limits.length is None and len(own) + len(attributes) <= limits.attributes:
            own.update(attributes)
            return
        for key, value in attributes.items():
            if len(own) >= limits.attributes and key not in own:
                self._dropped += 1
            else:
                own[key] = _cut(value, limits.length)

    def event(self, name: str, attributes: Attributes) -> None:
        """Something that happened just now."""
        if self._ended:
            return
        limits = self._recording.limits
        events = self._events = [] if self._events is None else self._events
        if len(events) >= limits.events:
            self._dropped_events += 1
            return
        kept = {key: _cut(value, limits.length) for key, value in list(attributes.items())[: limits.attributes]}
        events.append(SpanEvent(name, self._now(), kept))

    def keep(self) -> None:
        """Record this span whatever the sampler said."""
        self._keep = True

    def end(self, *, error_type: str | None = None) -> None:
        """End it once; later calls do nothing."""
        if self._ended:
            return
        if error_type is not None:
            self._attributes[ERROR_TYPE] = error_type  # over any limit: an error without its type says nothing
        self._ended = True
        if not self._keep and error_type is None:
            return
        record = self._record(error=error_type is not None)
        for sink in self._recording.sinks:
            sink(record)

    def _record(self, *, error: bool) -> SpanRecord:
        context, parent = self.context, self._parent
        kept = self._recording.limits.links
        dropped = Dropped(self._dropped, self._dropped_events, max(0, len(self._links) - kept))
        return SpanRecord(
            context.trace_id,
            context.span_id,
            "" if parent is None else parent.span_id,
            parent is not None and self._kind == SPAN_SERVER,
            context.state,
            self._name,
            self._kind,
            self._start,
            self._now(),
            error,
            self._attributes,
            tuple(self._events or ()),
            tuple(self._links[:kept]),
            dropped if any(dropped) else None,
        )

    def _now(self) -> int:
        """Start plus what a clock says that never goes back: no span ends before it began."""
        return self._start + int((self._recording.clock.monotonic() - self._began) * 1e9)


def _span_id() -> str:
    """Random, not zero (W3C Trace Context); no secret, so the generator need not ask the kernel."""
    return f"{getrandbits(64) or 1:016x}"


def keep(span: Span) -> None:
    """Have a span recorded whatever the sampler said, if it is one of ours."""
    if isinstance(span, CompactSpan):
        span.keep()


def _cut(value: Value, length: int | None) -> Value:
    if length is None or isinstance(value, bool | int | float):
        return value
    return value[:length] if isinstance(value, str) else tuple(item[:length] for item in value)


def _nanoseconds(moment: datetime) -> int:
    since = moment - _EPOCH
    return (since.days * 86400 + since.seconds) * 1_000_000_000 + since.microseconds * 1000
