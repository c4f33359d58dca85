"""A load that rises until it breaks: open loop over rates, conversations and held calls; what is refused, and what is lost.

One sidecar with default limits, its own OPA, state on disk. Each twentieth call is one that policy denies. Afterwards every answer
must have its record, and every request that the upstream received its intent.
Run: python -m tests.benchmarks.growth [--seconds 4] [--top 5000] [--conversations 100000] [--held 4000] [--json FILE] [--write]
"""

import argparse
import contextlib
import random
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from tests.benchmarks.held import holding, limits, settled, waiting
from tests.benchmarks.load import Offered, cpu_seconds, offer, percentile, rss_mib
from tests.benchmarks.report import Report, Verdict, command
from tests.benchmarks.targets import Running, disk, received, registered, sidegate, upstream
from tests.benchmarks.world import call, request
from tests.e2e.rig import Rig

RATES = (1, 50, 400, 800, 1600, 3200, 5000)
USUAL = 200  # calls/s, before and after
BESIDE = 400  # calls/s beside many conversations and held calls
DENIED_EACH = 20
DEADLINE = 5.0  # seconds, the tool's
COLUMNS = {
    "step": "step",
    "conversations": "conversations",
    "held": "held",
    "offered": "offered/s",
    "answered": "answered/s",
    "done": "done/s",
    "p50_ms": "p50 ms",
    "p99_ms": "p99 ms",
    "refused_p99_ms": "p99 of refusals ms",
    "refusals": "refusals",
    "unsent": "not sent",
    "cpu": "CPU cores",
    "rss_mib": "RSS MiB",
    "opa_rss_mib": "OPA's RSS MiB",
}
_FIRST = 1_000_000  # so that all numbers have seven digits and bodies one length
_REFUSALS = frozenset({"overloaded", "policy_unavailable"})  # what over the limit may be said to a call that is allowed


@dataclass(slots=True, kw_only=True)
class Run:
    """What was asked and answered in all steps."""

    target: Running
    seconds: float
    number: int = _FIRST
    answered: dict[str, str] = field(default_factory=dict)  # call id -> code
    wrong: Counter[str] = field(default_factory=Counter)
    nameless: int = 0
    broken: int = 0
    opa_ends: int = 0  # steps after which another OPA ran
    rows: list[dict[str, Any]] = field(default_factory=list)

    async def step(self, name: str, handles: Sequence[str], rate: float, *, held: int = 0) -> None:
        """So many calls a second for a while, over these conversations."""
        allowed, denied = (_template(tool) for tool in ("get_stock", "drop_all"))
        keys = [f"x-sidegate-conversation: {handle}\r\n\r\n".encode() for handle in handles]
        first = self.number

        def build(number: int) -> bytes:
            head, before, after = denied if number % DENIED_EACH == 0 else allowed
            return b"%b%b%b%d%b" % (head, keys[number % len(keys)], before, first + number, after)

        pid, opa = self.target.rig.pid, self.target.rig.opa_pid()
        used, began = cpu_seconds(pid), time.monotonic()
        made = await offer(self.target.port, build, rate=rate, seconds=self.seconds, judge=self._judge)
        cores = (cpu_seconds(pid) - used) / (time.monotonic() - began)
        self.number += int(rate * self.seconds) + 1
        self.broken += made.broken
        await self.target.rig.until(self.target.rig.ready, "the sidecar is ready again", seconds=60)
        left = self.target.rig.opa_pid()
        self.opa_ends += left != opa
        row = _row(made) | {"cpu": cores, "rss_mib": rss_mib(pid), "opa_rss_mib": rss_mib(left)}
        self.rows.append({"step": name, "conversations": len(handles), "held": held, "offered": rate} | row)
        print(f"  {name}: {row['answered']:.0f}/s answered, {row['refusals'] or 'nothing refused'}", flush=True)

    def _judge(self, number: int, head: bytes, body: bytes) -> str:
        code = "done"
        if not head.startswith(b"http/1.1 200"):
            code = body.partition(b'"code":"')[2].partition(b'"')[0].decode() or "no code"
        ident = head.partition(b"x-sidegate-call-id: ")[2].partition(b"\r\n")[0].decode()
        self.nameless += not ident
        self.answered[ident] = code
        right = "denied" if number % DENIED_EACH == 0 else "done"
        if code != right and code not in _REFUSALS:
            self.wrong[f"{code} for {right}"] += 1
        return code


def _template(tool: str) -> tuple[bytes, bytes, bytes]:
    """A request up to its handle, its body up to the number, and the rest."""
    body = call(tool, number=_FIRST)
    before, after = body.split(str(_FIRST).encode())
    head = request("/v1/tool-calls", body).partition(b"\r\n\r\n")[0] + b"\r\n"
    return head, before, after


def _row(made: Offered) -> dict[str, Any]:
    counted = made.counted()
    refused = [code for code in counted if code not in ("done", "denied")]
    return {
        "answered": counted.total() / made.seconds,
        "done": counted["done"] / made.seconds,
        "p50_ms": made.percentile(50, "done") * 1000,
        "p99_ms": made.percentile(99, "done") * 1000,
        "refused_p99_ms": made.percentile(99, *refused) * 1000 if refused else 0.0,
        "refusals": {code: counted[code] for code in sorted(refused)},
        "unsent": made.unsent,
        "late_ms": made.late * 1000,
    }


async def run(args: argparse.Namespace) -> Report:
    """Rates first, then conversations, then held calls; the usual rate between and after."""
    if args.conversations < 2 * args.held:
        raise SystemExit("growth needs twice as many conversations as held calls")
    raised = limits(2 * args.held)
    raised["limits"] = raised["limits"] | {
        "in_flight": 256,
        "conversations_in_memory": 10_000,
    }  # these two as by default
    raised["opa"] = {"deadline": "250ms"}
    async with contextlib.AsyncExitStack() as stack:
        port = await stack.enter_async_context(upstream())
        made = sidegate("growth", port, folder=disk(), stub_opa=False, conversations=1, settings=raised)
        target = await stack.enter_async_context(made)
        done = Run(target=target, seconds=args.seconds)
        one = await registered(target.rig, [0])
        thousand = await registered(target.rig, range(1000, 2000))
        await done.step("warm-up", thousand, USUAL)
        done.rows.clear()
        await done.step("one conversation", one, USUAL)
        await done.step("usual before", thousand, USUAL)
        for rate in [r for r in RATES if r <= args.top]:
            await done.step(f"{rate:,}/s", thousand, rate)
        await done.step("usual again", thousand, USUAL)
        many = await registered(target.rig, range(10_000, 10_000 + args.conversations))
        await done.step("many conversations", random.Random(7).sample(many, len(many)), BESIDE)
        first = 0
        for held in sorted(
            {args.held // 4, args.held}
        ):  # each in conversations of their own: reviews outlive their callers
            before = await waiting(target.rig)
            async with holding(target.rig, many[first : first + held]):
                reached = await waiting(target.rig) - before
                await done.step(f"{held:,} held", thousand, BESIDE, held=reached)
            await settled(target.rig)
            first += held
        await done.step("usual, right after they hung up", thousand, USUAL)
        await done.step("usual at the end", thousand, USUAL)
        books = await audited(target.rig, done, port)
    return Report(
        name="growth",
        columns=COLUMNS,
        rows=done.rows,
        verdicts=_verdicts(done, books),
        bad=done.wrong.total() + books["lost"] + books["unintended"] + (books["verify"] != 0),
        notes=[_note(done, books)],
        options={"seconds": args.seconds, "conversations": args.conversations, "held": args.held},
    )


def _note(done: Run, books: Mapping[str, int]) -> str:
    return (
        f"{len(done.answered):,} answers, wrong: {dict(done.wrong) or 'none'}; {books['lost']} without their one record; "
        f"{books['intents']:,} intents for {books['received']:,} requests that the upstream received; "
        f"{done.broken} connections broken; exit code of `audit verify`: {books['verify']}. "
        f"The schedule itself was late by at most {max(row['late_ms'] for row in done.rows):.0f} ms."
    )


async def audited(rig: Rig, done: Run, upstream_port: int) -> Mapping[str, int]:
    """Whether the journal has everything that was answered and everything that was sent."""
    await rig.until(lambda: _idle(rig), "nothing is in flight")
    ends, intents = Counter[str](), Counter[str]()
    for path in sorted((rig.folder / rig.settings["state"] / "journal").glob("*.jsonl")):
        for kind, name in _named(path):
            (ends if kind == "terminal" else intents)[name] += 1
    arrived = await received(upstream_port)
    return {
        "lost": sum(ends[name] != 1 for name in done.answered) + sum(ends[name] != 1 for name in intents),
        "intents": intents.total(),
        "received": arrived,
        "unintended": max(0, arrived - intents.total()),
        "verify": rig.verify(),
    }


async def _idle(rig: Rig) -> bool:
    _, status = await rig.review("GET", "/v1/status")
    return bool(status["in_flight"] == 0)


def _named(path: Path) -> list[tuple[str, str]]:
    with path.open("rb") as lines:
        read = (orjson.loads(line) for line in lines if line.startswith(b"{") and line.endswith(b"\n"))
        return [(r["kind"], r["call"]) for r in read if r["kind"] in ("intent", "terminal")]


def _verdicts(done: Run, books: Mapping[str, int]) -> list[Verdict]:
    rows = {row["step"]: row for row in done.rows}
    before, after, end = rows["usual before"], rows["usual again"], rows["usual at the end"]
    shed = percentile(sorted(row["refused_p99_ms"] for row in done.rows), 100)
    other = sum(count for row in done.rows for code, count in row["refusals"].items() if code != "overloaded")
    refused = sum(sum(row["refusals"].values()) for row in (after, end))
    lost = books["lost"] + books["unintended"] + (books["verify"] != 0)
    slower = max(after["p50_ms"], end["p50_ms"]) / before["p50_ms"]
    judged: list[tuple[str, float, float, str]] = [
        ("answers that were wrong", done.wrong.total(), 0, "calls"),
        ("calls without their one record, requests without intent, a broken chain", lost, 0, "found"),
        ("times that OPA was ended and started anew", done.opa_ends, 0, "steps"),
        ("p99 of refusals over the limit", shed, DEADLINE * 1000, "ms"),
        ("refusals over the limit other than overloaded", other, 0, "calls"),
        ("refusals at the usual rate after the limit", refused, 0, "calls"),
        ("p50 at the usual rate, after to before", slower, 1.5, "x"),
    ]
    return [
        Verdict(budget="growth", what=what, value=value, limit=limit, unit=unit) for what, value, limit, unit in judged
    ]


if __name__ == "__main__":
    command("growth", __doc__, run, seconds=4, top=5000, conversations=100_000, held=4000)
