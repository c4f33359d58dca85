"""Where spans go, from the standard `OTEL_*` variables.

Spans are exported only if somebody asked for it: an OTLP endpoint variable is set, or OTEL_TRACES_EXPORTER=otlp (then to
localhost, as the standard says). Exporting to localhost unasked would be a warning a minute in every installation without
a collector. OTEL_SDK_DISABLED=true and OTEL_TRACES_EXPORTER=none switch it off.

| variable                                | http/protobuf (default)       | grpc           |
|-----------------------------------------|-------------------------------|----------------|
| OTEL_EXPORTER_OTLP_TRACES_ENDPOINT      | as given                      | host and port  |
| OTEL_EXPORTER_OTLP_ENDPOINT             | `/v1/traces` is appended      | host and port  |
| neither                                 | http://localhost:4318/v1/traces | localhost:4317 |
"""

import logging
import re
from dataclasses import dataclass, field
from urllib.parse import SplitResult, urlsplit

from proxy.telemetry.variables import Variables, first, on, pairs, text, whole

HTTP = "http/protobuf"
GRPC = "grpc"
PATH = "/v1/traces"

_logger = logging.getLogger(__name__)

_ANY = "OTEL_EXPORTER_OTLP_"
_TRACES = "OTEL_EXPORTER_OTLP_TRACES_"
_HEADER = re.compile(r"[A-Za-z0-9_.-]+(?<!-bin)")  # gRPC takes bytes for names that end in -bin
_USUAL_PORT = {HTTP: 4318, GRPC: 4317}


@dataclass(frozen=True, slots=True, kw_only=True)
class Destination:
    """A collector and how to speak to it. `endpoint` is a URL for HTTP, `host:port` for gRPC; times are in seconds.

    `timeout` is for one attempt, `budget` for a batch with all its retries. `certificate`, `client_certificate` and
    `client_key` are paths of PEM files, empty for none.
    """

    protocol: str
    endpoint: str
    tls: bool
    headers: dict[str, str] = field(repr=False)  # they hold credentials
    gzip: bool
    certificate: str
    client_certificate: str
    client_key: str
    timeout: float
    budget: float
    delay: float
    queue: int
    batch: int

    @property
    def place(self) -> str:
        """The endpoint for logs: without credentials."""
        parts = urlsplit(self.endpoint) if "://" in self.endpoint else None
        return self.endpoint if parts is None else f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def read_destination(variables: Variables) -> Destination | None:
    """Where spans go; None if nowhere. What cannot be used is warned of in plain words and never shown."""
    if not _wanted(variables):
        return None
    protocol = _protocol(variables)
    given = text(variables, _TRACES + "ENDPOINT", "")
    base = text(variables, _ANY + "ENDPOINT", "")
    url = given or base or f"http://localhost:{_USUAL_PORT[protocol]}"
    if "://" not in url and protocol == GRPC:
        url = f"{'http' if _insecure(variables) else 'https'}://{url}"
    parts = _split(url)
    if parts is None:
        return None
    _advise(protocol, parts, appended=not given)
    endpoint = url if given else url.removesuffix("/") + PATH
    if protocol == GRPC:
        endpoint = f"{_host(parts)}:{parts.port or _USUAL_PORT[GRPC]}"
    timeout, budget = _seconds(variables), whole(variables, "OTEL_BSP_EXPORT_TIMEOUT", 30_000) / 1000
    queue = max(1, whole(variables, "OTEL_BSP_MAX_QUEUE_SIZE", 2048))
    return Destination(
        protocol=protocol,
        endpoint=endpoint,
        tls=parts.scheme == "https",
        headers=_headers(variables),
        gzip=_compressed(variables),
        certificate=_either(variables, "CERTIFICATE"),
        client_certificate=_either(variables, "CLIENT_CERTIFICATE"),
        client_key=_either(variables, "CLIENT_KEY"),
        timeout=min(timeout, budget),
        budget=budget,
        delay=whole(variables, "OTEL_BSP_SCHEDULE_DELAY", 5000) / 1000,
        queue=queue,
        batch=min(queue, max(1, whole(variables, "OTEL_BSP_MAX_EXPORT_BATCH_SIZE", 512))),
    )


def _wanted(variables: Variables) -> bool:
    if on(variables, "OTEL_SDK_DISABLED"):
        return False
    exporters = text(variables, "OTEL_TRACES_EXPORTER", "").lower()
    if not exporters:
        return bool(_either(variables, "ENDPOINT"))
    asked = {name.strip() for name in exporters.split(",")}
    if asked - {"otlp", "none"}:
        _logger.warning("OTEL_TRACES_EXPORTER names an exporter that Sidegate does not have; it has otlp and none")
    return "otlp" in asked


def _protocol(variables: Variables) -> str:
    protocol = _either(variables, "PROTOCOL") or HTTP
    if protocol not in (HTTP, GRPC):
        _logger.warning("the OTLP protocol asked for is not one of http/protobuf and grpc; http/protobuf is used")
        return HTTP
    return protocol


def _split(url: str) -> SplitResult | None:
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        _logger.error("the OTLP endpoint is not a URL like http://host:4318; no spans are exported")
        return None
    return parts


def _advise(protocol: str, parts: SplitResult, *, appended: bool) -> None:
    """Say once, at start, what is most often the reason that a collector sees nothing."""
    other = GRPC if protocol == HTTP else HTTP
    if parts.port == _USUAL_PORT[other]:
        _logger.warning("port %d usually speaks OTLP over %s, and spans go there as %s", parts.port, other, protocol)
    if protocol == HTTP and appended and parts.path.rstrip("/").endswith(PATH):
        _logger.warning(
            "OTEL_EXPORTER_OTLP_ENDPOINT ends in /v1/traces and the standard has it appended again; "
            "leave it out, or use OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"
        )


def _headers(variables: Variables) -> dict[str, str]:
    found = pairs(_either(variables, "HEADERS"), "the OTLP headers variable")
    usable = {key.lower(): value for key, value in found.items() if _HEADER.fullmatch(key) and _sendable(value)}
    if len(usable) < len(found):
        _logger.warning("an OTLP header whose name or value is not plain ASCII is left out")
    return usable


def _sendable(value: str) -> bool:
    """Both HTTP and gRPC take it."""
    return value.isascii() and value.isprintable()


def _compressed(variables: Variables) -> bool:
    asked = _either(variables, "COMPRESSION").lower()
    if asked not in ("", "none", "gzip"):
        _logger.warning("the OTLP compression asked for is not one of gzip and none; none is used")
    return asked == "gzip"


def _seconds(variables: Variables) -> float:
    """Read in seconds, as the Python SDK does. Where the specification's milliseconds were meant, the batch's budget holds."""
    try:
        seconds = float(_either(variables, "TIMEOUT") or 10)
    except ValueError:
        seconds = -1.0
    if not 0 < seconds < 1e9:
        _logger.warning("the OTLP timeout is no number over 0; 10 seconds are used")
        return 10.0
    return seconds


def _insecure(variables: Variables) -> bool:
    return _either(variables, "INSECURE").lower() == "true"


def _host(parts: SplitResult) -> str:
    host = parts.hostname or ""
    return f"[{host}]" if ":" in host else host


def _either(variables: Variables, name: str) -> str:
    """The variable of the traces signal, else the one of all signals."""
    return first(variables, (_TRACES + name, _ANY + name))
