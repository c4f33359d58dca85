"""Where the time of one call goes (P8): each stage alone, in this process, beside the bare forward's CPU in the same run.

Caches are warm here, so inside a busy server a stage costs more; the last rows say what is left between the sum and the whole.
Run: python -m tests.benchmarks.stages [--repetitions 25] [--calls 256] [--json FILE] [--write]
"""

import argparse
import asyncio
import contextlib
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import replace
from itertools import count
from typing import Any

from proxy.adapters.store_embedded import EmbeddedStore
from proxy.core.trail import Trail, intent_record, terminal_record
from tests.benchmarks.inside import CALLER, Parts, parts, store
from tests.benchmarks.load import percentile
from tests.benchmarks.report import Report, Row, Verdict, command, median
from tests.benchmarks.rounds import alternate, cpu
from tests.benchmarks.steps import BARE_SEND, SEND, SOMETIMES, plain, waiting
from tests.benchmarks.targets import bare, sidegate, stub_opa, tmpfs, upstream

WAVE = 16  # calls in flight, as at c=16
WHOLE = "the whole sidecar, measured from outside (c=16)"
COLUMNS = {
    "stage": "stage",
    "least_us": "least us",
    "median_us": "median us",
    "ratio": "median, ratio to bare forward",
    "share": "share of the whole",
}
COMMON = frozenset({SEND, BARE_SEND})  # what the bare forward has, too

Times = dict[str, list[float]]  # by stage, us per call of each repetition


async def run(args: argparse.Namespace) -> Report:
    """The stages in alternated repetitions, then the two processes."""
    times: Times = {}
    async with contextlib.AsyncExitStack() as stack:
        port = await stack.enter_async_context(upstream())
        one = parts(port)
        callers = [replace(CALLER, conversation=f"c{n}") for n in range(WAVE)]
        state = await stack.enter_async_context(store(tmpfs(), *callers))
        opa = await stack.enter_async_context(stub_opa(tmpfs()))
        steps = plain(one)
        awaited = await stack.enter_async_context(waiting(one, state, opa))
        for _ in range(args.repetitions):
            for name, step in steps.items():
                times.setdefault(name, []).append(_timed(step, args.calls))
            for name, wait in awaited.items():
                times.setdefault(name, []).append(await _awaited(wait, args.calls))
            for name, taken in (await _stored(state, one, args.calls)).items():
                times.setdefault(name, []).append(taken)
        targets = [
            await stack.enter_async_context(bare(port)),
            await stack.enter_async_context(sidegate("sidegate", port, folder=tmpfs(), stub_opa=True)),
        ]
        found = await alternate(targets, rounds=3, counts={16: args.calls * 8}, progress=False)
    base, whole = (median(map(cpu(), found[target.name])) * 1e6 for target in targets)
    rows = [_row(name, taken, base, whole) for name, taken in times.items()]
    return Report(
        name="stages",
        columns=COLUMNS,
        rows=[*rows, *_sums(rows, base, whole)],
        verdicts=[_verdict(rows)],
        options={"repetitions": args.repetitions, "calls": args.calls},
    )


def _row(name: str, taken: Sequence[float], base: float, whole: float) -> dict[str, Any]:
    middle = percentile(sorted(taken), 50)
    return {"stage": name, "least_us": min(taken), "median_us": middle, "ratio": middle / base, "share": middle / whole}


def _sums(rows: Sequence[Row], base: float, whole: float) -> list[Row]:
    own = sum(row["median_us"] for row in rows if row["stage"] not in SOMETIMES)
    rest = whole - own
    return [
        {
            "stage": "sum of the stages above but for those marked (*)",
            "median_us": own,
            "ratio": own / base,
            "share": own / whole,
        },
        {
            "stage": "the rest: HTTP server, tasks, event loop, cold caches",
            "median_us": rest,
            "ratio": rest / base,
            "share": rest / whole,
        },
        {"stage": WHOLE, "median_us": whole, "ratio": whole / base, "share": 1.0},
        {"stage": "bare forward (c=16)", "median_us": base, "ratio": 1.0, "share": base / whole},
    ]


def _verdict(rows: Sequence[Row]) -> Verdict:
    worst = max((row for row in rows if row["stage"] not in COMMON), key=lambda row: float(row["ratio"]))
    return Verdict(budget="P8", what="costliest stage, to the bare forward", value=worst["ratio"], limit=0.25)


def _timed(step: Callable[[], object], times: int) -> float:
    began = time.thread_time_ns()
    for _ in range(times):
        step()
    return (time.thread_time_ns() - began) / times / 1000


async def _awaited(step: Callable[[], Coroutine[Any, Any, object]], times: int) -> float:
    """CPU of this whole process, its event loop included; a wave at a time, as a busy server has it."""
    began = time.process_time_ns()
    for _ in range(times // WAVE):
        await asyncio.gather(*(step() for _ in range(WAVE)))
    return (time.process_time_ns() - began) / (times // WAVE * WAVE) / 1000


_ids = count()


async def _stored(state: EmbeddedStore, one: Parts, times: int) -> Mapping[str, float]:
    """Reserve, commit and settle, a wave at a time; the writer thread's CPU is in it, since it is the process's."""
    spent = dict.fromkeys(("reserve a number, gather facts", "commit the intent", "settle, flushed (tmpfs)"), 0)
    reserve, commit, settle = spent
    for _ in range(times // WAVE):
        trails: list[Trail] = []
        for n in range(WAVE):
            call_id, caller = f"{next(_ids):032d}", replace(CALLER, conversation=f"c{n}")
            began = time.process_time_ns()
            facts = await state.calls.reserve(call_id, caller, one.checked)
            spent[reserve] += time.process_time_ns() - began
            trails.append(one.trail(call_id, facts, caller))
        intents = [intent_record(trail, credential="api") for trail in trails]
        began = time.process_time_ns()
        for intent in intents:
            await state.calls.commit(intent, durable=False)
        spent[commit] += time.process_time_ns() - began
        for trail in trails:
            trail.committed = True
        ends = [terminal_record(t, result=one.result, seconds=0.001) for t in trails]
        began = time.process_time_ns()
        await asyncio.gather(*(state.calls.settle(end, durable=True) for end in ends))
        spent[settle] += time.process_time_ns() - began
    return {name: taken / (times // WAVE * WAVE) / 1000 for name, taken in spent.items()}


if __name__ == "__main__":
    command("stages", __doc__, run, repetitions=25, calls=256)
