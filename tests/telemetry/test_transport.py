"""OTLP over TLS and over gRPC, to real servers on loopback."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc.aio  # type: ignore[import-untyped] # grpcio ships no types
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import (
    TraceServiceServicer,
    add_TraceServiceServicer_to_server,
)
from opentelemetry.sdk.resources import Resource

from proxy.telemetry.destination import read_destination
from proxy.telemetry.encode import SpanBatch
from proxy.telemetry.transport import GrpcTransport, HttpTransport, SendFailed, Transport, fix_of, transport_to
from tests.telemetry.certificates import make_authority, server_side
from tests.telemetry.exporting import closed_port
from tests.telemetry.receiver import receiving
from tests.telemetry.samples import FULL, ROOT


def body() -> bytes:
    """An encoded request of two spans."""
    batch = SpanBatch(Resource({"service.name": "sidegate"}))
    batch.add([ROOT, FULL])
    return batch.to_bytes()


@asynccontextmanager
async def sending(**variables: str) -> AsyncIterator[Transport]:
    """The transport that the variables ask for."""
    destination = read_destination(variables)
    assert destination is not None
    transport = transport_to(destination)
    try:
        yield transport
    finally:
        await transport.close()


@pytest.fixture
def authority(tmp_path: Path) -> Path:
    """A certificate of 127.0.0.1, its own authority, with its key beside it."""
    return make_authority(tmp_path)


def grpc_credentials(authority: Path) -> Any:
    """The same for gRPC."""
    return grpc.ssl_server_credentials([(authority.with_name("key.pem").read_bytes(), authority.read_bytes())])


async def test_a_collectors_certificate_is_checked_against_the_given_authority(authority: Path) -> None:
    """And refused without it."""
    async with receiving(server_side(authority)) as receiver:
        variables = {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url}
        async with sending(**variables) as transport:
            with pytest.raises(SendFailed, match="ClientConnectorCertificateError"):
                await transport.send(body())
        async with sending(**variables, OTEL_EXPORTER_OTLP_CERTIFICATE=str(authority)) as transport:
            assert await transport.send(body()) == 0
    assert len(receiver.spans) == 2


async def test_a_client_certificate_is_shown(authority: Path) -> None:
    """Where the collector wants one."""
    async with receiving(server_side(authority, client=True)) as receiver:
        variables = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url,
            "OTEL_EXPORTER_OTLP_CERTIFICATE": str(authority),
            "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE": str(authority),
            "OTEL_EXPORTER_OTLP_CLIENT_KEY": str(authority.with_name("key.pem")),
        }
        async with sending(**variables) as transport:
            assert isinstance(transport, HttpTransport)
            assert await transport.send(body()) == 0
    assert len(receiver.spans) == 2


class Collector(TraceServiceServicer):
    """OTLP over gRPC."""

    def __init__(self) -> None:
        self.seen: list[tuple[ExportTraceServiceRequest, dict[str, str]]] = []
        self.refuse: grpc.StatusCode | None = None

    async def Export(  # noqa: N802 - the service's name
        self, request: ExportTraceServiceRequest, context: Any
    ) -> ExportTraceServiceResponse:
        """One request."""
        if self.refuse is not None:
            await context.abort(self.refuse, "no")
        self.seen.append((request, dict(context.invocation_metadata())))
        answer = ExportTraceServiceResponse()
        answer.partial_success.rejected_spans = 1
        return answer


@pytest.fixture
async def collector() -> AsyncIterator[tuple[Collector, str]]:
    """A collector and its address."""
    service, server = Collector(), grpc.aio.server()
    add_TraceServiceServicer_to_server(service, server)  # type: ignore[no-untyped-call] # generated without types
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield service, f"http://127.0.0.1:{port}"
    await server.stop(5)


async def test_grpc_where_it_was_asked_for(collector: tuple[Collector, str]) -> None:
    """The same bytes, headers as metadata, the endpoint without a path."""
    service, url = collector
    variables = {"OTEL_EXPORTER_OTLP_ENDPOINT": url, "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}
    async with sending(**variables, OTEL_EXPORTER_OTLP_HEADERS="X-Tenant=a") as transport:
        assert isinstance(transport, GrpcTransport)
        assert await transport.send(body()) == 1
    ((request, metadata),) = service.seen
    assert [span.name for span in request.resource_spans[0].scope_spans[0].spans] == [ROOT.name, FULL.name]
    assert metadata["x-tenant"] == "a"
    assert metadata["user-agent"].startswith("sidegate/")


@pytest.mark.parametrize(
    ("code", "retry"),
    [("UNAVAILABLE", True), ("DEADLINE_EXCEEDED", True), ("INVALID_ARGUMENT", False), ("INTERNAL", False)],
)
async def test_grpc_codes_say_whether_to_ask_again(collector: tuple[Collector, str], code: str, retry: bool) -> None:
    """By the table of the OTLP specification."""
    service, url = collector
    service.refuse = grpc.StatusCode[code]
    async with sending(OTEL_EXPORTER_OTLP_ENDPOINT=url, OTEL_EXPORTER_OTLP_PROTOCOL="grpc") as transport:
        with pytest.raises(SendFailed, match=f"gRPC {code}") as failed:
            await transport.send(body())
    assert failed.value.retry is retry


async def test_grpc_over_tls(authority: Path) -> None:
    """With the authority from the standard variable; without it the collector is not believed."""
    service, server = Collector(), grpc.aio.server()
    add_TraceServiceServicer_to_server(service, server)  # type: ignore[no-untyped-call] # generated without types
    port = server.add_secure_port("127.0.0.1:0", grpc_credentials(authority))
    await server.start()
    variables = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"https://127.0.0.1:{port}", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}
    async with sending(**variables) as transport:
        with pytest.raises(SendFailed, match=r"gRPC UNAVAILABLE \(certificate\)"):
            await transport.send(body())
    async with sending(**variables, OTEL_EXPORTER_OTLP_CERTIFICATE=str(authority)) as transport:
        assert await transport.send(body()) == 1
    async with sending(**variables, OTEL_EXPORTER_OTLP_CERTIFICATE="nowhere.pem") as transport:
        with pytest.raises(SendFailed, match="FileNotFoundError"):
            await transport.send(body())
    await server.stop(5)


async def test_a_channel_finds_a_collector_that_comes_back() -> None:
    """gRPC fails at once while nobody is there, and connects anew."""
    port = closed_port()
    variables = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}
    async with sending(**variables) as transport:
        with pytest.raises(SendFailed, match="gRPC UNAVAILABLE"):
            await transport.send(body())
        service, server = Collector(), grpc.aio.server()
        add_TraceServiceServicer_to_server(service, server)  # type: ignore[no-untyped-call] # generated without types
        server.add_insecure_port(f"127.0.0.1:{port}")
        await server.start()
        async with asyncio.timeout(15):
            while not service.seen:
                with contextlib.suppress(SendFailed):
                    await transport.send(body())
        await server.stop(5)


@pytest.mark.parametrize(
    ("why", "fix"),
    [
        ("HTTP 404", "/v1/traces is appended"),
        ("ClientConnectorDNSError", "host and port"),
        ("ClientConnectorCertificateError", "OTEL_EXPORTER_OTLP_CERTIFICATE"),
        ("ServerDisconnectedError", "OTEL_EXPORTER_OTLP_PROTOCOL=grpc"),
        ("ServerDisconnectedError", "https://"),
        ("ClientOSError", "https://"),
        ("ClientResponseError", "https://"),
        ("HTTP 400", "https://"),  # as Go's servers say it
        ("gRPC UNAVAILABLE (certificate)", "OTEL_EXPORTER_OTLP_CERTIFICATE"),
        ("gRPC UNAVAILABLE", "http:// or https://"),
        ("HTTP 429", "raise its limit"),
        ("HTTP 502", "does not reach it"),
        ("HTTP 503", "overloaded or starting"),
        ("HTTP 504", "does not reach it"),
        ("HTTP 500", ""),
        ("something new", ""),
    ],
)
def test_a_failure_comes_with_what_to_do_about_it(why: str, fix: str) -> None:
    """Where it is known."""
    assert fix in fix_of(why)
    assert bool(fix) is bool(fix_of(why))
