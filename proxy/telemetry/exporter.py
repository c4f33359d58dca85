"""Ended spans on their way to a collector, in the background: no call waits for it, whatever the collector does.

Encoding holds the interpreter, so it happens a few spans a turn with pauses between (performance.md 6). The queue is
bounded; what does not fit, is refused, or runs out of retries is counted as dropped and logged at most once a minute.
"""

import asyncio
import logging
import random
from collections import deque
from collections.abc import Awaitable
from itertools import count

from opentelemetry.sdk.resources import Resource

from proxy.adapters.seldom import Seldom
from proxy.ports import Clock
from proxy.telemetry.destination import Destination
from proxy.telemetry.encode import SpanBatch
from proxy.telemetry.spans import SpanRecord
from proxy.telemetry.transport import SendFailed, Transport, fix_of, transport_to
from proxy.telemetry.variables import Variables, read_resource

_TURN = 24  # spans encoded in one turn of the event loop
_PAUSE = 0.004  # seconds between such turns
_FIRST_RETRY = 1.0  # seconds; doubled each time, half of it random
_MAX_THROTTLE = 300.0  # seconds that a collector's Retry-After can silence us

_logger = logging.getLogger(__name__)


class SpanExporter:
    """A sink of the tracer (`offer`) and the task that empties it. `start` needs a running loop."""

    def __init__(self, destination: Destination, resource: Resource, transport: Transport, clock: Clock) -> None:
        self.destination = destination
        self._resource = resource
        self._transport = transport
        self._clock = clock
        self._seldom = Seldom(clock)
        self._queue: deque[SpanRecord] = deque(maxlen=destination.queue)
        self._wake = asyncio.Event()
        self._closing = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._on_the_way = 0
        self.dropped = 0

    def offer(self, record: SpanRecord) -> None:
        """Take an ended span; the oldest one makes room if there is none."""
        if len(self._queue) == self.destination.queue:
            self.dropped += 1
        self._queue.append(record)
        if len(self._queue) >= self.destination.batch:
            self._wake.set()

    def start(self) -> None:
        """Begin to export."""
        self._task = asyncio.create_task(self._run(), name="span exporter")

    async def shutdown(self, seconds: float) -> None:
        """Export what is left, each batch tried once, and be done after `seconds` at the latest."""
        self._closing.set()
        self._wake.set()
        if self._task is not None:
            _, late = await asyncio.wait({self._task}, timeout=seconds)
            for task in late:
                task.cancel()
                await asyncio.wait({task})
        self._lose(self._on_the_way + len(self._queue), "Sidegate stopped")
        self._on_the_way = 0
        self._queue.clear()
        await self._transport.close()

    async def _run(self) -> None:
        while not self._closing.is_set():
            await self._until(self._wake, self.destination.delay)
            self._wake.clear()
            await self._export()
        while self._queue:
            await self._export()

    async def _export(self) -> None:
        """What is queued now, and more while there are whole batches."""
        while self._queue:
            try:
                await self._send(await self._encoded())
            except Exception as fault:  # noqa: BLE001 - whatever breaks in here, the next batch is tried
                self._lose(self._on_the_way, "a fault of Sidegate's own", fault)
            self._on_the_way = 0
            if len(self._queue) < self.destination.batch:
                return

    async def _encoded(self) -> bytes:
        batch = SpanBatch(self._resource)
        while self._queue and self._on_the_way < self.destination.batch:
            turn = min(_TURN, self.destination.batch - self._on_the_way, len(self._queue))
            records = [self._queue.popleft() for _ in range(turn)]
            self._on_the_way += turn
            batch.add(records)
            await self._clock.sleep(_PAUSE)
        return batch.to_bytes()

    async def _send(self, body: bytes) -> None:
        deadline = self._clock.monotonic() + self.destination.budget
        for attempt in count():
            failure = await self._tried(body)
            if failure is None:
                return
            pause = failure.after
            if pause is None:
                pause = _FIRST_RETRY * 2**attempt * random.uniform(0.5, 1)  # noqa: S311 - jitter is no secret
            if not failure.retry or self._closing.is_set() or self._clock.monotonic() + pause >= deadline:
                self._lose(self._on_the_way, failure.why)
                await self._until(self._closing, min(failure.after or 0.0, _MAX_THROTTLE))
                return
            await self._until(self._closing, pause)

    async def _tried(self, body: bytes) -> SendFailed | None:
        try:
            rejected = await self._transport.send(body)
        except SendFailed as failure:
            return failure
        self._lose(rejected, "the collector rejected them")
        return None

    def _lose(self, spans: int, why: str, fault: Exception | None = None) -> None:
        if spans <= 0:
            return
        self.dropped += spans
        if self._seldom.due("lost") is not None:
            fields = {"why": why, "spans": spans, "dropped": self.dropped, "endpoint": self.destination.place}
            if fix := fix_of(why):
                fields["fix"] = fix
            _logger.warning("spans did not reach the collector", extra={"fields": fields}, exc_info=fault)

    async def _until(self, event: asyncio.Event, seconds: float) -> None:
        """Wait for the event or so long."""
        waits: tuple[Awaitable[object], ...] = (self._clock.sleep(seconds), event.wait())
        tasks = [asyncio.ensure_future(wait) for wait in waits]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()


def exporter_to(destination: Destination, variables: Variables, clock: Clock) -> SpanExporter:
    """The exporter to a collector, with the resource that the `OTEL_*` variables describe."""
    return SpanExporter(destination, read_resource(variables), transport_to(destination), clock)
