"""What calls that wait for a person cost (P9): memory of each, and what they do to the others.

Run: python -m tests.benchmarks.held [--held 1000] [--rounds 6] [--requests 1600] [--json FILE] [--write]
"""

import argparse
import asyncio
import contextlib
import re
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from tests.benchmarks.load import connect, load, rss_mib
from tests.benchmarks.report import Report, Verdict, command, median
from tests.benchmarks.rounds import alternate, cpu, latency, ratio
from tests.benchmarks.targets import Running, registered, sidegate, tmpfs, until, upstream
from tests.benchmarks.world import calls
from tests.e2e.rig import Rig

AT_ONCE = 100
AGAIN = 0.2  # seconds
GIVE_UP = 90.0  # seconds; a sidecar in which holding grows too slow is measured with those it has
COLUMNS = {
    "target": "target",
    "held_kib": "KiB each",
    "first_ms": "ms to hold one, of the first hundred",
    "last_ms": "of the last hundred",
    "cpu_us": "CPU us of another call (c=16)",
    "cpu_ratio": "ratio to none held",
    "p50_us": "p50 us (c=1)",
    "p50_ratio": "ratio to none held",
    "p99_us": "p99 us (c=1)",
    "rss_mib": "RSS MiB while held",
    "rss_after_mib": "RSS MiB after",
}


def limits(held: int) -> dict[str, Any]:
    """Settings under which so many may wait."""
    names = ("holds_per_principal", "holds_per_agent", "holds", "new_holds_per_hour")
    return {"limits": dict.fromkeys(names, held + 10) | {"conversations_in_memory": 200_000}, "review_ttl": "30m"}


async def run(args: argparse.Namespace) -> Report:
    """Two sidecars with the same conversations, one of them with calls that wait all the time."""
    async with contextlib.AsyncExitStack() as stack:
        port = await stack.enter_async_context(upstream())
        targets: list[Running] = []
        for name in ("none held", f"{args.held} held"):
            made = sidegate(name, port, folder=tmpfs(), stub_opa=True, settings=limits(args.held))
            targets.append(await stack.enter_async_context(made))
        still, busy = targets
        handles = [await registered(target.rig, range(1000, 1000 + args.held)) for target in targets][1]
        for target in targets:
            await load(target.port, target.requests, concurrency=16, count=args.requests, watched={})
        before = rss_mib(busy.rig.pid)
        async with holding(busy.rig, handles) as taken:
            if len(taken) * AT_ONCE < args.held:
                raise RuntimeError(f"only {len(taken) * AT_ONCE} of {args.held} calls were held after {GIVE_UP:.0f} s")
            during = rss_mib(busy.rig.pid)
            counts = {16: args.requests, 1: max(20, args.requests // 5)}
            found = await alternate(targets, rounds=args.rounds, counts=counts)
        await settled(busy.rig)
        await busy.rig.sound()
        after = rss_mib(busy.rig.pid)
    rows: list[dict[str, Any]] = []
    for target in targets:
        own, base = found[target.name], found[still.name]
        rows.append(
            {
                "target": target.name,
                "cpu_us": median(map(cpu(), own)) * 1e6,
                "cpu_ratio": ratio(own, base, cpu()),
                "p50_us": median(map(latency(50), own)) * 1e6,
                "p50_ratio": ratio(own, base, latency(50)),
                "p99_us": median(map(latency(99), own)) * 1e6,
            }
        )
    per = 1000 / min(AT_ONCE, args.held)  # the last hundred is whole
    kib = (during - before) * 1024 / args.held
    rows[1] |= {
        "held_kib": kib,
        "first_ms": taken[0] * per,
        "last_ms": taken[-1] * per,
        "rss_mib": during,
        "rss_after_mib": after,
    }
    return Report(
        name=f"held-{args.held}",
        columns=COLUMNS,
        rows=rows,
        verdicts=[
            Verdict(budget="P9", what=f"memory of one of {args.held} held calls", value=kib, limit=24, unit="KiB"),
            Verdict(budget="P9", what=f"CPU of others beside {args.held} held", value=rows[1]["cpu_ratio"]["median"], limit=1.05),
            Verdict(budget="P9", what=f"p50 of others beside {args.held} held", value=rows[1]["p50_ratio"]["median"], limit=1.05),
        ],
        options={"held": args.held, "rounds": args.rounds, "requests": args.requests},
    )  # fmt: skip


@contextlib.asynccontextmanager
async def holding(rig: Rig, handles: list[str]) -> AsyncIterator[list[float]]:
    """One held call in each conversation (none must be held in it yet), its connection open, asked again when its minute is over.

    They come a hundred at a time; yields the seconds that each hundred took,
    of fewer than were asked for if that takes too long."""
    requests = calls("ask_price", handles, "x-sidegate-patience: 60")
    tasks: list[asyncio.Task[None]] = []
    taken: list[float] = []
    before, end = await waiting(rig), time.monotonic() + GIVE_UP
    try:
        for first in range(0, len(requests), AT_ONCE):
            began = time.monotonic()
            tasks += [asyncio.create_task(_hold(rig.ports["agent"], r)) for r in requests[first : first + AT_ONCE]]
            if not await _all_wait(rig, before + len(tasks), tasks, end):
                break
            taken.append(time.monotonic() - began)
        yield taken
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _hold(port: int, request: bytes) -> None:
    """Ask for as long as it takes; who is refused for lack of time or place asks again. Raises RuntimeError at other answers."""
    client = await connect(port)
    try:
        while True:
            head, body = await client.ask(request)
            if b'"policy_unavailable"' in body or b'"overloaded"' in body:
                await asyncio.sleep(AGAIN)
            elif b'"review_pending"' not in body:
                raise RuntimeError(f"not held: {head!r} {body!r}")
    finally:
        client.transport.abort()


async def _all_wait(rig: Rig, wanted: int, tasks: list[asyncio.Task[None]], end: float) -> bool:
    """Whether all are held in time. Raises what a task raised."""
    while await waiting(rig) < wanted:
        for task in tasks:
            if task.done():
                task.result()
        if time.monotonic() > end:
            return False
        await asyncio.sleep(0.01)
    return True


async def waiting(rig: Rig) -> int:
    """How many calls wait for a person, by the sidecar's own gauge."""
    async with rig.session.get(rig.url("probe") + "/metrics") as response:
        found = re.search(r"^sidegate_reviews_waiting (\d+)", await response.text(), re.MULTILINE)
    return int(found[1]) if found else 0


async def settled(rig: Rig) -> None:
    """Until the sidecar has noticed that the callers are gone."""

    def gone() -> bool:
        return not established(rig.ports["agent"])

    await until(gone, "the sidecar closes the connections of callers who hung up")


def established(port: int) -> int:
    """Connections to this port that its owner has not closed."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()][1:]
    return sum(row[1].endswith(f":{port:04X}") and row[3] in {"01", "08"} for row in rows)


if __name__ == "__main__":
    command("held", __doc__, run, held=1000, rounds=6, requests=1600)
