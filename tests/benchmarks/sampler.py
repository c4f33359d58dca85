"""A sidecar that samples itself: at each millisecond of CPU time, which part of the code was running.

A sample counts for the innermost frame of Sidegate's own on the stack, and for the library below that one, if any.
Run: python -m tests.benchmarks.sampler FILE SETTINGS; SIGUSR1 forgets what was counted so far; at its end FILE has the counts.
"""

import asyncio
import gc
import json
import signal
import sys
from collections import Counter
from pathlib import Path
from types import FrameType

import uvloop

from proxy import app
from proxy.settings import read
from proxy.telemetry import logs

EVERY = 0.001  # seconds of CPU time
LIBRARIES = {
    "aiohttp/web": "HTTP server",
    "aiohttp/client": "HTTP client",
    "aiohttp/": "aiohttp",
    "asyncio/": "asyncio",
}


def place(frame: FrameType | None) -> str:
    """Like `http_exchange.py, HTTP client`; `event loop` where no frame tells more."""
    library = ""
    while frame is not None:
        path = frame.f_code.co_filename
        if "/proxy/" in path and "/cli/" not in path and not path.endswith("/app.py"):
            return f"{path.partition('/proxy/')[2]}{', ' if library else ''}{library}"
        library = library or next(
            (name for part, name in LIBRARIES.items() if part in path and "runners" not in path), ""
        )
        frame = frame.f_back
    return library or "event loop"


async def sampled(settings: Path, found: Counter[str]) -> None:
    """Serve until SIGTERM. uvloop would hand signals to a callback, by when the stack is gone; `signal` asks at once."""
    signal.signal(signal.SIGPROF, lambda _number, frame: found.update((place(frame),)))
    signal.signal(signal.SIGUSR1, lambda _number, _frame: found.clear())
    signal.setitimer(signal.ITIMER_PROF, EVERY, EVERY)
    try:
        await app.serve(read(settings))
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


if __name__ == "__main__":
    logs.configure("INFO", sys.stderr)
    counts: Counter[str] = Counter()
    gc.freeze()  # as `sidegate serve` does
    gc.set_threshold(50_000, 20, 20)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(sampled(Path(sys.argv[2]), counts))
    Path(sys.argv[1]).write_text(json.dumps(counts))
