"""Faults from outside: signals, the disk, the clock, the upstream, files that are edited, clients that dawdle."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from tests.e2e.rig import REPO, Rig, native
from tests.faults.load import Load
from tests.faults.schedule import Fault
from tests.faults.volume import Volume, Wall
from tests.faults.watch import Witness


@dataclass(slots=True)
class Injector:
    """Does what a schedule says. `unsafe` are the times at which records may be lost, in seconds of the harness."""

    rig: Rig
    load: Load
    witness: Witness
    volume: Volume | None
    wall: Wall | None
    began: float
    opa_answers: Callable[[bool], None] | None = None  # a stub's oddities on and off
    done: Counter[str] = field(default_factory=Counter)
    starts: int = 0
    unsafe: list[tuple[float, float]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    async def run(self, faults: Sequence[Fault]) -> None:
        """One after the other, each at its time or as soon as the one before is over."""
        kinds: dict[str, Callable[[Fault], Awaitable[None]]] = {
            "kill": self.kill, "terminate": self.terminate, "pause": self.pause, "opa_kill": self.opa_kill,
            "opa_pause": self.opa_pause, "disk_full": self.disk_full, "full_start": self.full_start,
            "read_only_start": self.read_only_start, "reload": self.reload, "broken_reload": self.broken_reload,
            "clock": self.clock, "slow_clients": self.slow_clients, "refuse": self.refuse, "opa_answers": self.odd_opa,
        }  # fmt: skip
        for fault in faults:
            await asyncio.sleep(max(0.0, fault.at - self.now()))
            try:
                await kinds.get(fault.kind, self.upstream)(fault)
            except (AssertionError, OSError, subprocess.SubprocessError) as e:
                self.problems.append(f"at {self.now():.1f} s, {fault}: {e}")
                return
            self.done[fault.kind] += 1

    def now(self) -> float:
        return time.monotonic() - self.began

    async def start(self) -> None:
        """Start the sidecar and let the clients at it."""
        await self.rig.start()
        self.starts += 1
        self.load.up.set()

    async def end(self, number: signal.Signals) -> None:
        """End it while calls are under way."""
        self.load.up.clear()
        code = await self.rig.stop(number)
        if code != (0 if number is signal.SIGTERM else -number):
            self.problems.append(f"ended with {code} after {number.name}")

    async def kill(self, _: Fault) -> None:
        await self.end(signal.SIGKILL)
        await self.start()

    async def terminate(self, _: Fault) -> None:
        await self.end(signal.SIGTERM)
        await self.start()

    async def pause(self, fault: Fault) -> None:
        await self._paused(self.rig.pid, fault.seconds)

    async def opa_kill(self, _: Fault) -> None:
        os.kill(self.rig.opa_pid(), signal.SIGKILL)
        await self.rig.until(self.rig.ready, "OPA is back")

    async def opa_pause(self, fault: Fault) -> None:
        await self._paused(self.rig.opa_pid(), fault.seconds)

    async def disk_full(self, fault: Fault) -> None:
        """Full but for a few kilobytes or pages, then free again."""
        assert self.volume is not None
        begin = self.now()
        await asyncio.to_thread(self.volume.fill, int(fault.detail * (64 << 10)))
        await asyncio.sleep(fault.seconds)
        self.volume.free()
        await self.rig.until(self._works, "calls work again on a disk with room", 30.0)
        self.unsafe.append((begin, self.now()))

    async def full_start(self, _: Fault) -> None:
        """On a full disk it starts, or says why not and ends; with room it starts."""
        assert self.volume is not None
        await self.end(signal.SIGTERM)
        await asyncio.to_thread(self.volume.fill, 0)
        await self._try_start("full")
        self.volume.free()
        await self.start()

    async def read_only_start(self, _: Fault) -> None:
        """On a read-only disk it says so and ends before a port is bound; with a writable one it starts."""
        assert self.volume is not None
        await self.end(signal.SIGTERM)
        self.volume.remount("ro")
        if await self._try_start("read-only") == 0:
            self.problems.append("it started on a read-only state directory")
        self.volume.remount("rw")
        await self.start()

    async def reload(self, fault: Fault) -> None:
        """A changed catalog is in force within some seconds."""
        before = await self._revision()
        self.rig.catalog["tools"][0]["description"] = f"stock, {fault.detail}"
        self.rig.write()

        async def changed() -> bool:
            return await self._revision() not in (None, before)

        await self.rig.until(changed, "the new catalog is in force", 30.0)

    async def broken_reload(self, fault: Fault) -> None:
        """A broken catalog or policy is not taken over."""
        before = await self._revision()
        name = "catalog/tools.yaml" if fault.detail < 0.5 else "policy.yaml"
        text = ("tools: [", "systems: {}\n", "schema: 2\n", "\0")[int(fault.detail * 1000) % 4]
        (self.rig.folder / name).write_text(text)
        await asyncio.sleep(2.6)  # longer than between two looks of the sidecar
        after = await self._revision()
        if before is not None and after != before:
            self.problems.append(f"{name} with {text!r} was taken over: {before} -> {after}")
        self.rig.write()

    async def clock(self, fault: Fault) -> None:
        """Up to five minutes forward or back, and then right again."""
        assert self.wall is not None
        self.wall.step(round((fault.detail - 0.5) * 600))
        await asyncio.sleep(fault.seconds)
        self.wall.step(0)

    async def slow_clients(self, fault: Fault) -> None:
        """Twenty clients that stop in the middle of a head or body, and let go after a while."""
        body = native("get_stock").encode()
        head = b"POST /v1/tool-calls HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
        whole = head + b"content-length: %d\r\n\r\n" % len(body) + body
        writers = []
        for number in range(20):
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection("127.0.0.1", self.rig.ports["agent"])
                writer.write(whole[: 1 + number * (len(whole) - 2) // 19])
                writers.append(writer)
        await asyncio.sleep(fault.seconds)
        for writer in writers:
            writer.close()

    async def refuse(self, fault: Fault) -> None:
        """Nobody listens where the upstream was."""
        await self.rig.upstream.stop()
        self.witness.hang_up()
        await asyncio.sleep(fault.seconds)
        await self.rig.upstream.start()

    async def upstream(self, fault: Fault) -> None:
        """The upstream behaves as the kind says."""
        self.witness.behaviour = fault.kind
        await asyncio.sleep(fault.seconds)
        self.witness.behaviour = ""

    async def odd_opa(self, fault: Fault) -> None:
        assert self.opa_answers is not None
        self.opa_answers(True)
        await asyncio.sleep(fault.seconds)
        self.opa_answers(False)

    async def _paused(self, pid: int, seconds: float) -> None:
        os.kill(pid, signal.SIGSTOP)
        try:
            await asyncio.sleep(seconds)
        finally:
            os.kill(pid, signal.SIGCONT)

    async def _try_start(self, what: str) -> int:
        """0 if it became ready (it is ended again), else its exit code; neither within 20 s is a problem."""
        command = [sys.executable, "-m", "proxy.cli", "serve", "--settings", str(self.rig.folder / "sidegate.yaml")]
        with (self.rig.folder / f"start-{what}.log").open("wb") as log:
            process = subprocess.Popen(  # noqa: ASYNC220 - it returns at once
                command, cwd=REPO, stdout=log, stderr=log, env={**os.environ, **self.rig.environment}
            )
        self.rig.process = process
        end = time.monotonic() + 20
        while process.poll() is None and time.monotonic() < end:
            if await self._ready():
                await self.rig.stop()
                return 0
            await asyncio.sleep(0.05)
        self.rig.process = None
        if process.poll() is None:
            self.problems.append(f"neither ready nor ended on a {what} disk")
            process.kill()
            await asyncio.to_thread(process.wait)
        said = (self.rig.folder / f"start-{what}.log").read_text()
        if process.returncode not in (64, 65, 69, 70, 74, 75) or "Traceback" in said:
            self.problems.append(f"on a {what} disk it ended with {process.returncode}: {said[-800:]}")
        return process.returncode

    async def _ready(self) -> bool:
        with contextlib.suppress(aiohttp.ClientError):
            async with self.rig.session.get(self.rig.url("probe") + "/healthz/ready") as response:
                return response.status == 200
        return False

    async def _revision(self) -> Any:
        with contextlib.suppress(aiohttp.ClientError, json.JSONDecodeError):
            status, found = await self.rig.review("GET", "/v1/status")
            return found.get("revision") if status == 200 else None
        return None

    async def _works(self) -> bool:
        return await self.load.register(f"works-{self.now():.3f}", "ada") is not None
