"""What a call costs beside a bare forward of the same bytes (P1, P2, P3, P7): alternated rounds in one run.

Run: python -m tests.benchmarks.run [--rounds 7] [--requests 2000] [--json FILE] [--write]
"""

import argparse
import contextlib
import os
import time
from pathlib import Path

from tests.benchmarks.load import percentile
from tests.benchmarks.report import Report, Row, Verdict, command, cpu_model, median
from tests.benchmarks.rounds import Rounds, alternate, cpu, latency, ratio
from tests.benchmarks.targets import Target, bare, collector, disk, sidegate, tmpfs, upstream

BARE, SLOW_BARE, DIRECT = "bare forward", "bare forward, 50 ms upstream", "upstream alone"
STUB_TMPFS, STUB_DISK = "stub OPA, tmpfs", "stub OPA, disk"
TRACED, SLOW_DISK = "stub OPA, tmpfs, 3 spans exported", "stub OPA, disk, 50 ms upstream"
COLUMNS = {
    "target": "target",
    "cpu_us": "CPU us/call (c=16)",
    "cpu_ratio": "ratio to bare",
    "opa_cpu_us": "OPA's CPU us/call",
    "p50_us": "p50 us (c=1)",
    "p50_ratio": "ratio to bare",
    "p99_us": "p99 us (c=1)",
    "p99_us_c16": "p99 us (c=16)",
    "rate": "calls/s (c=16)",
}


async def run(args: argparse.Namespace) -> Report:
    """All targets of an instant upstream, then those of a slow one."""
    async with contextlib.AsyncExitStack() as stack:
        enter = stack.enter_async_context
        port, slow = await enter(upstream()), await enter(upstream(0.05))
        first = await enter(bare(port))
        targets = [Target(name=DIRECT, port=port, requests=first.requests), first]
        spans = {"OTEL_EXPORTER_OTLP_ENDPOINT": await enter(collector())}
        for name, folder, stub, environment in (
            (STUB_TMPFS, tmpfs(), True, None),
            (TRACED, tmpfs(), True, spans),
            (STUB_DISK, disk(), True, None),
            ("real OPA, tmpfs", tmpfs(), False, None),
            ("real OPA, disk", disk(), False, None),
        ):
            targets.append(await enter(sidegate(name, port, folder=folder, stub_opa=stub, environment=environment)))
        slow_targets = [
            await enter(bare(slow, SLOW_BARE)),
            await enter(sidegate(SLOW_DISK, slow, folder=disk(), stub_opa=True)),
        ]
        counts = {16: args.requests, 1: max(20, args.requests // 5)}
        measured = await alternate(targets, rounds=args.rounds, counts=counts)
        few = {16: max(64, args.requests // 4), 1: max(10, args.requests // 100)}
        measured |= await alternate(slow_targets, rounds=args.rounds, counts=few)
    flush = flush_seconds(disk(), 200)
    rows = [_row(measured, name, SLOW_BARE if name in (SLOW_BARE, SLOW_DISK) else BARE) for name in measured]
    return Report(
        name="run",
        columns=COLUMNS,
        rows=rows,
        verdicts=verdicts(measured, flush),
        notes=[f"One flush (`fdatasync` of 1.5 KiB appended) of the same disk: {flush * 1e6:.0f} us at the median."],
        options={"rounds": args.rounds, "requests": args.requests},
    )


def _row(measured: Rounds, name: str, base: str) -> Row:
    own = measured[name]
    row = {
        "target": name,
        "p50_us": median(map(latency(50), own)) * 1e6,
        "p50_ratio": ratio(own, measured[base], latency(50)),
        "p99_us": median(map(latency(99), own)) * 1e6,
        "p99_us_c16": median(map(latency(99, 16), own)) * 1e6,
        "rate": median(len(m[16].latencies) / m[16].seconds for m in own),
    }
    if "proxy" not in own[0][16].cpu:
        return row
    row |= {"cpu_us": median(map(cpu(), own)) * 1e6, "cpu_ratio": ratio(own, measured[base], cpu())}
    return row | ({"opa_cpu_us": median(map(cpu("opa"), own)) * 1e6} if "opa" in own[0][16].cpu else {})


def verdicts(measured: Rounds, flush: float) -> list[Verdict]:
    """P1, P2, P3 and P7."""
    base, direct = measured[BARE], measured[DIRECT]

    def added(name: str) -> float:
        rounds = zip(measured[name], base, direct, strict=True)
        return median(
            (a[1].percentile(50) - d[1].percentile(50)) / (b[1].percentile(50) - d[1].percentile(50))
            for a, b, d in rounds
        )

    def against(name: str, other: str) -> float:
        return ratio(measured[name], measured[other], cpu())["median"]

    pairs = list(zip(measured[TRACED], measured[STUB_TMPFS], base, strict=True))
    spans = median((t[16].cpu["proxy"] - w[16].cpu["proxy"]) / b[16].cpu["proxy"] for t, w, b in pairs)
    waited = median(
        a[1].percentile(50) - b[1].percentile(50)
        for a, b in zip(measured[STUB_DISK], measured[STUB_TMPFS], strict=True)
    )
    tail = ratio(measured[TRACED], measured[STUB_TMPFS], latency(99, 16))["median"]
    limit = 1.9 if "AMD" in cpu_model() else 2.1
    judged: list[tuple[str, str, float, float]] = [
        ("P1", "CPU per call, tmpfs, stub OPA (c=16)", against(STUB_TMPFS, BARE), limit),
        ("P1", "the same with spans exported", against(TRACED, BARE), limit),
        ("P2", "p50 added over the upstream alone (c=1), to what the bare forward adds", added(STUB_TMPFS), 1.8),
        ("P3", "CPU per call, disk, instant upstream (c=16)", against(STUB_DISK, BARE), 2.1),
        ("P3", "CPU per call, disk, 50 ms upstream (c=16)", against(SLOW_DISK, SLOW_BARE), 2.5),
        ("P7", "CPU of three spans per call (c=16), to the bare forward's", spans, 0.25),
        ("P7", "p99 with spans to without (c=16)", tail, 1.3),
    ]
    disk_adds = Verdict(
        budget="P3", what="p50 that the disk adds (c=1)", value=waited * 1e6, limit=flush * 1e6 + 300, unit="us"
    )
    return [*(Verdict(budget=p, what=what, value=value, limit=most) for p, what, value, most in judged), disk_adds]


def flush_seconds(folder: Path, times: int) -> float:
    """Median seconds of an append of 1.5 KiB and its flush."""
    path = folder / f"flush-{os.getpid()}"
    taken = []
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        for _ in range(times):
            began = time.perf_counter()
            os.write(descriptor, b"x" * 1536)
            os.fdatasync(descriptor)
            taken.append(time.perf_counter() - began)
    finally:
        os.close(descriptor)
        path.unlink()
    return percentile(sorted(taken), 50)


if __name__ == "__main__":
    command("run", __doc__, run, rounds=7, requests=2000)
