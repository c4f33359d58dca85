"""A real Redis server for tests: one process on a unix socket or a loopback port, in a folder of its own."""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import AsyncIterator
from functools import cache
from pathlib import Path

from tests.e2e.sidecar import REPO, free_ports

DURABLE = ("--appendonly", "yes", "--appendfsync", "always", "--save", "")
READY = (b"+PONG", b"-NOAUTH", b"-NOPERM")
SECONDS = 20.0  # that a server may take to answer


@cache
def binary(program: str) -> str:
    """Path of a server, got by the tool installer."""
    found = subprocess.run(
        ["bash", str(REPO / "deploy" / "tools.sh"), program], capture_output=True, text=True, check=False
    )
    assert found.returncode == 0, found.stderr[-2000:]
    return found.stdout.strip()


class RedisServer:
    """Start and end it at will; what it has flushed is in `folder`."""

    def __init__(self, folder: Path, *arguments: str, port: int = 0, program: str = "redis-server") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.port = port
        self.program = program
        self.socket = _short(folder)
        self._arguments = ("--port", str(port), *(arguments or DURABLE))
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Of its socket."""
        return f"unix:{self.socket}"

    async def start(self, *more: str, loaded: bool = True) -> None:
        """Start it with further arguments and wait until it answers, and has read its data unless `loaded` is false."""
        with (self.folder / "redis.log").open("ab") as log:
            self.process = subprocess.Popen(  # noqa: ASYNC220 - it returns at once
                [
                    binary(self.program),
                    *self._arguments,
                    "--unixsocket",
                    str(self.socket),
                    "--dir",
                    str(self.folder),
                    *more,
                ],
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        end = time.monotonic() + SECONDS
        answers = READY if loaded else (*READY, b"-LOADING")
        while not self._answers(answers):
            if self.process.poll() is not None or time.monotonic() > end:
                raise AssertionError((self.folder / "redis.log").read_text(errors="replace")[-1500:])
            await asyncio.sleep(0.01)

    def command(self, *words: str) -> bytes:
        """Say one command as the default user; the raw reply."""
        return self.commands(words)

    def commands(self, *commands: tuple[str, ...]) -> bytes:
        """Say commands on one connection, each after the reply to the one before; the raw replies."""
        replies = b""
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(5)
            client.connect(str(self.socket))
            for words in commands:
                said = (b"$%d\r\n%s\r\n" % (len(w.encode()), w.encode()) for w in words)
                client.sendall(b"".join([b"*%d\r\n" % len(words), *said]))
                replies += client.recv(1 << 20)
        return replies

    def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        """Send a signal; wait for the end unless it only stops or continues."""
        if self.process is None:
            return
        self.process.send_signal(number)
        if number not in (signal.SIGSTOP, signal.SIGCONT):
            self.process.wait(SECONDS)
            self.process = None

    def _answers(self, answers: tuple[bytes, ...]) -> bool:
        with contextlib.suppress(OSError):
            return self.command("PING").startswith(answers)
        return False


def _short(folder: Path) -> Path:
    """A socket path below the kernel's limit of 107 bytes, whatever pytest calls its folders."""
    return Path("/tmp") / f"sidegate-redis-{os.getpid()}-{abs(hash(str(folder))) % 10**8}.sock"


@contextlib.asynccontextmanager
async def redis_server(
    folder: Path, *arguments: str, port: int = 0, program: str = "redis-server"
) -> AsyncIterator[RedisServer]:
    """A running server that ends with the block, however it stands then. `program`: redis-server or valkey-server."""
    server = RedisServer(folder, *arguments, port=port, program=program)
    await server.start()
    try:
        yield server
    finally:
        if server.process is not None:
            server.process.kill()
            server.process.wait(SECONDS)
        server.socket.unlink(missing_ok=True)


def free_port() -> int:
    """A port that was free a moment ago."""
    return next(free_ports(1))
