"""How long a start takes until the first call is served, and what an idle process weighs (P11).

Run: python -m tests.benchmarks.startup [--rounds 5] [--json FILE] [--write]
"""

import argparse
import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator
from typing import Any

from tests.benchmarks.load import STATUS, Client, connect, rss_mib
from tests.benchmarks.report import Report, Row, Verdict, command, spread
from tests.benchmarks.targets import launch, prepared, start, tmpfs, upstream
from tests.benchmarks.world import ARGUMENTS, calls, request
from tests.e2e.rig import Rig
from tests.e2e.sidecar import free_ports

BARE, FRESH, AGAIN = "bare forward", "supervised OPA, empty state", "supervised OPA, second start"
EXTERNAL, EXTERNAL_AGAIN = "external stub OPA, empty state", "external stub OPA, second start"
COLUMNS = {
    "target": "target",
    "first_s": "start to first served call, s",
    "ready_s": "start to first registration, s",
    "rss_mib": "idle RSS MiB",
    "opa_rss_mib": "OPA's RSS MiB",
}
IDLE = 1.0  # seconds after the first call


async def run(args: argparse.Namespace) -> Report:
    """Every kind once a round. The second start has journal, checkpoint and bundle of the first."""
    found: dict[str, list[dict[str, float]]] = {}
    async with upstream() as port:
        for number in range(args.rounds):
            async for name, taken in _round(port):
                found.setdefault(name, []).append(taken)
            print(f"  round {number + 1} of {args.rounds}", flush=True)
    rows: list[dict[str, Any]] = [
        {"target": name, **{key: spread(one[key] for one in taken) for key in taken[0]}}
        for name, taken in found.items()
    ]
    by_name = {row["target"]: row for row in rows}
    weight = by_name[EXTERNAL]["rss_mib"]["median"] / by_name[BARE]["rss_mib"]["median"]
    return Report(
        name="startup",
        columns=COLUMNS,
        rows=rows,
        verdicts=[
            *(_start(by_name[name], name) for name in (EXTERNAL, FRESH)),
            Verdict(budget="P11", what="idle RSS to the bare forward's", value=weight, limit=1.35),
        ],
        options={"rounds": args.rounds},
    )


def _start(row: Row, name: str) -> Verdict:
    return Verdict(
        budget="P11", what=f"start to first served call, {name}", value=row["first_s"]["median"], limit=0.6, unit="s"
    )


async def _round(port: int) -> AsyncIterator[tuple[str, dict[str, float]]]:
    yield BARE, await _bare(port)
    for stub, names in ((False, (FRESH, AGAIN)), (True, (EXTERNAL, EXTERNAL_AGAIN))):
        async with prepared(port, folder=tmpfs(), stub_opa=stub) as (rig, _):
            for name in names:
                yield name, await _sidegate(rig, supervised=not stub)


async def _bare(port: int) -> dict[str, float]:
    (own,) = free_ports(1)
    began = time.monotonic()
    process = start("tests.benchmarks.bare_forward", str(own), f"http://127.0.0.1:{port}/stock")
    try:
        client = await _connected(own)
        await _answered(client, request("/", json.dumps(ARGUMENTS).encode()))
        first = time.monotonic() - began
        await asyncio.sleep(IDLE)
        return {"first_s": first, "rss_mib": rss_mib(process.pid)}
    finally:
        process.kill()
        process.wait()


async def _sidegate(rig: Rig, *, supervised: bool) -> dict[str, float]:
    """The agent port is bound last, so the first connection can be used at once."""
    token = f"authorization: Bearer {rig.users['ada']}"
    began = time.monotonic()
    launch(rig)
    client = await _connected(rig.ports["agent"])
    body = await _answered(client, request("/v1/conversations/c1", b'{"text":"hello"}', token, method="PUT"))
    ready = time.monotonic() - began
    (asked,) = calls("get_stock", [json.loads(body)["handle"]])
    await _answered(client, asked)
    taken = {"first_s": time.monotonic() - began, "ready_s": ready}
    await asyncio.sleep(IDLE)
    taken["rss_mib"] = rss_mib(rig.pid)
    if supervised:
        taken["opa_rss_mib"] = rss_mib(rig.opa_pid())
    client.transport.close()
    await rig.stop()
    return taken


async def _connected(port: int, seconds: float = 30.0) -> Client:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with contextlib.suppress(OSError):
            return await connect(port)
        await asyncio.sleep(0.002)
    raise RuntimeError(f"nothing listens on {port} after {seconds} s")


async def _answered(client: Client, asked: bytes) -> bytes:
    head, body = await client.ask(asked)
    if head[STATUS] != b"200":
        raise RuntimeError(f"not served: {head!r} {body!r}")
    return body


if __name__ == "__main__":
    command("startup", __doc__, run, rounds=5)
