"""An exporter at work, for tests."""

import asyncio
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from proxy.adapters.clock import SystemClock
from proxy.ports import Clock
from proxy.telemetry.destination import read_destination
from proxy.telemetry.exporter import SpanExporter, exporter_to

BASE = "OTEL_EXPORTER_OTLP_ENDPOINT"
OURS = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"
SOON = {"OTEL_BSP_SCHEDULE_DELAY": "5"}
NEVER = {"OTEL_BSP_SCHEDULE_DELAY": "3600000"}
# Variable, what stands behind the collector's address, the path that the collector sees: the table in `destination`.
PATHS = (
    (BASE, "", "/v1/traces"),
    (BASE, "/", "/v1/traces"),
    (BASE, "/otlp", "/otlp/v1/traces"),
    (BASE, "/v1/traces", "/v1/traces/v1/traces"),
    (OURS, "/v1/traces", "/v1/traces"),
    (OURS, "/v1/traces/", "/v1/traces/"),
    (OURS, "", "/"),
    (OURS, "/other", "/other"),
)


def started(variables: Mapping[str, str], clock: Clock) -> SpanExporter:
    """An exporter at work, to be shut down by the test."""
    exporter = made(variables, clock)
    exporter.start()
    return exporter


def made(variables: Mapping[str, str], clock: Clock) -> SpanExporter:
    """An exporter that has not begun."""
    destination = read_destination(variables)
    assert destination is not None
    return exporter_to(destination, variables, clock)


@asynccontextmanager
async def exporting(variables: Mapping[str, str], clock: Clock | None = None) -> AsyncIterator[SpanExporter]:
    """An exporter at work."""
    exporter = started(variables, clock or SystemClock())
    try:
        yield exporter
    finally:
        await exporter.shutdown(5)


class TellingClock(SystemClock):
    """The real time, and an event for when somebody goes to sleep for so long."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.asleep = asyncio.Event()

    async def sleep(self, seconds: float) -> None:
        """As long as asked."""
        if seconds == self.seconds:
            self.asleep.set()
        await super().sleep(seconds)


async def dropped(exporter: SpanExporter, count: int) -> None:
    """Until so many spans are given up."""
    async with asyncio.timeout(10):
        while exporter.dropped < count:  # noqa: ASYNC110 - the number is public, an event behind it would be for tests only
            await asyncio.sleep(0.005)


def closed_port() -> int:
    """One that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
