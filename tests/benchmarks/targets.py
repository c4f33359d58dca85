"""What is measured: processes with a port, started once and asked in turns."""

import asyncio
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from tests.e2e.rig import REPO, Rig, Upstream, free_ports

ARGUMENTS = {"sku": "SKU-17", "quantity": 40, "region": "eu-west", "currency": "EUR", "note": "n" * 300}


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A port, the requests to send to it, and the processes whose CPU is counted."""

    name: str
    port: int
    requests: list[bytes]
    pids: dict[str, int]


def start(*command: str) -> subprocess.Popen[bytes]:
    """A module of ours as a process."""
    return subprocess.Popen([sys.executable, "-m", *command], cwd=REPO, stdout=subprocess.DEVNULL)


def request(path: str, body: bytes, *headers: str) -> bytes:
    """A whole HTTP/1.1 request."""
    lines = [
        f"POST {path} HTTP/1.1", "host: 127.0.0.1", "content-type: application/json", f"content-length: {len(body)}", *headers
    ]  # fmt: skip
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + body


@contextlib.asynccontextmanager
async def upstream(delay: float = 0.0) -> AsyncIterator[int]:
    """The stub upstream; its port."""
    (port,) = free_ports(1)
    process = start("tests.benchmarks.stubs", "upstream", str(port), str(delay))
    try:
        await _open(port)
        yield port
    finally:
        process.kill()


@contextlib.asynccontextmanager
async def bare(upstream_port: int) -> AsyncIterator[Target]:
    """The yardstick."""
    (port,) = free_ports(1)
    process = start("tests.benchmarks.bare_forward", str(port), f"http://127.0.0.1:{upstream_port}/stock")
    body = json.dumps(ARGUMENTS).encode()
    try:
        await _open(port)
        yield Target(name="bare forward", port=port, requests=[request("/", body)], pids={"proxy": process.pid})
    finally:
        process.kill()


@contextlib.asynccontextmanager
async def sidegate(
    name: str,
    upstream_port: int,
    *,
    folder: Path,
    stub_opa: bool,
    collector: str | None = None,
    tools: list[object] | None = None,
) -> AsyncIterator[Target]:
    """A whole sidecar with its state below `folder`, over the real OPA or the stub."""
    work = Path(tempfile.mkdtemp(prefix="sidegate-bench-", dir=folder))
    stub: subprocess.Popen[bytes] | None = None
    async with aiohttp.ClientSession() as session:
        rig = Rig(work, Upstream(port=upstream_port), session)
        rig.prepare()
        rig.catalog["tools"] = tools or [TOOL]
        rig.policy["arguments"] = {}
        rig.settings["limits"] = {"in_flight": 10_000}
        rig.settings["opa"] = {"deadline": "5s"}  # a busy machine is measured, not refused
        if collector:
            rig.environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector}
        if stub_opa:
            socket, bundle = work / "stub.sock", work / "policy.tar.gz"
            rig.settings["opa"] |= {"mode": "external", "address": f"unix://{socket}", "bundle": str(bundle)}
            stub = start("tests.benchmarks.stubs", "opa", str(socket), str(bundle))
        try:
            await rig.start()
            if rig.process is None:
                raise RuntimeError("no sidecar")
            body = json.dumps({"id": "c", "tool": "get_stock", "arguments": ARGUMENTS}).encode()
            handles = [await rig.register(f"c{n}") for n in range(32)]
            requests = [request("/v1/tool-calls", body, f"x-sidegate-conversation: {handle}") for handle in handles]
            opa = stub.pid if stub is not None else rig.opa_pid()
            yield Target(
                name=name, port=rig.ports["agent"], requests=requests, pids={"proxy": rig.process.pid, "opa": opa}
            )
        finally:
            if rig.process is not None:
                await rig.stop()
            if stub is not None:
                stub.kill()
            shutil.rmtree(work, ignore_errors=True)


TOOL = {
    "name": "get_stock",
    "description": "How many there are.",
    "system": "inventory",
    "effect": "read",
    "risk": "low",
    "upstream": "api",
    "request": {"method": "POST", "path": "/stock", "body": {name: name for name in ARGUMENTS}},
    "versions": [
        {
            "version": "1",
            "arguments_schema": {
                "type": "object",
                "properties": {
                    name: {"type": "integer" if isinstance(value, int) else "string"}
                    for name, value in ARGUMENTS.items()
                },
                "required": list(ARGUMENTS),
            },
            "result_schema": {
                "type": "object",
                "properties": {"sku": {"type": "string"}, "on_hand": {"type": "integer"}, "note": {"type": "string"}},
                "required": ["sku", "on_hand"],
            },
        }
    ],
    "timeout": "5s",
}


async def _open(port: int) -> None:
    end = asyncio.get_running_loop().time() + 10
    while True:
        with contextlib.suppress(OSError):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.close()
            return
        if asyncio.get_running_loop().time() > end:
            raise RuntimeError(f"nothing listens on {port}")
        await asyncio.sleep(0.02)


def tmpfs() -> Path:
    """A folder in memory."""
    return Path("/dev/shm")


def disk() -> Path:
    """A folder on the disk that holds the checkout's cache."""
    folder = Path(os.environ.get("SIDEGATE_BENCH_DISK", Path.home() / ".cache" / "sidegate"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder
