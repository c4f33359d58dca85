"""What a call costs with its state on a shared server beside the embedded store: alternated rounds in one run.

Run: python -m tests.benchmarks.stores [--rounds 7] [--requests 2000] [--json FILE] [--write]
"""

import argparse
import contextlib
import os
import subprocess
import tempfile
from pathlib import Path

from tests.benchmarks.report import Report, Row, Verdict, command, median
from tests.benchmarks.rounds import Rounds, alternate, cpu, latency, ratio
from tests.benchmarks.targets import disk, sidegate, upstream
from tests.e2e.redis_server import redis_server

EMBEDDED, SHARED = "embedded", "shared"
BUDGET = 1.5  # issue 5
COLUMNS = {
    "target": "state",
    "cpu_us": "CPU us/call (c=16)",
    "cpu_ratio": "ratio to embedded",
    "server_cpu_us": "server's CPU us/call",
    "p50_us": "p50 us (c=1)",
    "p50_ratio": "ratio to embedded",
}


async def run(args: argparse.Namespace) -> Report:
    """Journal and SQLite on the disk beside journal and server on the same disk, `appendfsync always`."""
    async with contextlib.AsyncExitStack() as stack:
        enter = stack.enter_async_context
        port = await enter(upstream())
        work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sidegate-bench-", dir=disk())))
        server = await enter(redis_server(work / "redis"))
        (work / "mac.key").write_bytes(b"m" * 32)
        shared = {"valkey": {"url": server.url, "mac_key_file": str(work / "mac.key"), "deadline": "5s"}}
        targets = []
        for name, settings in ((EMBEDDED, {}), (SHARED, {"store": shared})):
            targets.append(await enter(sidegate(name, port, folder=disk(), stub_opa=True, settings=settings)))
        if server.process is not None:
            targets[1].pids["server"] = server.process.pid
        _keep_apart([target.pids["proxy"] for target in targets])
        counts = {16: args.requests, 1: max(20, args.requests // 5)}
        measured = await alternate(targets, rounds=args.rounds, counts=counts)
    rows = [_row(measured, name) for name in measured]
    worth = ratio(measured[SHARED], measured[EMBEDDED], cpu())["median"]
    what = "CPU per call with a shared store, to the embedded one's (c=16)"
    return Report(
        name="stores",
        columns=COLUMNS,
        rows=rows,
        verdicts=[Verdict(budget="issue 5", what=what, value=worth, limit=BUDGET)],
        options={"rounds": args.rounds, "requests": args.requests},
    )


def _keep_apart(proxies: list[int]) -> None:
    """The proxies on one core, all else on the others. The server is another machine's in earnest; here each command would
    wake it on the core that sent it, and the proxy would lose that core and its caches (7 times a call, measured)."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) == 1:
        return
    children = subprocess.run(["pgrep", "-P", str(os.getpid())], capture_output=True, text=True, check=True).stdout
    for process in {os.getpid(), *map(int, children.split())} - set(proxies):
        _pin(process, set(cores[1:]))
    for process in proxies:
        _pin(process, {cores[0]})


def _pin(process: int, cores: set[int]) -> None:
    with contextlib.suppress(OSError):  # a process that has ended meanwhile
        for thread in Path(f"/proc/{process}/task").iterdir():
            os.sched_setaffinity(int(thread.name), cores)


def _row(measured: Rounds, name: str) -> Row:
    own, base = measured[name], measured[EMBEDDED]
    row = {
        "target": name,
        "cpu_us": median(map(cpu(), own)) * 1e6,
        "cpu_ratio": ratio(own, base, cpu()),
        "p50_us": median(map(latency(50), own)) * 1e6,
        "p50_ratio": ratio(own, base, latency(50)),
    }
    return row | ({"server_cpu_us": median(map(cpu("server"), own)) * 1e6} if name == SHARED else {})


if __name__ == "__main__":
    command("stores", __doc__, run, rounds=7, requests=2000)
