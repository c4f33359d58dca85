"""What a call costs beside a bare forward of the same bytes: alternated rounds in one run, ratios with their spread.

Run: python -m tests.benchmarks.run [--rounds 7] [--requests 2000] [--json FILE] [--write]
`--write` puts the table into tests/benchmarks/README.md.
"""

import argparse
import asyncio
import contextlib
import json
import os
import platform
import re
import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import uvloop

from tests.benchmarks.load import Measured, load
from tests.benchmarks.targets import Target, bare, disk, sidegate, tmpfs, upstream

README = Path(__file__).parent / "README.md"
BEGIN, END = "<!-- table: begin, written by tests/benchmarks/run.py -->", "<!-- table: end -->"

Rounds = dict[str, list[dict[str, Measured]]]


async def measure(rounds: int, requests: int) -> tuple[Rounds, list[str]]:
    """All targets, started once, each asked in each round at c=16 and c=1."""
    async with contextlib.AsyncExitStack() as stack:
        port = await stack.enter_async_context(upstream())
        targets = [await stack.enter_async_context(bare(port))]
        for name, folder, stub in (
            ("sidegate, stub OPA, tmpfs", tmpfs(), True),
            ("sidegate, stub OPA, disk", disk(), True),
            ("sidegate, real OPA, tmpfs", tmpfs(), False),
            ("sidegate, real OPA, disk", disk(), False),
        ):
            made = sidegate(name, port, folder=folder, stub_opa=stub)
            targets.append(await stack.enter_async_context(made))
        for target in targets:  # warm: connections, caches, OPA's compiled query
            await load(target.port, target.requests, concurrency=16, count=500, watched=target.pids)
        return await _rounds(targets, rounds, requests), [target.name for target in targets]


async def _rounds(targets: Sequence[Target], rounds: int, requests: int) -> Rounds:
    measured: Rounds = defaultdict(list)
    for number in range(rounds):
        ordered = targets if number % 2 == 0 else list(reversed(targets))
        for target in ordered:
            busy = await load(target.port, target.requests, concurrency=16, count=requests, watched=target.pids)
            alone = await load(
                target.port, target.requests, concurrency=1, count=max(100, requests // 5), watched=target.pids
            )
            if busy.bad or alone.bad:
                raise RuntimeError(f"{target.name}: {busy.bad + alone.bad} answers other than 200")
            measured[target.name].append({"c16": busy, "c1": alone})
        print(f"round {number + 1} of {rounds} done", flush=True)
    return measured


def summary(measured: Rounds, order: Sequence[str]) -> list[dict[str, Any]]:
    """One row a target: medians over rounds, and per-round ratios to the bare forward with least and greatest."""
    base = measured[order[0]]
    rows = []
    for name in order:
        own = measured[name]
        ratios = [a["c16"].cpu["proxy"] / b["c16"].cpu["proxy"] for a, b in zip(own, base, strict=True)]
        p50 = [a["c1"].percentile(50) / b["c1"].percentile(50) for a, b in zip(own, base, strict=True)]
        rows.append(
            {
                "target": name,
                "cpu_us_c16": _median(m["c16"].cpu["proxy"] for m in own) * 1e6,
                "opa_cpu_us_c16": _median(m["c16"].cpu.get("opa", 0.0) for m in own) * 1e6,
                "cpu_ratio": statistics.median(ratios),
                "cpu_ratio_spread": [min(ratios), max(ratios)],
                "p50_us_c1": _median(m["c1"].percentile(50) for m in own) * 1e6,
                "p99_us_c1": _median(m["c1"].percentile(99) for m in own) * 1e6,
                "p50_ratio_c1": statistics.median(p50),
                "p50_ratio_c1_spread": [min(p50), max(p50)],
                "rps_c16": _median(len(m["c16"].latencies) / m["c16"].seconds for m in own),
                "p99_us_c16": _median(m["c16"].percentile(99) for m in own) * 1e6,
            }
        )
    return rows


def _median(values: Iterable[float]) -> float:
    return statistics.median(values)


def table(rows: Sequence[dict[str, Any]]) -> str:
    """The figures as Markdown."""
    lines = [
        "| target | CPU us/call (c=16) | ratio to bare forward | OPA's CPU us/call | p50 us (c=1) | ratio | p99 us (c=1) "
        "| calls/s (c=16) |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for r in rows:
        low, high = r["cpu_ratio_spread"]
        low1, high1 = r["p50_ratio_c1_spread"]
        cells = [
            r["target"],
            f"{r['cpu_us_c16']:.0f}",
            f"{r['cpu_ratio']:.2f} ({low:.2f}-{high:.2f})",
            f"{r['opa_cpu_us_c16']:.0f}",
            f"{r['p50_us_c1']:.0f}",
            f"{r['p50_ratio_c1']:.2f} ({low1:.2f}-{high1:.2f})",
            f"{r['p99_us_c1']:.0f}",
            f"{r['rps_c16']:.0f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def cpu_model() -> str:
    """The processor's own name."""
    found = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
    return found[1] if found else platform.processor()


def main() -> None:
    """Measure, print, and write where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--write", action="store_true")
    args = parser.parse_args()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        measured, order = runner.run(measure(args.rounds, args.requests))
    rows = summary(measured, order)
    facts = {
        "cpu": cpu_model(),
        "at": datetime.now(UTC).isoformat(timespec="minutes"),
        "python": platform.python_version(),
        "rounds": args.rounds,
        "requests": args.requests,
    }
    print(table(rows))
    if args.json:
        args.json.write_text(json.dumps(facts | {"rows": rows}, indent=2))
    if args.write:
        note = (
            f"{facts['cpu']}, {os.cpu_count()} cores, Python {facts['python']}, {facts['at']}; "
            f"{args.rounds} alternated rounds of {args.requests} calls"
        )
        before, _, rest = README.read_text().partition(BEGIN)
        README.write_text(f"{before}{BEGIN}\n\n{note}\n\n{table(rows)}\n\n{END}{rest.partition(END)[2]}")


if __name__ == "__main__":
    main()
