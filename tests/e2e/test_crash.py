"""kill -9 in the middle of 200 calls, and start again on the same state: nothing acknowledged is lost, nothing runs twice."""

import asyncio
import contextlib
import signal
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from tests.e2e.rig import Received, Rig, echo

CALLS = 200

pytestmark = pytest.mark.slow


@dataclass(slots=True)
class Acknowledged:
    """What the sidecar has said before it died."""

    handles: dict[str, str] = field(default_factory=dict)
    approved: list[tuple[str, str, str]] = field(default_factory=list)  # conversation, call, review
    resumed: set[str] = field(default_factory=set)  # call ids of holds whose resume was answered as done
    done: Counter[tuple[str, str]] = field(default_factory=Counter)  # (conversation, tool)
    answers: int = 0


@dataclass(slots=True)
class Working:
    """An upstream that takes a little time; `now` counts what it works on."""

    now: int = 0

    async def __call__(self, request: Received, writer: asyncio.StreamWriter) -> None:
        self.now += 1
        await asyncio.sleep(0.02)
        self.now -= 1
        await echo(request, writer)


async def prepare_holds(rig: Rig, seen: Acknowledged) -> None:
    """Ten conversations at the point where the price is held, five of them approved, and ten that hold nothing."""
    for number in range(10):
        seen.handles[f"w{number}"] = await rig.register(f"w{number}")
        name = f"c{number}"
        seen.handles[name] = handle = await rig.register(name)
        for read in ("get_stock", "get_terms"):
            assert (await rig.send(handle, read)).status == 200
            seen.done[name, read] += 1
        held = await rig.send(handle, "get_price")
        assert held.code == "review_pending"
        if number < 5:
            review = held.body["refusal"]["review"]
            assert (await rig.approve(review))[0] == 200
            seen.approved.append((name, held.call_id, review))


async def one_call(rig: Rig, seen: Acknowledged, number: int) -> None:
    """A read, an order, a registration, a call that is held, or a resume; what is answered counts as acknowledged."""
    name = f"w{number % 10}"
    handle = seen.handles[name]
    kind = number % 5
    if kind == 0 and number % 10 == 0 and seen.approved:
        conversation, call, _ = seen.approved[(number // 10) % len(seen.approved)]
        status, _ = await rig.post(f"/v1/tool-calls/{call}/resume", b"", seen.handles[conversation])
        if status == 200:
            assert call not in seen.resumed
            seen.resumed.add(call)
    elif kind == 1:
        answer = await rig.send(handle, "create_order", {"sku": f"S{number}", "quantity": 1})
        seen.done[name, "create_order"] += answer.status == 200
    elif kind == 2:
        new = f"n{number}"
        seen.handles[new] = await rig.register(new)
    elif kind == 3:
        held = seen.handles[f"c{number % 10}"]
        assert (await rig.send(held, "get_price", {"sku": f"S{number}"})).status != 200
    else:
        answer = await rig.send(handle, "get_stock", {"sku": f"S{number}"})
        seen.done[name, "get_stock"] += answer.status == 200
    seen.answers += 1


async def storm(rig: Rig, seen: Acknowledged, *, die_after: int) -> None:
    """200 calls, 8 at a time; the process is killed once so many have been answered."""
    numbers = iter(range(CALLS))

    async def worker() -> None:
        with contextlib.suppress(aiohttp.ClientError):
            for number in numbers:
                await one_call(rig, seen, number)

    async def killer() -> None:
        working = rig.upstream.answer
        assert isinstance(working, Working)
        await rig.until_true(
            lambda: seen.answers >= die_after and working.now > 0, "so many answers, and one under way"
        )
        await rig.stop(signal.SIGKILL)

    await asyncio.gather(killer(), *(worker() for _ in range(8)))


@pytest_asyncio.fixture(loop_scope="module")
async def stormy(prepared: Rig) -> Rig:
    """A sidecar whose limits do not end the storm."""
    prepared.settings["limits"] = {"holds_per_conversation": 500, "new_holds_per_hour": 500, "holds_per_principal": 500}
    prepared.settings["patience"] = "50ms"
    prepared.upstream.answer = Working()
    await prepared.start()
    return prepared


def executions(rig: Rig, review: str) -> list[dict[str, Any]]:
    """Intents that spent an approval."""
    return rig.records(kind="intent", review=review)


async def test_nothing_acknowledged_is_lost_and_nothing_runs_twice(stormy: Rig) -> None:
    """Two crashes in one life: registrations, labels and approvals stand; each approval runs at most once in all."""
    seen = Acknowledged()
    await prepare_holds(stormy, seen)
    for die_after in (30, 110):
        seen.answers = 0
        await storm(stormy, seen, die_after=die_after)
        assert seen.answers < CALLS
        await stormy.start()
        await stormy.sound()
    received = Counter(request.trace for request in stormy.upstream.received)
    intents = Counter(record["trace"] for record in stormy.records(kind="intent"))
    assert set(received.values()) == {1}
    assert {trace: intents[trace] for trace in received} == dict.fromkeys(received, 1)
    assert any(record.get("recovered") for record in stormy.records(kind="terminal"))
    await everything_acknowledged_stands(stormy, seen)


async def everything_acknowledged_stands(rig: Rig, seen: Acknowledged) -> None:
    """Asked through the restarted sidecar, and read from the journal."""
    for conversation, call, review in seen.approved:
        before = executions(rig, review)
        assert len(before) == 1 if call in seen.resumed else len(before) <= 1
        status, _ = await rig.post(f"/v1/tool-calls/{call}/resume", b"", seen.handles[conversation])
        assert status == (409 if before else 200), (conversation, review)
        assert len(executions(rig, review)) == 1
    ended = Counter((r["conversation"], r["tool"]) for r in rig.records(kind="terminal", outcome="done"))
    assert {key: times for key, times in seen.done.items() if ended[key] < times} == {}
    for name, handle in seen.handles.items():
        status, answer = await rig.call(handle, "get_price", {"sku": "after"})
        if name.startswith("c"):  # stock and terms were read before the crash
            assert (status, answer["refusal"]["code"]) == (409, "review_pending"), name
        elif name.startswith("n"):
            assert status == 200, name
