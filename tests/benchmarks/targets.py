"""What is measured: processes with a port, started once and asked in turns."""

import asyncio
import contextlib
import io
import json
import os
import shutil
import socket
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from tests.benchmarks.load import STATUS, connect
from tests.benchmarks.stubs import COUNT
from tests.benchmarks.world import ARGUMENTS, TOOLS, calls, policy, request
from tests.e2e.rig import Rig
from tests.e2e.sidecar import REPO, free_ports
from tests.e2e.upstream import Upstream

CONVERSATIONS = 32
BYTECODE = {"PYTHONDONTWRITEBYTECODE": ""}  # as installed: where it is set, every start compiles modules anew
SERVE = ("proxy.cli", "serve", "--settings")


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A port, the requests to send to it, and the processes whose CPU is counted."""

    name: str
    port: int
    requests: list[bytes]
    pids: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Running(Target):
    """A sidecar, and the folder with its state."""

    rig: Rig


def start(*command: str) -> subprocess.Popen[bytes]:
    """A module of ours as a process."""
    environment = os.environ | BYTECODE
    return subprocess.Popen([sys.executable, "-m", *command], cwd=REPO, stdout=subprocess.DEVNULL, env=environment)


@contextlib.asynccontextmanager
async def process(*command: str, port: int) -> AsyncIterator[subprocess.Popen[bytes]]:
    """A module of ours that listens on `port`, from when it does."""
    started = start(*command)
    try:
        await listening(port)
        yield started
    finally:
        started.kill()
        started.wait()


@contextlib.asynccontextmanager
async def upstream(delay: float = 0.0) -> AsyncIterator[int]:
    """The stub upstream; its port."""
    (port,) = free_ports(1)
    async with process("tests.benchmarks.stubs", "upstream", str(port), str(delay), port=port):
        yield port


@contextlib.asynccontextmanager
async def collector() -> AsyncIterator[str]:
    """The stub collector; its OTLP endpoint."""
    (port,) = free_ports(1)
    async with process("tests.benchmarks.stubs", "collector", str(port), port=port):
        yield f"http://127.0.0.1:{port}"


@contextlib.asynccontextmanager
async def stub_opa(folder: Path) -> AsyncIterator[str]:
    """The stub OPA alone, with a bundle that only has a revision; its address."""
    with tempfile.TemporaryDirectory(prefix="sidegate-bench-", dir=folder) as work:
        address, bundle = Path(work) / "stub.sock", Path(work) / "policy.tar.gz"
        manifest = json.dumps({"revision": "r" * 64}).encode()
        with tarfile.open(bundle, "w:gz") as archive:
            entry = tarfile.TarInfo(".manifest")
            entry.size = len(manifest)
            archive.addfile(entry, io.BytesIO(manifest))
        started = start("tests.benchmarks.stubs", "opa", str(address), str(bundle))
        try:
            await until(address.exists, "the stub OPA listens")
            yield f"unix://{address}"
        finally:
            started.kill()
            started.wait()


async def received(upstream_port: int) -> int:
    """How many requests the stub upstream has had."""
    client = await connect(upstream_port)
    _, body = await client.ask(COUNT + b"HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n")
    client.transport.close()
    return int(body)


@contextlib.asynccontextmanager
async def bare(upstream_port: int, name: str = "bare forward") -> AsyncIterator[Target]:
    """The yardstick."""
    (port,) = free_ports(1)
    command = ("tests.benchmarks.bare_forward", str(port), f"http://127.0.0.1:{upstream_port}/stock")
    async with process(*command, port=port) as started:
        requests = [request("/", json.dumps(ARGUMENTS).encode())]
        yield Target(name=name, port=port, requests=requests, pids={"proxy": started.pid})


@contextlib.asynccontextmanager
async def sidegate(
    name: str,
    upstream_port: int,
    *,
    folder: Path,
    stub_opa: bool,
    conversations: int = CONVERSATIONS,
    environment: Mapping[str, str] | None = None,
    settings: Mapping[str, Any] | None = None,
    grants: int = 0,
    launcher: Sequence[str] = SERVE,
) -> AsyncIterator[Running]:
    """A whole sidecar with its state below `folder`, over the real OPA or the stub. `settings` go over the benchmarks' own."""
    async with prepared(upstream_port, folder=folder, stub_opa=stub_opa) as (rig, stub):
        policy(rig.policy, grants=grants)
        rig.settings["limits"] = {"in_flight": 10_000}
        rig.settings["opa"]["deadline"] = "5s"  # a busy machine is measured, not refused
        for key, value in (settings or {}).items():
            rig.settings[key] = rig.settings.get(key, {}) | value if isinstance(value, dict) else value
        rig.environment |= environment or {}
        launch(rig, *launcher)
        await rig.until(rig.ready, "the sidecar is ready", seconds=60)
        handles = await registered(rig, range(conversations))
        opa = stub.pid if stub is not None else rig.opa_pid()
        yield Running(
            name=name,
            port=rig.ports["agent"],
            requests=calls("get_stock", handles),
            pids={"proxy": rig.pid, "opa": opa},
            rig=rig,
        )


def launch(rig: Rig, *launcher: str) -> None:
    """Start the rig's sidecar by this module and its arguments, the settings file last; it is not ready yet."""
    rig.write()
    command = [sys.executable, "-m", *(launcher or SERVE), str(rig.folder / "sidegate.yaml")]
    with (rig.folder / "sidegate.log").open("ab") as log:
        environment = os.environ | BYTECODE | rig.environment
        rig.process = subprocess.Popen(command, cwd=REPO, stdout=log, stderr=subprocess.STDOUT, env=environment)


@contextlib.asynccontextmanager
async def prepared(
    upstream_port: int, *, folder: Path, stub_opa: bool
) -> AsyncIterator[tuple[Rig, subprocess.Popen[bytes] | None]]:
    """A rig with the benchmarks' tools, not yet started, and the stub OPA if that is what it uses."""
    work = Path(tempfile.mkdtemp(prefix="sidegate-bench-", dir=folder))
    stub: subprocess.Popen[bytes] | None = None
    async with aiohttp.ClientSession() as session:
        rig = Rig(work, Upstream(port=upstream_port), session)
        rig.prepare()
        rig.catalog["tools"] = TOOLS
        rig.settings["opa"] = {}
        policy(rig.policy)
        if stub_opa:
            address, bundle = work / "stub.sock", work / "policy.tar.gz"
            rig.settings["opa"] = {"mode": "external", "address": f"unix://{address}", "bundle": str(bundle)}
            stub = start("tests.benchmarks.stubs", "opa", str(address), str(bundle))
        try:
            yield rig, stub
        finally:
            await rig.stop()
            if stub is not None:
                stub.kill()
                stub.wait()
            shutil.rmtree(work, ignore_errors=True)


async def registered(rig: Rig, numbers: Iterable[int], *, concurrency: int = 64) -> list[str]:
    """Register a conversation for each number, over raw connections; the handles in order."""
    token = f"authorization: Bearer {rig.users['ada']}"
    wanted, handles = iter(numbers), dict[int, str]()

    async def worker() -> None:
        client = await connect(rig.ports["agent"])
        for number in wanted:
            asked = request(f"/v1/conversations/c{number}", b'{"text":"hello"}', token, method="PUT")
            head, body = await client.ask(asked)
            if head[STATUS] != b"200":
                raise RuntimeError(f"a conversation was not registered: {head!r} {body!r}")
            handles[number] = json.loads(body)["handle"]
        client.transport.close()

    await asyncio.gather(*(worker() for _ in range(concurrency)))
    return [handles[number] for number in sorted(handles)]


async def until(holds: Callable[[], bool], what: str, seconds: float = 30.0) -> None:
    """Poll until a condition holds. Raises RuntimeError."""
    end = asyncio.get_running_loop().time() + seconds
    while not holds():
        if asyncio.get_running_loop().time() > end:
            raise RuntimeError(f"not within {seconds} s: {what}")
        await asyncio.sleep(0.005)


async def listening(port: int) -> None:
    """Wait until somebody listens."""

    def open_now() -> bool:
        with socket.socket() as tried:
            return tried.connect_ex(("127.0.0.1", port)) == 0

    await until(open_now, f"somebody listens on {port}")


def tmpfs() -> Path:
    """A folder in memory."""
    return Path("/dev/shm")


def disk() -> Path:
    """A folder on the disk that holds the checkout's cache."""
    folder = Path(os.environ.get("SIDEGATE_BENCH_DISK", Path.home() / ".cache" / "sidegate"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder
