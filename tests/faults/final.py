"""The end of a run: what was acknowledged is asked for again, memory and descriptors are compared, nothing is left running."""

import asyncio
import os
import random
import subprocess
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from tests.e2e.rig import Rig
from tests.faults.inject import Injector
from tests.faults.load import Load
from tests.faults.schedule import Fault

PERIODS = 3
MORE_DESCRIPTORS = 12
MORE_MEMORY = 32 << 20  # bytes
SAMPLE = 60  # of each kind that is asked for again


@dataclass(frozen=True, slots=True, kw_only=True)
class Growth:
    """Of one process, at rest after each of some equal periods of load: open descriptors, and resident bytes. The first
    period is for what grows once (caches, arenas of the allocator); after it neither grows with the number of calls."""

    descriptors: tuple[int, ...]
    memory: tuple[int, ...]

    def problems(self) -> list[str]:
        """Sentences."""
        found = []
        if self.descriptors[-1] > self.descriptors[0] + MORE_DESCRIPTORS:
            found.append(f"descriptors grew: {self.descriptors}")
        if self.memory[-1] > self.memory[0] + MORE_MEMORY:
            found.append(f"resident memory grew: {[n >> 20 for n in self.memory]} MiB")
        return found


def measured(pid: int) -> tuple[int, int]:
    """Descriptors and resident bytes of a process."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return len(os.listdir(f"/proc/{pid}/fd")), pages * os.sysconf("SC_PAGE_SIZE")  # noqa: PTH208 - a count


async def measured_load(made: Rig, seconds: float, injector: Injector) -> Growth:
    """The load goes on, with faults of the upstream and clients that dawdle, but in one process; measured at rest."""
    found = []
    for _ in range(PERIODS):
        end = time.monotonic() + seconds / PERIODS
        while time.monotonic() < end:
            for kind in ("huge", "slow", "half"):
                await injector.upstream(Fault(at=0, kind=kind, seconds=0.4, detail=0))
            await injector.slow_clients(Fault(at=0, kind="slow_clients", seconds=0.3, detail=0))
            await asyncio.sleep(1.0)  # so that the breaker closes
        found.append(await _at_rest(made, injector))
    return Growth(descriptors=tuple(one[0] for one in found), memory=tuple(one[1] for one in found))


async def _at_rest(made: Rig, injector: Injector) -> tuple[int, int]:
    injector.load.up.clear()

    async def idle() -> bool:
        _, status = await made.review("GET", "/v1/status")
        return bool(status["in_flight"] == 0)

    await made.until(idle, "nothing is in flight")
    await asyncio.sleep(1.0)  # what hung up has been noticed
    found = measured(made.pid)
    injector.load.up.set()
    return found


async def everything_acknowledged_stands(load: Load, *, together: bool) -> AsyncIterator[str]:
    """Registrations, approvals, rejections and stops that were answered with 200, asked through the restarted sidecar."""
    ledger, made, rng = load.ledger, load.rig, random.Random(load.seed)
    talks = list(ledger.talks.values())
    for talk in rng.sample(talks, min(SAMPLE, len(talks))):
        path = f"/v1/conversations/{talk.name}/requests"
        status, answer = await made.post(path, b'{"text":"still there?"}', talk.handle)
        if status != 200:
            yield f"registration of {talk.name} is gone: {status} {answer}"
    for name in list(ledger.stopped)[-SAMPLE:]:
        codes = await load.call(ledger.talks[name], "get_stock", {"sku": f"S{rng.random()}"})
        if codes != ["stopped"]:
            yield f"the stop over {name} is gone: {codes}"
    for review in [*list(ledger.approved)[-SAMPLE:], *list(ledger.rejected)[-SAMPLE:]]:
        status, shown = await made.review("GET", f"/v1/reviews/{review}")
        wanted = ("approved", "spent") if review in ledger.approved else ("rejected",)
        if status != 200 or shown["status"] not in wanted:
            yield f"review {review}, {wanted[0]} and acknowledged, is {shown.get('status', status)}"
    if together:
        full = [name for name, systems in ledger.read.items() if {"inventory", "suppliers"} <= systems]
        for name in (name for name in full[-SAMPLE:] if name.startswith("w")):
            codes = await load.call(ledger.talks[name], "get_price", {"sku": f"P{rng.random()}"})
            if not set(codes) <= {"review_pending", "overloaded", "denied"}:
                yield f"{name} has read from two of three systems, and the third answered {codes}"


async def nothing_left_running(folder: Path) -> list[str]:
    """No process of this run is there any more, some seconds after the sidecar has ended."""
    end = time.monotonic() + 10
    left = await asyncio.to_thread(processes_of, folder)
    while left and time.monotonic() < end:
        await asyncio.sleep(0.1)
        left = await asyncio.to_thread(processes_of, folder)
    return [f"left running: {command}" for command in left]


def processes_of(folder: Path) -> list[str]:
    """Those that name a folder in their command line."""
    found = subprocess.run(["pgrep", "-af", str(folder)], check=False, capture_output=True, text=True)
    return [line[:300] for line in found.stdout.splitlines()]
