"""How an exporter ends, within its bound and with everything counted; and what a fault of our own costs."""

import asyncio
import time

import pytest
from opentelemetry.sdk.resources import Resource

from proxy.adapters.clock import SystemClock
from proxy.telemetry.destination import read_destination
from proxy.telemetry.exporter import SpanExporter
from proxy.telemetry.logs import JsonFormatter
from tests.telemetry.exporting import BASE, NEVER, SOON, TellingClock, dropped, exporting, started
from tests.telemetry.receiver import Receiver, Reply
from tests.telemetry.samples import ROOT, SECRET


async def test_shutdown_keeps_its_bound_beside_a_hanging_collector(receiver: Receiver) -> None:
    """SIGTERM has a grace time; what is not through by then is counted."""
    receiver.default = Reply(hang=True)
    exporter = started({BASE: receiver.url} | SOON, SystemClock())
    exporter.offer(ROOT)
    await receiver.until(lambda r: len(r.received) == 1)
    exporter.offer(ROOT)
    began = time.monotonic()
    await exporter.shutdown(0.2)
    assert time.monotonic() - began < 2
    assert exporter.dropped == 2


async def test_shutdown_sends_what_is_queued(receiver: Receiver) -> None:
    """Spans that ended a moment before the process does."""
    async with exporting({BASE: receiver.url} | NEVER) as exporter:
        for _ in range(1500):
            exporter.offer(ROOT)
    assert len(receiver.spans) == 1500
    assert exporter.dropped == 0


async def test_shutdown_does_not_sit_out_a_back_off(receiver: Receiver) -> None:
    """What waited for its next attempt gets it at once, what was queued is tried once."""
    receiver.default = Reply(status=503, headers={"Retry-After": "25"})
    clock = TellingClock(25)
    exporter = started({BASE: receiver.url} | SOON, clock)
    exporter.offer(ROOT)
    await asyncio.wait_for(clock.asleep.wait(), 10)
    exporter.offer(ROOT)
    began = time.monotonic()
    await exporter.shutdown(10)
    assert time.monotonic() - began < 2
    assert exporter.dropped == 2
    assert len(receiver.received) == 3


async def test_spans_after_the_end_are_lost_without_harm(receiver: Receiver) -> None:
    """A call that outlives its process's telemetry."""
    async with exporting({BASE: receiver.url}) as exporter:
        pass
    exporter.offer(ROOT)
    await exporter.shutdown(1)
    assert exporter.dropped == 1


async def test_a_fault_of_our_own_is_said_once_a_minute_and_costs_its_batch_only(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """What no transport should ever raise."""
    destination = read_destination({BASE: "http://127.0.0.1:1"} | SOON)
    assert destination is not None
    exporter = SpanExporter(destination, Resource({}), Broken(), SystemClock())
    exporter.start()
    for lost in range(1, 4):
        exporter.offer(ROOT)
        await dropped(exporter, lost)
    await exporter.shutdown(1)
    (record,) = caplog.records
    assert record.exc_info is not None
    assert record.__dict__["fields"]["why"] == "a fault of Sidegate's own"
    assert SECRET not in JsonFormatter().format(record)


class Broken:
    """Port Transport that breaks its promise."""

    async def send(self, body: bytes) -> int:
        """Never."""
        raise RuntimeError(SECRET)

    async def close(self) -> None:
        """Nothing to close."""
