"""The tail of a call (P12): raw and corrected percentiles alone, at a fixed rate, and how long the event loop is held.

The bare forward is asked in the same rounds. A third sidecar has a probe inside its process, and is not compared.
Run: python -m tests.benchmarks.tail [--rounds 6] [--requests 1000] [--seconds 4] [--json FILE] [--write]
"""

import argparse
import asyncio
import contextlib
import json
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.benchmarks.load import STATUS, load, offer, percentile
from tests.benchmarks.report import Report, Verdict, command, median, spread
from tests.benchmarks.targets import Target, bare, collector, sidegate, tmpfs, upstream

BARE, OURS, TRACED = "bare forward", "stub OPA, tmpfs", "stub OPA, tmpfs, 3 spans exported"
RATE = 400.0  # calls/s
OWN = 0.75  # share of a hold that was our CPU time; below it the kernel ran others, and what piled up meanwhile came at once
MANY = 2000  # conversations under the probe
COLUMNS = {
    "target": "target",
    "p50_us": "p50 us (c=1)",
    "p99_us": "p99 us (c=1)",
    "raw": "p99/p50, raw",
    "corrected": "p99/p50, corrected",
    "open_p50_us": "p50 us (400/s)",
    "open_p99_us": "p99 us (400/s)",
    "open_ratio": "p99 ratio to bare (400/s)",
}
Round = dict[str, float]


async def run(args: argparse.Namespace) -> Report:
    """Rounds over the three, then the probe."""
    found: dict[str, list[Round]] = {}
    async with contextlib.AsyncExitStack() as stack:
        enter = stack.enter_async_context
        port = await enter(upstream())
        spans = {"OTEL_EXPORTER_OTLP_ENDPOINT": await enter(collector())}
        targets: list[Target] = [await enter(bare(port))]
        for name, environment in ((OURS, None), (TRACED, spans)):
            targets.append(await enter(sidegate(name, port, folder=tmpfs(), stub_opa=True, environment=environment)))
        for target in targets:
            await load(target.port, target.requests, concurrency=16, count=args.requests, watched={})
        for number in range(args.rounds):
            for target in targets if number % 2 == 0 else reversed(targets):
                found.setdefault(target.name, []).append(await _round(target, args))
            print(f"  round {number + 1} of {args.rounds}", flush=True)
        lag = await lags(port, spans, args)
    rows = [_row(found, name) for name in (BARE, OURS, TRACED)]
    return Report(
        name="tail",
        columns=COLUMNS,
        rows=rows,
        verdicts=_verdicts(found, lag),
        notes=[
            "Inside a traced sidecar with {conversations:,} conversations, at 400 calls/s and then at c=16: {late:,} of "
            "{ticks:,.0f} looks, one a millisecond, came over 2 ms late, the latest {wall_ms:.1f} ms. The longest that "
            "the loop's own CPU time filled by three quarters was {own_ms:.1f} ms; the rest is the kernel running others.".format(
                **lag
            )
        ],
        options={"rounds": args.rounds, "requests": args.requests, "seconds": args.seconds},
    )


async def _round(target: Target, args: argparse.Namespace) -> Round:
    alone = await load(target.port, target.requests, concurrency=1, count=args.requests, watched={})
    rate = await offer(target.port, _turn(target), rate=RATE, seconds=args.seconds, judge=_status)
    if alone.bad or set(rate.latencies) != {"200"} or rate.broken or rate.unsent:
        raise RuntimeError(f"{target.name}: answers {dict(rate.counted())}, {alone.bad} bad, {rate.broken} broken")
    p50 = alone.percentile(50)
    return {
        "p50": p50,
        "p99": alone.percentile(99),
        "raw": alone.percentile(99) / p50,
        "corrected": alone.corrected(99) / p50,
        "open_p50": rate.percentile(50),
        "open_p99": rate.percentile(99),
    }


def _turn(target: Target) -> Any:
    return lambda number: target.requests[number % len(target.requests)]


def _status(_number: int, head: bytes, _body: bytes) -> str:
    return head[STATUS].decode()


def _row(found: dict[str, list[Round]], name: str) -> dict[str, Any]:
    own, base = found[name], found[BARE]
    return {
        "target": name,
        "p50_us": median(r["p50"] for r in own) * 1e6,
        "p99_us": median(r["p99"] for r in own) * 1e6,
        "raw": spread(r["raw"] for r in own),
        "corrected": spread(r["corrected"] for r in own),
        "open_p50_us": median(r["open_p50"] for r in own) * 1e6,
        "open_p99_us": median(r["open_p99"] for r in own) * 1e6,
        "open_ratio": spread(a["open_p99"] / b["open_p99"] for a, b in zip(own, base, strict=True)),
    }


async def lags(port: int, spans: dict[str, str], args: argparse.Namespace) -> dict[str, float]:
    """How late the probe's looks were under load, in ms."""
    with tempfile.TemporaryDirectory() as folder:
        figures = Path(folder) / "lags.json"
        launcher = ("tests.benchmarks.probe", str(figures))
        made = sidegate(
            "probed", port, folder=tmpfs(), stub_opa=True, environment=spans, launcher=launcher, conversations=MANY
        )
        async with made as target:
            await load(target.port, target.requests, concurrency=16, count=args.requests, watched={})
            began = time.monotonic()
            await offer(target.port, _turn(target), rate=RATE, seconds=args.seconds * 2, judge=_status)
            await load(target.port, target.requests, concurrency=16, count=args.requests * 2, watched={})
            ended = time.monotonic()
            await asyncio.sleep(0.1)
            await target.rig.stop()
        document = json.loads(figures.read_text())
    inside = [(late, cpu) for at, late, cpu in document["late"] if began <= at <= ended]
    over = sorted(late for late, _ in inside if late > 0.002)
    own = max((late for late, cpu in inside if cpu >= OWN * late), default=0.0)
    ticks = (ended - began) * 1000
    found = {"wall_ms": percentile(over, 100) * 1000, "own_ms": own * 1000}
    return {"conversations": MANY, "ticks": ticks, "late": len(over), **found}


def _verdicts(found: dict[str, list[Round]], lag: dict[str, float]) -> list[Verdict]:
    def against(key: str) -> float:
        return median(a[key] / b[key] for a, b in zip(found[OURS], found[BARE], strict=True))

    return [
        Verdict(
            budget="P12",
            what="longest hold of the event loop by its own CPU",
            value=lag["own_ms"],
            limit=2.0,
            unit="ms",
        ),
        Verdict(budget="P12", what="p99/p50 raw at c=1, to the bare forward's", value=against("raw"), limit=1.3),
        Verdict(
            budget="P12", what="p99/p50 corrected at c=1, to the bare forward's", value=against("corrected"), limit=1.3
        ),
        Verdict(budget="P12", what="p99 at 400 calls/s to the bare forward's", value=against("open_p99"), limit=1.5),
    ]


if __name__ == "__main__":
    command("tail", __doc__, run, rounds=6, requests=1000, seconds=4)
