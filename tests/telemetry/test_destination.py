"""What is sent where: one table."""

from typing import Any

import pytest

from proxy.telemetry.destination import Destination, read_destination
from tests.telemetry.samples import SECRET

BASE = "OTEL_EXPORTER_OTLP_ENDPOINT"
OURS = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"
GRPC = {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}


def destination(**variables: str) -> Destination:
    """One that must be there."""
    found = read_destination(variables)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("variables", "endpoint", "tls"),
    [
        ({BASE: "http://c:4318"}, "http://c:4318/v1/traces", False),
        ({BASE: "http://c:4318/"}, "http://c:4318/v1/traces", False),
        ({BASE: "https://c/otlp"}, "https://c/otlp/v1/traces", True),
        ({BASE: "https://c/otlp/"}, "https://c/otlp/v1/traces", True),
        ({BASE: "http://c:4318/v1/traces"}, "http://c:4318/v1/traces/v1/traces", False),
        ({OURS: "http://c:4318/v1/traces"}, "http://c:4318/v1/traces", False),
        ({OURS: "http://c:4318/v1/traces/"}, "http://c:4318/v1/traces/", False),
        ({OURS: "http://c:4318"}, "http://c:4318", False),
        ({OURS: "http://c:4318/"}, "http://c:4318/", False),
        ({OURS: "http://t:1/x", BASE: "http://c:4318"}, "http://t:1/x", False),
        ({OURS: "", BASE: "http://c:4318"}, "http://c:4318/v1/traces", False),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, "http://localhost:4318/v1/traces", False),
        ({"OTEL_TRACES_EXPORTER": "otlp", **GRPC}, "localhost:4317", False),
        ({BASE: "http://c:4317", **GRPC}, "c:4317", False),
        ({BASE: "https://c:4317/", **GRPC}, "c:4317", True),
        ({BASE: "https://c", **GRPC}, "c:4317", True),
        ({BASE: "c:4317", **GRPC}, "c:4317", True),
        ({BASE: "c:4317", "OTEL_EXPORTER_OTLP_INSECURE": "true", **GRPC}, "c:4317", False),
        ({BASE: "http://[::1]:4317", **GRPC}, "[::1]:4317", False),
        ({BASE: "http://c:4318", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/protobuf", **GRPC}, "", False),
        ({BASE: "http://c:4318", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/json"}, "http://c:4318/v1/traces", False),
    ],
)
def test_the_endpoint_follows_the_standard(variables: dict[str, str], endpoint: str, tls: bool) -> None:
    """The base URL gets the signal's path, the signal's own URL is used as given."""
    found = destination(**variables)
    assert (found.endpoint, found.tls) == (endpoint or "http://c:4318/v1/traces", tls)


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"OTEL_TRACES_EXPORTER": "none", BASE: "http://c:4318"},
        {"OTEL_TRACES_EXPORTER": "console", BASE: "http://c:4318"},
        {"OTEL_SDK_DISABLED": "true", BASE: "http://c:4318"},
        {"OTEL_SDK_DISABLED": "True", "OTEL_TRACES_EXPORTER": "otlp"},
        {BASE: "c:4318"},
        {BASE: "http://"},
        {BASE: "http://c:none"},
        {BASE: "http://c:99999"},
        {BASE: "ftp://c:4318"},
    ],
)
def test_nothing_is_exported_unless_asked_for_and_possible(variables: dict[str, str]) -> None:
    """And nothing keeps Sidegate from starting."""
    assert read_destination(variables) is None


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({BASE: "http://c:4317"}, "port 4317 usually speaks OTLP over grpc, and spans go there as http/protobuf"),
        (
            {BASE: "http://c:4318", **GRPC},
            "port 4318 usually speaks OTLP over http/protobuf, and spans go there as grpc",
        ),
        ({BASE: "http://c:4318/v1/traces"}, "the standard has it appended again"),
        ({BASE: f"http:/{SECRET}"}, "not a URL"),
        ({BASE: "http://c", "OTEL_EXPORTER_OTLP_COMPRESSION": "zstd"}, "compression"),
        ({BASE: "http://c", "OTEL_EXPORTER_OTLP_TIMEOUT": "soon"}, "timeout"),
        ({"OTEL_TRACES_EXPORTER": "zipkin"}, "it has otlp and none"),
    ],
)
def test_what_cannot_work_is_said_in_plain_words(
    variables: dict[str, str], said: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Once, at start, without showing a value that may hold a credential."""
    read_destination(variables)
    assert len(caplog.records) == 1
    assert said in caplog.text
    assert SECRET not in caplog.text


def test_the_signals_own_variables_go_before_the_general_ones() -> None:
    """For every option of the exporter."""
    names = ("HEADERS", "COMPRESSION", "CERTIFICATE", "CLIENT_CERTIFICATE", "CLIENT_KEY", "TIMEOUT")
    general = {f"OTEL_EXPORTER_OTLP_{n}": v for n, v in zip(names, ("a=1", "none", "x", "x", "x", "9"), strict=True)}
    own = {f"OTEL_EXPORTER_OTLP_TRACES_{n}": v for n, v in zip(names, ("b=2", "gzip", "c", "d", "e", "3"), strict=True)}
    found = destination(**{BASE: "https://c"}, **general, **own)
    assert (found.headers, found.gzip, found.timeout) == ({"b": "2"}, True, 3.0)
    assert (found.certificate, found.client_certificate, found.client_key) == ("c", "d", "e")


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, {"timeout": 10.0, "budget": 30.0, "delay": 5.0, "queue": 2048, "batch": 512}),
        ({"OTEL_EXPORTER_OTLP_TIMEOUT": "10000"}, {"timeout": 30.0}),
        ({"OTEL_EXPORTER_OTLP_TIMEOUT": "0"}, {"timeout": 10.0}),
        ({"OTEL_EXPORTER_OTLP_TIMEOUT": "nan"}, {"timeout": 10.0}),
        ({"OTEL_BSP_SCHEDULE_DELAY": "20", "OTEL_BSP_EXPORT_TIMEOUT": "2000"}, {"delay": 0.02, "timeout": 2.0}),
        ({"OTEL_BSP_MAX_QUEUE_SIZE": "8"}, {"queue": 8, "batch": 8}),
        ({"OTEL_BSP_MAX_QUEUE_SIZE": "0", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "0"}, {"queue": 1, "batch": 1}),
    ],
)
def test_times_and_sizes(variables: dict[str, str], expected: dict[str, Any]) -> None:
    """In milliseconds for the batch processor, in seconds for the exporter, each bounded."""
    found = destination(**{BASE: "http://c"}, **variables)
    assert {name: getattr(found, name) for name in expected} == expected


def test_headers_are_decoded_and_never_shown(caplog: pytest.LogCaptureFixture) -> None:
    """They hold credentials, as a URL may."""
    headers = f"Authorization=Basic%20{SECRET},x-tenant=a,bad=a%0d%0ab,x-town=K%C3%B6ln,bytes-bin=a,a b=c"
    found = destination(**{BASE: f"http://u:{SECRET}@c:4318", "OTEL_EXPORTER_OTLP_HEADERS": headers})
    assert found.headers == {"authorization": f"Basic {SECRET}", "x-tenant": "a"}
    assert found.place == "http://c:4318/v1/traces"
    assert f"Basic {SECRET}" not in repr(found)
    assert SECRET not in caplog.text
