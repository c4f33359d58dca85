"""Collectors that are dead, hang, are slow, refuse, or are asked wrongly: no call notices, and the log says it once."""

import asyncio
import contextlib
import json
import re
import statistics
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc.aio  # type: ignore[import-untyped] # grpcio ships no types
import pytest

from tests.e2e.jaeger_story import maps
from tests.e2e.rig import Rig
from tests.e2e.sidecar import free_ports
from tests.telemetry.certificates import make_authority, server_side
from tests.telemetry.receiver import Receiver, Reply, receiving

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

HURRY = {
    "OTEL_BSP_SCHEDULE_DELAY": "20",
    "OTEL_BSP_EXPORT_TIMEOUT": "400",  # over before a second attempt
}
SILENT = ("hangs", "mute")  # the others answer, and on a busy machine that may take its time
SAID = "spans did not reach the collector"
FLUSH_SECONDS = 3.0


@contextlib.asynccontextmanager
async def collector(fault: str, folder: Path) -> AsyncIterator[str]:
    """A collector with this fault; its base URL."""
    if fault == "dead":
        yield f"http://127.0.0.1:{next(free_ports(1))}"
    elif fault == "mute":
        async with hanging() as url:
            yield url
    elif fault in {"untrusted", "wants TLS"}:
        authority = make_authority(folder)
        async with receiving(server_side(authority)) as receiver:
            yield receiver.url if fault == "untrusted" else receiver.url.replace("https://", "http://")
    elif fault == "refuses over gRPC":
        async with refusing_grpc() as url:
            yield url
    else:
        async with receiving() as receiver:
            receiver.default = Reply(hang=True) if fault == "hangs" else Reply(status=int(fault))
            yield receiver.url


@contextlib.asynccontextmanager
async def hanging() -> AsyncIterator[str]:
    """A server that takes connections and never says a word."""
    over = asyncio.Event()

    async def mute(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await over.wait()
        writer.close()

    server = await asyncio.start_server(mute, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        over.set()
        server.close()


@contextlib.asynccontextmanager
async def refusing_grpc() -> AsyncIterator[str]:
    """A gRPC server without the service of traces."""
    server = grpc.aio.server()
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        await server.stop(None)


@pytest.mark.parametrize(
    ("protocol", "fault", "why", "fix"),
    [
        ("http/protobuf", "dead", "ClientConnectorError", "host and port"),
        ("http/protobuf", "hangs", "TimeoutError", "OTEL_EXPORTER_OTLP_TIMEOUT"),
        ("http/protobuf", "mute", "TimeoutError", "OTEL_EXPORTER_OTLP_TIMEOUT"),
        ("http/protobuf", "503", "HTTP 503", "overloaded or starting"),
        ("http/protobuf", "429", "HTTP 429", "raise its limit"),
        ("http/protobuf", "502", "HTTP 502", "does not reach it"),
        ("http/protobuf", "404", "HTTP 404", "/v1/traces"),
        # Its alert and its reset race for us.
        ("http/protobuf", "wants TLS", ("ServerDisconnectedError", "ClientOSError"), "https://"),
        ("http/protobuf", "untrusted", "ClientConnectorCertificateError", "OTEL_EXPORTER_OTLP_CERTIFICATE"),
        ("http/protobuf", "refuses over gRPC", "", "OTEL_EXPORTER_OTLP_PROTOCOL=grpc"),
        ("grpc", "dead", "gRPC UNAVAILABLE", "host, port"),
        ("grpc", "mute", "gRPC DEADLINE_EXCEEDED", "OTEL_EXPORTER_OTLP_TIMEOUT"),
        ("grpc", "untrusted", "gRPC UNAVAILABLE", "OTEL_EXPORTER_OTLP_CERTIFICATE"),
        ("grpc", "refuses over gRPC", "gRPC UNIMPLEMENTED", "no spans over gRPC"),
    ],
)
async def test_no_call_notices_and_the_log_says_it_once(
    prepared: Rig, tmp_path: Path, protocol: str, fault: str, why: str | tuple[str, ...], fix: str
) -> None:
    """Calls and probes are answered as ever while batch after batch is lost; losses are counted; the end keeps its bound."""
    (tmp_path / "tls").mkdir()
    async with collector(fault, tmp_path / "tls") as url:
        prepared.environment = HURRY | {
            "OTEL_EXPORTER_OTLP_ENDPOINT": url,
            "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
            "OTEL_EXPORTER_OTLP_TIMEOUT": "0.2" if fault in SILENT else "5",
        }
        await prepared.start()
        handle = await prepared.register("c1")
        took, lost = list[float](), 0.0
        while lost < 12:  # at least two batches
            began = time.monotonic()
            assert (await prepared.send(handle, "get_stock")).status == 200
            took.append(time.monotonic() - began)
            lost = await dropped(prepared)
        assert await probes(prepared) == {"live": 200, "ready": 200}
        assert statistics.median(took) < 0.5, took  # one may meet a moment in which the machine stood still
        (said,) = [line for line in lines(prepared) if line["message"] == SAID]
        assert said["why"].startswith(why)
        assert fix in said.get("fix", "")
        assert said["spans"] > 0
        assert said["endpoint"].startswith(url if protocol == "http/protobuf" else url.partition("//")[2])
        began = time.monotonic()
        assert await prepared.stop() == 0
        assert time.monotonic() - began < FLUSH_SECONDS + 3
        assert len([line for line in lines(prepared) if line["message"] == SAID]) == 1


async def probes(rig: Rig) -> dict[str, int]:
    """What both answer at present."""
    answers = {}
    for name in ("live", "ready"):
        async with rig.session.get(rig.url("probe") + f"/healthz/{name}") as response:
            answers[name] = response.status
    return answers


async def dropped(rig: Rig) -> float:
    """Spans lost so far, as the metric has it."""
    async with rig.session.get(rig.url("probe") + "/metrics") as response:
        found = re.search(r"^sidegate_spans_dropped_total (\S+)$", await response.text(), re.MULTILINE)
    assert found is not None
    return float(found[1])


def lines(rig: Rig) -> list[dict[str, Any]]:
    """The log: JSON, all of it, whatever gRPC or OPA would like to say."""
    return [json.loads(line) for line in rig.log().splitlines()]


async def test_a_slow_collector_gets_everything(prepared: Rig) -> None:
    """Each request takes its time; nothing is lost, no call waits."""
    async with receiving() as receiver:
        receiver.default = Reply(delay=0.3)
        prepared.environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url, "OTEL_BSP_SCHEDULE_DELAY": "20"}
        await prepared.start()
        handle = await prepared.register("c1")
        for _ in range(40):
            assert (await prepared.send(handle, "get_stock")).status == 200
        assert await prepared.stop() == 0
        assert len(receiver.named("execute_tool get_stock")) == 40


async def test_sigterm_flushes_what_has_not_been_sent(prepared: Rig) -> None:
    """Before the schedule would ever have come."""
    async with receiving() as receiver:
        prepared.environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url, "OTEL_BSP_SCHEDULE_DELAY": "3600000"}
        await prepared.start()
        handle = await prepared.register("c1")
        assert (await prepared.send(handle, "get_stock")).status == 200
        assert ours(receiver) == []
        assert await prepared.stop() == 0
        assert len(receiver.named("execute_tool get_stock")) == 1


@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
async def test_a_hanging_collector_does_not_hold_up_the_end(prepared: Rig, protocol: str) -> None:
    """With the standard's own times, which are longer than anybody's grace."""
    async with hanging() as url:
        prepared.environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": url, "OTEL_EXPORTER_OTLP_PROTOCOL": protocol}
        await prepared.start()
        handle = await prepared.register("c1")
        assert (await prepared.send(handle, "get_stock")).status == 200
        began = time.monotonic()
        assert await prepared.stop() == 0
        assert FLUSH_SECONDS - 0.5 < time.monotonic() - began < FLUSH_SECONDS + 3
        (said,) = [line for line in lines(prepared) if line["message"] == SAID]
        assert (said["why"], said["spans"]) == ("Sidegate stopped", 3)


@pytest.mark.parametrize("off", [{"OTEL_SDK_DISABLED": "true"}, {"OTEL_TRACES_EXPORTER": "none"}])
async def test_switched_off_nothing_is_sent(prepared: Rig, off: dict[str, str]) -> None:
    """Neither by us nor by OPA; a call still has a trace id, and gRPC is not loaded though its protocol is named."""
    async with receiving() as receiver:
        prepared.environment = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url,
            "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc",
        } | off
        await prepared.start()
        handle = await prepared.register("c1")
        answer = await prepared.send(handle, "get_stock")
        assert re.fullmatch(r"00-[0-9a-f]{32}-[0-9a-f]{16}-0[01]", answer.headers["traceparent"])
        assert "cygrpc" not in maps(prepared.pid)
        assert await prepared.stop() == 0
        assert receiver.received == []


async def test_a_sampler_that_takes_nothing_still_takes_evidence(prepared: Rig) -> None:
    """What went well is not exported, what was denied is; span limits hold."""
    async with receiving() as receiver:
        prepared.environment = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url,
            "OTEL_TRACES_SAMPLER": "always_off",
            "OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT": "8",
        }
        await prepared.start()
        handle = await prepared.register("c1")
        assert (await prepared.send(handle, "get_stock")).status == 200
        assert (await prepared.send(handle, "create_order", {"sku": "S", "quantity": 5000})).status == 403
        assert await prepared.stop() == 0
        assert {span.name for span in ours(receiver)} == {"execute_tool create_order", "decide"}
        texts = [a.value.string_value for span in ours(receiver) for a in span.attributes if a.key != "error.type"]
        assert max(map(len, texts)) == 8


def ours(receiver: Receiver) -> list[Any]:
    """Spans of Sidegate's own."""
    return [
        span
        for received in receiver.received
        for resource in received.message.resource_spans
        for scope in resource.scope_spans
        if scope.scope.name == "sidegate"
        for span in scope.spans
    ]
