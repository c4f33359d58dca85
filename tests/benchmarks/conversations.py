"""What registered conversations cost (P10): memory of each, and what many of them do to a call.

Calls go to all of them in turn. By default a sidecar keeps 10,000 in memory and reads others back from its database.
Run: python -m tests.benchmarks.conversations [--many 100000] [--rounds 6] [--requests 1600] [--json FILE] [--write]
"""

import argparse
import contextlib
import random
import time
from dataclasses import replace
from typing import Any

from tests.benchmarks.load import load, rss_mib
from tests.benchmarks.report import Report, Row, Verdict, command, median
from tests.benchmarks.rounds import Rounds, alternate, cpu, latency, ratio
from tests.benchmarks.targets import Running, registered, sidegate, tmpfs, upstream
from tests.benchmarks.world import calls

FEW = 1000
COLUMNS = {
    "target": "target",
    "each_kib": "KiB each, empty",
    "register_us": "us to register one (c=64)",
    "cpu_us": "CPU us/call (c=16)",
    "cpu_ratio": "ratio to 1,000",
    "p50_us": "p50 us (c=1)",
    "p50_ratio": "ratio to 1,000",
    "p99_us": "p99 us (c=1)",
    "rss_mib": "RSS MiB at the end",
}


async def run(args: argparse.Namespace) -> Report:
    """Few, many all in memory, and many with the default number in memory."""
    targets: list[Running] = []
    rows: dict[str, dict[str, Any]] = {}
    async with contextlib.AsyncExitStack() as stack:
        port = await stack.enter_async_context(upstream())
        for name, count, in_memory in (
            (f"{FEW:,}", FEW, 10_000),
            (f"{args.many:,}, all in memory", args.many, args.many + FEW),
            (f"{args.many:,}, 10,000 in memory", args.many, 10_000),
        ):
            limits = {"limits": {"conversations_in_memory": in_memory}}
            made = await stack.enter_async_context(sidegate(name, port, folder=tmpfs(), stub_opa=True, settings=limits))
            target, rows[name] = await filled(made, count)
            targets.append(target)
            print(f"  {name}: registered", flush=True)
        counts = {16: args.requests, 1: max(20, args.requests // 5)}
        found = await alternate(targets, rounds=args.rounds, counts=counts)
        for target in targets:
            rows[target.name] |= _figures(found, target, targets[0].name)
    return Report(
        name="conversations",
        columns=COLUMNS,
        rows=list(rows.values()),
        verdicts=_verdicts(list(rows.values())),
        options={"many": args.many, "rounds": args.rounds, "requests": args.requests},
    )


async def filled(made: Running, count: int) -> tuple[Running, dict[str, Any]]:
    """The sidecar with so many conversations more, its requests in random order over all of them, and their memory."""
    warm = await registered(made.rig, range(1000, 1000 + 1000))
    await load(made.port, calls("get_stock", warm), concurrency=16, count=500, watched={})
    before, began = rss_mib(made.rig.pid), time.monotonic()
    handles = await registered(made.rig, range(10_000, 10_000 + count))
    each = (rss_mib(made.rig.pid) - before) * 1024 / count
    seconds = time.monotonic() - began
    asked = calls("get_stock", random.Random(7).sample(handles, min(count, 20_000)))
    return replace(made, requests=asked), {"target": made.name, "each_kib": each, "register_us": seconds / count * 1e6}


def _figures(found: Rounds, target: Running, base: str) -> Row:
    own = found[target.name]
    return {
        "cpu_us": median(map(cpu(), own)) * 1e6,
        "cpu_ratio": ratio(own, found[base], cpu()),
        "p50_us": median(map(latency(50), own)) * 1e6,
        "p50_ratio": ratio(own, found[base], latency(50)),
        "p99_us": median(map(latency(99), own)) * 1e6,
        "rss_mib": rss_mib(target.rig.pid),
    }


def _verdicts(rows: list[dict[str, Any]]) -> list[Verdict]:
    _, memory, default = rows
    return [
        Verdict(
            budget="P10",
            what="memory of an empty conversation, as shipped (10,000 in memory)",
            value=default["each_kib"],
            limit=0.5,
            unit="KiB",
        ),
        Verdict(
            budget="P10",
            what="memory of an empty conversation, all 100,000 in memory",
            value=memory["each_kib"],
            limit=0.5,
            unit="KiB",
        ),
        Verdict(
            budget="P10", what="CPU per call, all in memory, to 1,000", value=memory["cpu_ratio"]["median"], limit=1.05
        ),
        Verdict(
            budget="P10",
            what="CPU per call, 10,000 in memory, to 1,000",
            value=default["cpu_ratio"]["median"],
            limit=1.05,
        ),
    ]


if __name__ == "__main__":
    command("conversations", __doc__, run, many=100_000, rounds=6, requests=1600)
