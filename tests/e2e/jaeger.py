"""A real Jaeger with the committed configuration, on free ports of loopback, and its HTTP API as an SRE's tools use it."""

import contextlib
import functools
import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from tests.e2e.sidecar import REPO, free_ports

CONFIG = REPO / "deploy" / "jaeger" / "jaeger.yaml"
KINDS = {1: "internal", 2: "server", 3: "client"}
# Ends with its parent, however that ends.
LAUNCHER = """
import ctypes, os, sys
ctypes.CDLL(None).prctl(1, ctypes.c_ulong(9), 0, 0, 0)
if os.getppid() == int(sys.argv[1]):
    os.execv(sys.argv[2], sys.argv[2:])
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """A span as Jaeger tells it. Times are nanoseconds since 1970; `error` is the status."""

    service: str
    trace: str
    id: str
    parent: str
    name: str
    kind: str
    start: int
    end: int
    error: bool
    attributes: Mapping[str, Any]
    links: tuple[tuple[str, str], ...]


@dataclass(slots=True, kw_only=True)
class Jaeger:
    """One Jaeger. `more` are further configuration files."""

    folder: Path
    more: tuple[Path, ...] = ()
    ports: dict[str, int] = field(default_factory=dict)

    @property
    def url(self) -> str:
        """Of UI and API."""
        return f"http://127.0.0.1:{self.ports['JAEGER_QUERY_PORT']}"

    def otlp(self, protocol: str) -> str:
        """Where it takes spans."""
        name = "JAEGER_OTLP_GRPC_PORT" if protocol == "grpc" else "JAEGER_OTLP_HTTP_PORT"
        return f"http://127.0.0.1:{self.ports[name]}"

    def variables(self, protocol: str, service: str) -> dict[str, str]:
        """What has a sidecar send its spans here, soon."""
        return {
            "OTEL_EXPORTER_OTLP_ENDPOINT": self.otlp(protocol),
            "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
            "OTEL_SERVICE_NAME": service,
            "OTEL_BSP_SCHEDULE_DELAY": "50",
        }

    def search(self, service: str, tags: Mapping[str, str]) -> set[str]:
        """Ids of the traces in which one span has all these tags: one search, as the UI sends it."""
        wanted = quote(json.dumps(tags))
        found = self.get(f"/api/traces?service={service}&limit=1000&tags={wanted}")
        return {trace["traceID"] for trace in found["data"]}

    def trace(self, trace_id: str) -> list[Told]:
        """Every span of a trace, by start; empty if it is not there (yet)."""
        try:
            resources = self.get(f"/api/v3/traces/{trace_id}")["result"]["resourceSpans"]
        except urllib.error.HTTPError as error:
            if error.code == 404:
                return []
            raise
        found = [
            _told(_attributes(resource["resource"])["service.name"], span)
            for resource in resources
            for scope in resource["scopeSpans"]
            for span in scope["spans"]
        ]
        return sorted(found, key=lambda span: span.start)

    def get(self, path: str) -> Any:
        """Any GET of the API."""
        return json.loads(self.text(path))

    def text(self, path: str) -> str:
        """The same as it came."""
        with _OPENER.open(self.url + path, timeout=10) as answer:
            return str(answer.read().decode())

    def healthy(self) -> bool:
        """Whether all of it runs, receivers too."""
        with contextlib.suppress(OSError):
            _OPENER.open(f"http://127.0.0.1:{self.ports['JAEGER_HEALTH_PORT']}/status", timeout=1).close()
            return True
        return False

    @contextlib.contextmanager
    def running(self) -> Iterator["Jaeger"]:
        """Until the block ends."""
        names = ("QUERY", "QUERY_GRPC", "OTLP_HTTP", "OTLP_GRPC", "HEALTH")
        self.ports = dict(zip((f"JAEGER_{name}_PORT" for name in names), free_ports(len(names)), strict=True))
        log = self.folder / "jaeger.log"
        files = [word for path in (CONFIG, *self.more) for word in ("--config", str(path))]
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-c", LAUNCHER, str(os.getpid()), str(jaeger_binary()), *files],
                cwd=REPO,
                env={"PATH": "/usr/bin:/bin", **{name: str(port) for name, port in self.ports.items()}},
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        try:
            end = time.monotonic() + 60
            while not self.healthy():
                if process.poll() is not None or time.monotonic() > end:
                    raise AssertionError(f"Jaeger did not start:\n{log.read_text(errors='replace')[-2000:]}")
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(0.05)
            yield self
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@functools.cache
def jaeger_binary() -> Path:
    """The pinned Jaeger, as everybody gets it."""
    done = subprocess.run(["bash", REPO / "deploy/tools.sh", "jaeger"], check=True, capture_output=True, timeout=2000)
    return Path(done.stdout.decode().strip())


_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def _told(service: str, span: Mapping[str, Any]) -> Told:
    return Told(
        service=service,
        trace=span["traceId"],
        id=span["spanId"],
        parent=span.get("parentSpanId", ""),
        name=span["name"],
        kind=KINDS[span["kind"]],
        start=int(span["startTimeUnixNano"]),
        end=int(span["endTimeUnixNano"]),
        error=span.get("status", {}).get("code") == 2,
        attributes=_attributes(span),
        links=tuple((link["traceId"], link["spanId"]) for link in span.get("links", ())),
    )


def _attributes(of: Mapping[str, Any]) -> dict[str, Any]:
    return {pair["key"]: _value(pair["value"]) for pair in of.get("attributes", ())}


def _value(value: Mapping[str, Any]) -> Any:
    if "arrayValue" in value:
        return [_value(item) for item in value["arrayValue"].get("values", ())]
    if "intValue" in value:
        return int(value["intValue"])
    return next(iter(value.values()), None)
