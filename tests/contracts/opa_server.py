"""A real OPA with a bundle of its own for tests of the adapters, and servers that misbehave byte by byte."""

import asyncio
import contextlib
import functools
import io
import os
import shutil
import signal
import socket
import subprocess
import tarfile
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import orjson

ROOT = Path(__file__).parents[2]

# Says what the input asks it to say, and denies by itself.
DECISION = """package sidegate.decision

decision := input.echo if input.echo

else := {
	"schema": 1, "effect": "deny", "guards": ["fact_missing"],
	"deny": {}, "review": {}, "allow": {}, "obligations": {}, "warn": {},
	"revision": data.sidegate.settings.revision,
}

decision := y if {
	input.zero == 0
	y := 1 / input.zero
}

decision := y if {
	input.slow
	y := count([1 | some i in numbers.range(1, 30000); some j in numbers.range(1, 30000); i * j < 0])
}

visible := {name | some name in input.names}

shadow := {"trial": input.echo}

mismatch := {name | some name in data.sidegate.settings.unlisted}
"""


@functools.cache
def opa_binary() -> Path:
    """The pinned OPA, as everybody gets it."""
    done = subprocess.run(["bash", ROOT / "deploy/tools.sh", "opa"], check=True, capture_output=True, timeout=2000)
    return Path(done.stdout.decode().strip())


def write_bundle(path: Path, revision: str, decision: str = DECISION) -> Path:
    """Rename a bundle of that revision into place."""
    settings = {"sidegate": {"settings": {"revision": revision, "unlisted": ["stranger"]}}}
    files = {
        "/.manifest": orjson.dumps({"revision": revision, "roots": ["sidegate"]}),
        "/data.json": orjson.dumps(settings),
        "/sidegate/decision/decision.rego": decision.encode(),
    }
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    new = path.with_suffix(".new")
    new.write_bytes(buffer.getvalue())
    new.rename(path)
    return path


@contextlib.contextmanager
def short_directory() -> Iterator[Path]:
    """A directory whose path leaves room for a socket's name."""
    directory = Path(tempfile.mkdtemp(prefix="sg"))
    try:
        yield directory
    finally:
        shutil.rmtree(directory)


async def until(condition: Callable[[], bool], pause: float = 0.01) -> None:
    """Poll until it holds, for 20 seconds at most."""
    async with asyncio.timeout(20):
        while True:
            await asyncio.sleep(pause)
            if condition():
                return


async def stop(pid: int) -> None:
    """SIGSTOP, and wait for its last thread: until then it may still answer."""
    os.kill(pid, signal.SIGSTOP)
    tasks = Path(f"/proc/{pid}/task")
    await until(lambda: {t.read_text().rpartition(")")[2].split()[0] for t in tasks.glob("*/stat")} == {"T"})


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningOpa:
    """A real OPA, listening on a unix socket and on TCP."""

    unix: str
    tcp: str
    process: subprocess.Popen[bytes]


@contextlib.contextmanager
def running_opa() -> Iterator[RunningOpa]:
    """Start OPA with the bundle above at revision r1; ready when it answers on its socket."""
    with short_directory() as directory:
        bundle = write_bundle(directory / "bundle.tar.gz", "r1")
        unix, tcp = f"unix://{directory}/opa.sock", f"127.0.0.1:{free_port()}"
        command = [str(opa_binary()), "run", "--server", "--addr", unix, "--addr", tcp, "--log-level", "error"]
        process = subprocess.Popen([*command, "--skip-version-check", "-b", str(bundle)])
        try:
            _await_health(directory / "opa.sock", process)
            yield RunningOpa(unix=unix, tcp=tcp, process=process)
        finally:
            process.kill()
            process.wait(timeout=10)


def _await_health(path: Path, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + 20
    while time.monotonic() < until:
        with socket.socket(socket.AF_UNIX) as probe, contextlib.suppress(OSError):
            probe.settimeout(1)
            probe.connect(str(path))
            probe.sendall(b"GET /health?bundles=true HTTP/1.0\r\n\r\n")
            if b" 200 " in probe.recv(100):
                return
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=0.02)
            break
    raise AssertionError("OPA did not become ready")


@dataclass(slots=True, kw_only=True)
class Talk:
    """One connection to a misbehaving server: `number` counts from 0."""

    number: int
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    requests: list[tuple[bytes, bytes]]

    async def request(self) -> tuple[bytes, bytes]:
        """Head and body of the next request."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        length = next(
            (int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")), 0
        )
        body = await self.reader.readexactly(length)
        self.requests.append((head, body))
        return head, body

    async def send(self, data: bytes) -> None:
        """Hand bytes to the kernel."""
        self.writer.write(data)
        await self.writer.drain()

    async def hung_up(self) -> None:
        """The client has closed."""
        while await self.reader.read(65536):
            pass


Script = Callable[[Talk], Awaitable[None]]


@dataclass(slots=True, kw_only=True)
class ByteServer:
    """What a misbehaving server saw."""

    address: str
    requests: list[tuple[bytes, bytes]] = field(default_factory=list)
    connections: int = 0
    now_open: int = 0
    most_open: int = 0
    ended: asyncio.Queue[int] = field(default_factory=asyncio.Queue)  # numbers of the connections that are over


@contextlib.asynccontextmanager
async def byte_server(script: Script, *, tcp: bool = False) -> AsyncIterator[ByteServer]:
    """Play `script` on each connection, then close it."""
    with short_directory() as directory:
        seen = ByteServer(address=f"unix://{directory}/s")
        tasks: set[asyncio.Task[None]] = set()
        writers: set[asyncio.StreamWriter] = set()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            number, seen.connections = seen.connections, seen.connections + 1
            seen.now_open += 1
            seen.most_open = max(seen.most_open, seen.now_open)
            try:
                await script(Talk(number=number, reader=reader, writer=writer, requests=seen.requests))
            except (OSError, EOFError, asyncio.CancelledError):
                pass
            finally:
                seen.now_open -= 1
                writer.close()
                seen.ended.put_nowait(number)

        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writers.add(writer)  # a task that is cancelled before it began never closes its own
            task = asyncio.create_task(serve(reader, writer))
            tasks.add(task)
            task.add_done_callback(tasks.discard)

        if tcp:
            server = await asyncio.start_server(accept, "127.0.0.1", 0)
            seen.address = "{}:{}".format(*server.sockets[0].getsockname())
        else:
            server = await asyncio.start_unix_server(accept, directory / "s")
        async with server:
            yield seen
            server.close()
            await asyncio.sleep(0)  # what was accepted in this turn is a connection in the next
            for task in tuple(tasks):
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for writer in writers:
                writer.close()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()


def http(body: bytes, status: str = "200 OK", headers: Mapping[str, str] | None = None) -> bytes:
    """A well-formed answer."""
    fields = {"Content-Type": "application/json", "Content-Length": str(len(body)), **(headers or {})}
    return "".join((f"HTTP/1.1 {status}\r\n", *(f"{k}: {v}\r\n" for k, v in fields.items()), "\r\n")).encode() + body
