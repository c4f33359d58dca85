"""Where the time of one call goes inside a busy sidecar: samples of the running process, by file, as CPU per call.

Run: python -m tests.benchmarks.profiled [--requests 10000] [--json FILE] [--write]
"""

import argparse
import json
import os
import signal
import tempfile
from collections import Counter
from pathlib import Path

from tests.benchmarks.load import load
from tests.benchmarks.report import Report, command
from tests.benchmarks.targets import sidegate, tmpfs, upstream

COLUMNS = {"place": "innermost file of Sidegate's, and the library below it", "share": "share", "cpu_us": "CPU us/call"}
SHOWN = 30


async def run(args: argparse.Namespace) -> Report:
    """One sidecar at c=16, stub OPA, tmpfs. Sampling itself costs a few percent."""
    with tempfile.TemporaryDirectory() as folder:
        figures = Path(folder) / "counts.json"
        launcher = ("tests.benchmarks.sampler", str(figures))
        async with (
            upstream() as port,
            sidegate("sampled", port, folder=tmpfs(), stub_opa=True, launcher=launcher) as target,
        ):
            await load(target.port, target.requests, concurrency=16, count=500, watched={})
            os.kill(target.rig.pid, signal.SIGUSR1)
            found = await load(target.port, target.requests, concurrency=16, count=args.requests, watched=target.pids)
            await target.rig.stop()
        counts = Counter[str](json.loads(figures.read_text()))
    total, cpu = counts.total(), found.cpu["proxy"] * 1e6
    rows = [{"place": p, "share": n / total, "cpu_us": n / total * cpu} for p, n in counts.most_common(SHOWN)]
    rest = total - sum(n for _, n in counts.most_common(SHOWN))
    rows += [
        {"place": f"{max(0, len(counts) - SHOWN)} others", "share": rest / total, "cpu_us": rest / total * cpu},
        {"place": "all", "share": 1.0, "cpu_us": cpu},
    ]
    note = (
        f"{total:,} samples. C code counts for the Python line that called it; garbage collection for whoever met it."
    )
    return Report(
        name="profiled", columns=COLUMNS, rows=rows, notes=[note], bad=found.bad, options={"requests": args.requests}
    )


if __name__ == "__main__":
    command("profiled", __doc__, run, requests=10_000)
