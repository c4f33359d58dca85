"""Spans on their way to a collector that is well, dead, hanging, slow or refusing; real sockets throughout."""

import asyncio
import logging
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest

from proxy.adapters.clock import SystemClock
from proxy.telemetry.spans import CompactTracer
from tests.telemetry.exporting import BASE, NEVER, PATHS, SOON, closed_port, dropped, exporting, made
from tests.telemetry.receiver import Receiver, Reply, attributes, tree
from tests.telemetry.samples import FULL, ROOT, SECRET, SteppedClock


async def test_spans_arrive_with_who_emitted_them(receiver: Receiver) -> None:
    """A tracer, a queue, a request, a collector."""
    variables = {BASE: receiver.url, "OTEL_RESOURCE_ATTRIBUTES": "k8s.pod.name=buyer-0", **SOON}
    async with exporting(variables) as exporter:
        tracer = CompactTracer(variables, SystemClock(), [exporter.offer])
        root = tracer.start("execute_tool price.list", "server", None)
        tracer.start("decide", "internal", root.context).end()
        root.end()
        await receiver.until(lambda r: len(r.spans) == 2)
    of_resource = receiver.received[0].message.resource_spans[0]
    assert attributes(of_resource.resource)["k8s.pod.name"] == "buyer-0"
    assert attributes(of_resource.resource)["service.name"] == "sidegate"
    assert of_resource.scope_spans[0].schema_url.endswith("/1.45.0")
    assert receiver.received[0].headers["Content-Type"] == "application/x-protobuf"
    assert {span.trace_id.hex() for span in receiver.spans} == {root.context.trace_id}
    assert tree(receiver.spans) == {"": ["execute_tool price.list"], "execute_tool price.list": ["decide"]}
    assert exporter.dropped == 0


@pytest.mark.parametrize(("variable", "suffix", "path"), PATHS)
async def test_the_path_that_the_collector_sees(receiver: Receiver, variable: str, suffix: str, path: str) -> None:
    """As the table in `destination` says."""
    async with exporting({variable: receiver.url + suffix} | SOON) as exporter:
        exporter.offer(ROOT)
        await receiver.until(lambda r: bool(r.spans))
    assert receiver.received[0].path == path


async def test_headers_and_compression(receiver: Receiver) -> None:
    """Both from the standard variables."""
    variables = {BASE: receiver.url, "OTEL_EXPORTER_OTLP_HEADERS": "x-tenant=a%20b", **SOON}
    async with exporting(variables | {"OTEL_EXPORTER_OTLP_COMPRESSION": "gzip"}) as exporter:
        exporter.offer(FULL)
        await receiver.until(lambda r: bool(r.spans))
    received = receiver.received[0]
    assert (received.headers["x-tenant"], received.headers["Content-Encoding"]) == ("a b", "gzip")
    assert receiver.spans[0].name == FULL.name


async def test_full_batches_do_not_wait_for_the_schedule(receiver: Receiver) -> None:
    """512 spans wake the exporter; what does not fill a batch waits, and is sent at the end."""
    async with exporting({BASE: receiver.url} | NEVER) as exporter:
        for _ in range(1100):
            exporter.offer(ROOT)
        await receiver.until(lambda r: len(r.received) == 2)
        assert len(receiver.spans) == 1024
    assert len(receiver.spans) == 1100
    assert exporter.dropped == 0


async def test_encoding_pauses_between_short_turns(receiver: Receiver) -> None:
    """24 spans a turn, then 4 ms in which calls go on."""
    clock = SteppedClock()
    async with exporting({BASE: receiver.url} | NEVER, clock) as exporter:
        for _ in range(240):
            exporter.offer(ROOT)
        await receiver.until(lambda r: len(r.spans) == 240)
    assert clock.slept.count(0.004) == 10


async def test_the_queue_is_bounded_and_what_falls_out_is_counted() -> None:
    """The newest are kept. No collector is needed to find that out."""
    variables = {BASE: f"http://127.0.0.1:{closed_port()}", "OTEL_BSP_MAX_QUEUE_SIZE": "100"}
    exporter = made(variables, SystemClock())
    for _ in range(10_000):
        exporter.offer(ROOT)
    assert exporter.dropped == 9_900
    await exporter.shutdown(1)
    assert exporter.dropped == 10_000


async def test_nobody_listens(caplog: pytest.LogCaptureFixture) -> None:
    """Retried while the budget lasts, then counted and said."""
    clock = SteppedClock()
    async with exporting({BASE: f"http://127.0.0.1:{closed_port()}"}, clock) as exporter:
        exporter.offer(ROOT)
        await dropped(exporter, 1)
    backoff = [seconds for seconds in clock.slept if 0.4 < seconds < 20 and seconds != 5.0]
    assert len(backoff) >= 4
    assert all(0.5 <= seconds / 2**n <= 1 for n, seconds in enumerate(backoff))
    assert sum(backoff) < 30
    assert caplog.records[0].__dict__["fields"]["why"] == "ClientConnectorError"


async def test_a_dead_collector_is_mentioned_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    """However many batches are lost."""
    variables = {BASE: f"http://127.0.0.1:{closed_port()}", "OTEL_BSP_EXPORT_TIMEOUT": "1", **SOON}
    async with exporting(variables) as exporter:
        for lost in range(1, 6):
            exporter.offer(ROOT)
            await dropped(exporter, lost)
    assert len(caplog.records) == 1


async def test_a_hanging_collector_ends_with_the_attempts_timeout(
    receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    """It accepts and never answers."""
    receiver.default = Reply(hang=True)
    variables = {BASE: receiver.url, "OTEL_EXPORTER_OTLP_TIMEOUT": "2", "OTEL_BSP_EXPORT_TIMEOUT": "2500", **SOON}
    async with exporting(variables) as exporter:
        exporter.offer(ROOT)
        await receiver.until(lambda r: bool(r.received))
        await dropped(exporter, 1)
    assert caplog.records[0].__dict__["fields"]["why"] == "TimeoutError"


@pytest.mark.parametrize("status", [429, 502, 503, 504])
async def test_a_busy_collector_is_asked_again_when_it_says(receiver: Receiver, status: int) -> None:
    """Retry-After in seconds or as a date."""
    clock = SteppedClock()
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=3600), usegmt=True)
    receiver.replies.append(Reply(status=status, headers={"Retry-After": "7"}))
    variables = {BASE: receiver.url, "OTEL_BSP_EXPORT_TIMEOUT": "5000000"}
    async with exporting(variables, clock) as exporter:
        exporter.offer(ROOT)
        await receiver.until(lambda r: len(r.spans) == 1)
        receiver.replies.append(Reply(status=status, headers={"Retry-After": date}))
        exporter.offer(ROOT)
        await receiver.until(lambda r: len(r.spans) == 2)
    assert 7.0 in clock.slept
    assert any(3500 < seconds <= 3600 for seconds in clock.slept)
    assert exporter.dropped == 0


async def test_a_wait_over_the_budget_costs_the_batch_and_is_kept_all_the_same(receiver: Receiver) -> None:
    """The collector asked for quiet."""
    clock = SteppedClock()
    receiver.replies.append(Reply(status=429, headers={"Retry-After": "100"}))
    async with exporting({BASE: receiver.url}, clock) as exporter:
        exporter.offer(ROOT)
        await dropped(exporter, 1)
        exporter.offer(FULL)
        await receiver.until(lambda r: len(r.spans) == 1)
    assert 100.0 in clock.slept
    assert [span.name for span in receiver.spans] == [FULL.name]


@pytest.mark.parametrize("status", [301, 400, 401, 404, 413, 500])
async def test_other_answers_are_final(receiver: Receiver, status: int) -> None:
    """Asking again would change nothing; a redirect is not followed."""
    receiver.replies.append(Reply(status=status, headers={"Location": "/elsewhere"}))
    async with exporting({BASE: receiver.url} | SOON) as exporter:
        exporter.offer(ROOT)
        await dropped(exporter, 1)
    assert len(receiver.received) == 1


async def test_a_slow_collector_gets_everything(receiver: Receiver) -> None:
    """Spans that end meanwhile wait in the queue."""
    receiver.default = Reply(delay=0.1)
    async with exporting({BASE: receiver.url} | SOON) as exporter:
        exporter.offer(ROOT)
        await receiver.until(lambda r: len(r.received) == 1)
        exporter.offer(FULL)
        await receiver.until(lambda r: len(r.received) == 2)
    assert [span.name for span in receiver.spans] == [ROOT.name, FULL.name]
    assert exporter.dropped == 0


async def test_spans_that_the_collector_rejects_are_counted(receiver: Receiver) -> None:
    """Partial success."""
    receiver.replies.append(Reply(rejected=2))
    async with exporting({BASE: receiver.url} | SOON) as exporter:
        for _ in range(3):
            exporter.offer(ROOT)
        await dropped(exporter, 2)
    assert exporter.dropped == 2


async def test_a_server_that_speaks_something_else_is_survived(caplog: pytest.LogCaptureFixture) -> None:
    """HTTP to a port that answers with bytes of another protocol."""

    async def babble(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"\x00\x00\x12\x04\x00\x00\x00\x00\x00")
        writer.close()

    async with await asyncio.start_server(babble, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        variables = {BASE: f"http://127.0.0.1:{port}", "OTEL_BSP_EXPORT_TIMEOUT": "100", **SOON}
        async with exporting(variables) as exporter:
            exporter.offer(ROOT)
            await dropped(exporter, 1)
    assert len(caplog.records) == 1


async def test_a_certificate_that_is_not_there_costs_spans_only(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It may be mounted later; Sidegate starts without."""
    variables = {BASE: "https://127.0.0.1:1", "OTEL_EXPORTER_OTLP_CERTIFICATE": str(tmp_path / "none.pem")}
    async with exporting(variables | SOON | {"OTEL_BSP_EXPORT_TIMEOUT": "100"}) as exporter:
        exporter.offer(ROOT)
        await dropped(exporter, 1)
    assert caplog.records[0].__dict__["fields"]["why"] == "FileNotFoundError"


async def test_no_credential_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """Neither a header's nor the URL's."""
    caplog.set_level(logging.DEBUG)
    variables = {
        BASE: f"http://user:{SECRET}@127.0.0.1:{closed_port()}",
        "OTEL_EXPORTER_OTLP_HEADERS": f"authorization=Bearer%20{SECRET}",
        "OTEL_BSP_EXPORT_TIMEOUT": "100",
    }
    async with exporting(variables | SOON) as exporter:
        exporter.offer(ROOT)
        await dropped(exporter, 1)
        said = [str(record.__dict__) for record in caplog.records]
    assert any("127.0.0.1" in line for line in said)
    assert not any(SECRET in line for line in said)
