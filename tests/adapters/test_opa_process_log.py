"""What a supervised OPA tells: log lines as a few short fields, spans to their target."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from proxy.adapters.opa_process import (
    OtlpTarget,
    read_log_line,
)
from proxy.model import SpanContext
from tests.adapters.supervised_rig import (
    Place,
    new_place,
    policy_of,
    start_error,
)
from tests.contracts.opa_server import free_port, until


@pytest.fixture
def place() -> Iterator[Place]:
    with new_place() as place:
        yield place


def spans_of(body: bytes) -> list[Any]:
    request = ExportTraceServiceRequest.FromString(body)
    return [span for resource in request.resource_spans for scope in resource.scope_spans for span in scope.spans]


async def test_spans_of_calls_go_to_the_target_and_join_the_callers_trace_and_probes_make_none(place: Place) -> None:
    bodies: list[bytes] = []

    async def receive(request: web.Request) -> web.Response:
        bodies.append(await request.read())
        return web.Response(content_type="application/x-protobuf")

    port = free_port()
    app = web.Application()
    app.router.add_post("/v1/traces", receive)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    trace = SpanContext(trace_id="0123456789abcdef" * 2, span_id="b" * 16)
    async with (
        place.started(tracing=OtlpTarget(type="http", address=f"127.0.0.1:{port}")) as opa,
        policy_of(opa) as policy,
    ):
        await policy.revision()
        await policy.visible(b'{"names": []}', trace)
        await until(lambda: any(bytes.fromhex(trace.trace_id) in body for body in bodies))
    await runner.cleanup()
    spans = [span for body in bodies for span in spans_of(body)]
    assert {(span.name, span.trace_id.hex(), span.parent_span_id.hex()) for span in spans} == {
        ("POST /v1/data/{path...}", trace.trace_id, trace.span_id)
    }


async def test_a_line_without_end_is_left_out_and_the_next_is_read(place: Place, tmp_path: Path) -> None:
    script = tmp_path / "talks"
    script.write_text("#!/bin/sh\nhead -c 300000 /dev/zero | tr '\\0' x\necho\necho done\nexit 3\n")
    script.chmod(0o700)
    message = await start_error(place.opa(binary=script))
    assert message.startswith("OPA ended at its start with 3: ")
    assert message.endswith("done")
    assert any("was left out" in line["msg"] for line in place.log)
    assert all(len(value) <= 500 for line in place.log for value in line.values())


def test_a_log_line_passes_on_known_fields_only_cut_and_as_text() -> None:
    line = orjson.dumps(
        {
            "level": "info",
            "msg": "m" * 900,
            "req_body": "secret",
            "headers": {"authorization": "secret"},
            "plugin": 7,
            "err": None,
        }
    )
    assert read_log_line(line) == {"level": "info", "msg": "m" * 500, "plugin": "7"}


def test_a_log_line_with_an_error_is_an_errors_whatever_its_level() -> None:
    assert read_log_line(b'{"level":"info","msg":"m","err":"e"}') == {"level": "error", "msg": "m", "err": "e"}


@pytest.mark.parametrize("line", [b"goroutine 1 [running]:\n", b"[1]", b"1", b"{", b"\xff\n", b""])
def test_a_line_that_is_no_json_object_is_an_errors_text(line: bytes) -> None:
    read = read_log_line(line)
    assert set(read) == {"level", "msg"}
    assert read["level"] == "error"
