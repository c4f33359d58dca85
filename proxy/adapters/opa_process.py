"""An OPA of our own: started on a unix socket in a private directory, restarted when it dies, gone when we are gone.

Theory of operation. A launcher of three lines of Python becomes OPA by exec: it first asks the kernel to be killed when the
parent dies (PR_SET_PDEATHSIG) and checks that the parent is still there. Code between fork and exec of a threaded process is
not safe, and `setpriv --pdeathsig` is not everywhere and cannot check. What slips through all the same (the signal follows the
*thread* that started the child, and other kernels have none) is found at the next start by `opa.pid`: process id and start time.
A lock on the directory keeps a second Sidegate from taking a living one's OPA for such a leftover.
"""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import orjson

from proxy.adapters.opa_directory import OpaDirectory
from proxy.adapters.opa_transport import SidecarOpaClient
from proxy.ports import Clock

READY_SECONDS = 15.0  # from start to the first healthy answer; 10,000 grants load in 2
PROBE_SECONDS = 0.02
FIRST_PAUSE, LONGEST_PAUSE = 0.05, 5.0  # seconds before a restart; doubles while restarts fail or do not last
LASTING_SECONDS = 30.0  # who ran that long starts again from the first pause
TERM_SECONDS = 2.0  # for spans under way, then SIGKILL
SPAN_DELAY_MS = 1000
MAX_LINE = 64 * 1024  # bytes of one line that OPA logs
MAX_TEXT = 500  # characters of one field that is passed on
LAST_LINES = 20  # of a failed start that are told

# Measured: one scheduler thread and a lazy collector save 20 to 30 % of OPA's CPU beside the proxy (performance.md 6).
ENVIRONMENT = {"GOMAXPROCS": "1", "GOGC": "400", "GOMEMLIMIT": "128MiB"}
# What OPA's log lines may pass on. No request line is logged at these levels, and no field beyond these is wanted.
LOG_FIELDS = ("level", "msg", "err", "error", "name", "plugin", "warning")

_LAUNCHER = """
import ctypes, os, sys
parent, environment, command = int(sys.argv[1]), dict(v.split("=", 1) for v in sys.argv[2].split()), sys.argv[3:]
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, ctypes.c_ulong(9), 0, 0, 0)
if os.getppid() == parent:
    os.execve(command[0], command, environment)
"""


class OpaStartError(Exception):
    """OPA could not be started; the sentence is for the operator."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OtlpTarget:
    """Where OPA sends its spans: `address` is host:port."""

    type: Literal["http", "grpc"]
    address: str


LogLine = Callable[[Mapping[str, str]], None]


class SupervisedOpa:
    """One OPA process. `on_log` gets its log lines as a few short fields (LOG_FIELDS)."""

    def __init__(
        self,
        *,
        binary: Path,
        bundle: Path,
        directory: Path,
        clock: Clock,
        on_log: LogLine,
        tracing: OtlpTarget | None = None,
        log_level: str = "info",
    ) -> None:
        self.restarts = 0
        self._binary = binary
        self._bundle = bundle
        self._directory = OpaDirectory(directory)
        self._clock = clock
        self._on_log = on_log
        self._tracing = tracing
        self._log_level = log_level
        self._process: asyncio.subprocess.Process | None = None
        self._reader: asyncio.Task[None] | None = None
        self._watcher: asyncio.Task[None] | None = None
        self._ready = False
        self._last_lines: list[str] = []

    @property
    def address(self) -> str:
        """For SidecarOpaClient."""
        return f"unix://{self._directory.socket}"

    @property
    def alive(self) -> bool:
        """Whether it runs and has been ready since its last start. One that hangs is alive: its callers meet their deadline."""
        return self._ready and self._process is not None and self._process.returncode is None

    @property
    def pid(self) -> int | None:
        """Process id of the running OPA."""
        return self._process.pid if self._process is not None and self._process.returncode is None else None

    async def start(self) -> None:
        """Start it and return when it answers. Raises OpaStartError within READY_SECONDS, nothing left running."""
        if not self._bundle.is_file():
            raise OpaStartError(f"there is no bundle {self._bundle}")
        if not (self._binary.is_file() and os.access(self._binary, os.X_OK)):
            raise OpaStartError(f"{self._binary} is not a program that can be run")
        try:
            self._directory.take()
            await self._directory.end_leftover(self._clock)
            self._directory.write_config(_config(self._tracing))
            await self._launch()
        except OSError as e:
            await self.close()
            raise OpaStartError(f"OPA's directory cannot be used: {e}") from e
        except BaseException:
            await self.close()
            raise
        self._watcher = asyncio.create_task(self._watch(), name="opa-watcher")

    async def close(self) -> None:
        """End the whole process group and let go of the directory, in a few seconds at most."""
        if self._watcher is not None:
            self._watcher.cancel()
            await asyncio.wait([self._watcher])
            self._watcher = None
        await self._end()
        self._directory.release()

    def kill(self) -> None:
        """End a process that hangs; a new one is started in its place. One that is only starting has READY_SECONDS for it."""
        if self._ready and (pid := self.pid) is not None:
            self._ready = False
            _signal_group(pid, signal.SIGKILL)

    async def _watch(self) -> None:
        pause = FIRST_PAUSE
        while True:
            since = self._clock.monotonic()
            if self._process is not None:
                code = await self._process.wait()
                self._ready = False
                self._on_log({"level": "error", "msg": f"OPA ended with {code}; it is restarted in {pause:g} s"})
            if self._clock.monotonic() - since >= LASTING_SECONDS:
                pause = FIRST_PAUSE
            await self._clock.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE)
            self.restarts += 1
            try:
                await self._launch()
            except (OpaStartError, OSError) as e:
                self._on_log({"level": "error", "msg": str(e)[:MAX_TEXT]})
                with contextlib.suppress(OSError):
                    await self._end()

    async def _launch(self) -> None:
        await self._end()
        self._last_lines = []
        try:
            self._process = await self._spawn()
            self._reader = asyncio.create_task(self._read_log(self._process), name="opa-log")
            self._directory.remember(self._process.pid)
        except OSError as e:
            raise OpaStartError(f"OPA cannot be started: {e}") from e
        await self._await_ready(self._process)
        self._ready = True

    async def _spawn(self) -> asyncio.subprocess.Process:
        settings = " ".join(f"{name}={value}" for name, value in ENVIRONMENT.items())
        starting = asyncio.create_task(
            asyncio.create_subprocess_exec(
                *(sys.executable, "-I", "-S", "-c", _LAUNCHER, str(os.getpid()), settings),
                *self._command(),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,  # where OPA says why it could not start
                stderr=asyncio.subprocess.STDOUT,
                cwd=self._directory.path,
                env={},
                limit=MAX_LINE,
                start_new_session=True,
            )
        )
        try:
            return await asyncio.shield(starting)
        except asyncio.CancelledError:
            # uvloop loses a process whose start is cancelled: have it first, so that `close` ends it.
            self._process = await starting
            raise

    def _command(self) -> list[str]:
        return [
            *(str(self._binary.absolute()), "run", "--server", "--skip-version-check"),
            *("--addr", self.address, "--unix-socket-perm", "600"),
            # One line for each request would cost more than the decision.
            *("--log-format", "json", "--log-level", self._log_level, "--log-level-request", "debug"),
            *("--shutdown-grace-period", "1"),
            *("--config-file", str(self._directory.config)),
            *("--watch", "--bundle", str(self._bundle.absolute())),
        ]

    async def _await_ready(self, process: asyncio.subprocess.Process) -> None:
        until = self._clock.monotonic() + READY_SECONDS
        async with SidecarOpaClient(self.address, deadline=1.0) as client:
            while self._clock.monotonic() < until:
                if process.returncode is not None:
                    raise OpaStartError(f"OPA ended at its start with {process.returncode}: {await self._told()}")
                if await client.check_health({"bundles": True}):
                    return
                await self._clock.sleep(PROBE_SECONDS)
        raise OpaStartError(f"OPA was not ready after {READY_SECONDS:g} s: {await self._told()}")

    async def _told(self) -> str:
        if self._reader is not None:
            await asyncio.wait([self._reader], timeout=1.0)  # the last lines may still be in the pipe
        return "\n".join(self._last_lines) or "it said nothing"

    async def _end(self) -> None:
        process, self._ready = self._process, False
        if process is None:
            return
        if process.returncode is None:
            _signal_group(process.pid, signal.SIGTERM)
            try:
                async with asyncio.timeout(TERM_SECONDS):
                    await process.wait()
            except TimeoutError:
                _signal_group(process.pid, signal.SIGKILL)
                await process.wait()
        self._process = None  # only now: who is cancelled above can be called again
        self._directory.forget()
        if self._reader is not None:
            await asyncio.wait([self._reader], timeout=1.0)
            self._reader.cancel()
            self._reader = None

    async def _read_log(self, process: asyncio.subprocess.Process) -> None:
        stream = process.stdout
        while stream is not None:
            try:
                line = await stream.readline()
            except ValueError:
                self._on_log({"level": "error", "msg": f"a line of over {MAX_LINE} bytes was left out"})
                continue
            if not line:
                return
            fields = read_log_line(line)
            self._last_lines = [*self._last_lines, fields.get("err") or fields.get("msg", "")][-LAST_LINES:]
            self._on_log(fields)


def read_log_line(line: bytes) -> dict[str, str]:
    """The fields of one line that are passed on, each cut; a line that is not a JSON object (a Go panic) as an error's `msg`.

    A line with an error is an error's: OPA says only at level info that it could not read a new bundle."""
    try:
        entry = orjson.loads(line)
    except orjson.JSONDecodeError:
        entry = None
    if not isinstance(entry, dict):
        return {"level": "error", "msg": line.decode("utf-8", "replace").rstrip()[:MAX_TEXT]}
    fields = {name: str(entry[name])[:MAX_TEXT] for name in LOG_FIELDS if entry.get(name) is not None}
    return {**fields, "level": "error"} if "err" in fields or "error" in fields else fields


def _config(tracing: OtlpTarget | None) -> dict[str, Any]:
    if tracing is None:
        return {}
    return {
        "distributed_tracing": {
            "type": tracing.type,
            "address": tracing.address,
            "service_name": "opa",
            # A call's own flag decides (the sampler asks the parent first); this is for probes, which have no trace.
            "sample_percentage": 0,
            # OPA does not flush when it ends: what is younger than this is lost.
            "batch_span_processor_options": {"batch_timeout_ms": SPAN_DELAY_MS},
        }
    }


def _signal_group(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, number)
