"""A sidecar with a loop-lag probe beside it, in the same process: what `sidegate serve` does, and one task more.

Each millisecond the task should wake; how late it wakes is how long something held the event loop, or how long the kernel gave
the processor to others. The CPU time that this thread used meanwhile tells the two apart.
Run: python -m tests.benchmarks.probe FILE SETTINGS; at its end FILE has {"ticks", "late": [[monotonic s, late s, own CPU s]]}.
"""

import asyncio
import gc
import json
import sys
import time
from pathlib import Path

import uvloop

from proxy import app
from proxy.settings import read
from proxy.telemetry import logs

EVERY = 0.001  # seconds
NOTED = 0.0005  # seconds late


async def watched(settings: Path, found: dict[str, object]) -> None:
    """Serve until SIGTERM, with the probe."""
    late: list[tuple[float, float, float]] = []
    found |= {"late": late, "ticks": 0}
    probe = asyncio.create_task(_probe(late, found))
    try:
        await app.serve(read(settings))
    finally:
        probe.cancel()


async def _probe(late: list[tuple[float, float, float]], found: dict[str, object]) -> None:
    ticks = 0
    while True:
        due, used = time.monotonic() + EVERY, time.thread_time()
        await asyncio.sleep(EVERY)
        now = time.monotonic()
        ticks += 1
        if now - due > NOTED:
            late.append((now, now - due, time.thread_time() - used))
            found["ticks"] = ticks


if __name__ == "__main__":
    logs.configure("INFO", sys.stderr)
    figures: dict[str, object] = {}
    gc.freeze()  # as `sidegate serve` does
    gc.set_threshold(50_000, 20, 20)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(watched(Path(sys.argv[2]), figures))
    Path(sys.argv[1]).write_text(json.dumps(figures))
