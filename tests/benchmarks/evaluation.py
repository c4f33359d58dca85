"""What the real OPA takes for one decision (P13), by its own REST timers, supervised as the sidecar does it.

Run: python -m tests.benchmarks.evaluation [--rounds 7] [--queries 200] [--json FILE] [--write]
"""

import argparse
import contextlib
import json
from dataclasses import replace

from proxy.adapters.opa import DECISION
from proxy.adapters.opa_transport import SidecarOpaClient
from tests.benchmarks.inside import CALLER, facts_after, parts, store
from tests.benchmarks.load import cpu_seconds, percentile
from tests.benchmarks.report import Report, Row, Verdict, command, spread
from tests.benchmarks.targets import Running, sidegate, tmpfs, upstream

CALLS = (0, 20, 200)
GRANTS = (10, 1_000, 10_000)
TIMERS = {
    "eval_us": "timer_rego_query_eval_ns",
    "parse_us": "timer_rego_input_parse_ns",
    "handler_us": "timer_server_handler_ns",
}
COLUMNS = {
    "grants": "grants",
    "calls": "earlier calls",
    "input_bytes": "input, bytes",
    "eval_us": "evaluation us, p50",
    "parse_us": "input parse us, p50",
    "handler_us": "whole handler us, p50",
    "cpu_us": "OPA's CPU us",
}


async def run(args: argparse.Namespace) -> Report:
    """Every number of grants with every number of earlier calls, in alternated rounds."""
    documents = await inputs()
    found: dict[tuple[int, int], list[dict[str, float]]] = {}
    async with contextlib.AsyncExitStack() as stack:
        port = await stack.enter_async_context(upstream())
        sidecars: dict[int, tuple[Running, SidecarOpaClient]] = {}
        for grants in GRANTS:
            made = sidegate(f"{grants} grants", port, folder=tmpfs(), stub_opa=False, conversations=1, grants=grants)
            running = await stack.enter_async_context(made)
            socket = next((running.rig.folder / "state" / "opa").glob("*.sock*"))
            client = await stack.enter_async_context(SidecarOpaClient(f"unix://{socket}", deadline=5.0))
            sidecars[grants] = running, client
            print(f"  {grants} grants loaded", flush=True)
        for number in range(args.rounds + 1):  # the first warms up
            for grants, (running, client) in sidecars.items():
                for calls, document in documents.items():
                    asked = await ask(client, document, args.queries, running.pids["opa"])
                    if number:
                        found.setdefault((grants, calls), []).append(asked)
    rows = [_row(grants, calls, documents[calls], rounds) for (grants, calls), rounds in found.items()]
    return Report(name="evaluation", columns=COLUMNS, rows=rows, verdicts=verdicts(rows), options=_options(args))


def _options(args: argparse.Namespace) -> dict[str, int]:
    return {"rounds": args.rounds, "queries": args.queries}


async def inputs() -> dict[int, bytes]:
    """OPA's input after so many calls of the same conversation, as the sidecar's own store and builder make it."""
    one = parts()
    made = {}
    callers = [replace(CALLER, conversation=f"c{calls}") for calls in CALLS]
    async with store(tmpfs(), *callers) as state:
        for calls in CALLS:
            made[calls] = one.document(await facts_after(state, calls, one, f"c{calls}"))
    return made


async def ask(client: SidecarOpaClient, document: bytes, times: int, pid: int) -> dict[str, float]:
    """Medians of OPA's timers, and its CPU per query, in us. Raises RuntimeError unless every answer is an allow."""
    body = b'{"input":' + document + b"}"
    taken: dict[str, list[float]] = {name: [] for name in TIMERS}
    before = cpu_seconds(pid)
    for _ in range(times):
        status, _, answer = await client.post(f"{DECISION}&metrics=true", body, {})
        said = json.loads(answer)
        if status != 200 or said["result"]["effect"] != "allow":
            raise RuntimeError(f"not allowed: {said}")
        for name, timer in TIMERS.items():
            taken[name].append(said["metrics"][timer] / 1000)
    cpu = (cpu_seconds(pid) - before) / times * 1e6
    return {name: percentile(sorted(values), 50) for name, values in taken.items()} | {"cpu_us": cpu}


def _row(grants: int, calls: int, document: bytes, rounds: list[dict[str, float]]) -> Row:
    figures = {name: spread(one[name] for one in rounds) for name in (*TIMERS, "cpu_us")}
    return {"grants": grants, "calls": calls, "input_bytes": len(document), **figures}


def verdicts(rows: list[Row]) -> list[Verdict]:
    """The worst case, and how it grows."""
    evaluated = {(row["grants"], row["calls"]): row["eval_us"]["median"] for row in rows}
    parsed = max(row["parse_us"]["median"] for row in rows)
    by_grants = max(evaluated[GRANTS[-1], calls] / evaluated[GRANTS[0], calls] for calls in CALLS)
    by_calls = max(evaluated[grants, CALLS[-1]] / evaluated[grants, CALLS[0]] for grants in GRANTS)
    return [
        Verdict(budget="P13", what="evaluation p50, worst case", value=max(evaluated.values()), limit=250, unit="us"),
        Verdict(budget="P13", what="input parse p50, worst case", value=parsed, limit=250, unit="us"),
        Verdict(budget="P13", what="evaluation at 10,000 grants to 10", value=by_grants, limit=1.2),
        Verdict(budget="P13", what="evaluation after 200 earlier calls to none", value=by_calls, limit=1.2),
    ]


if __name__ == "__main__":
    command("evaluation", __doc__, run, rounds=7, queries=200)
