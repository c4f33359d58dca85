"""Floods of calls that could not be read: so many records a second, and a count for the rest."""

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pytest

from proxy.adapters.coalesced_calls import PER_SECOND, CoalescedCalls
from proxy.core.identity import ANONYMOUS
from proxy.core.tool import CheckedCall
from proxy.earlier import Outcome
from proxy.errors import Code, Ran, Refusal
from proxy.model import Caller, Facts


class Hand:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.at = 100.0
        self.sleepers: list[asyncio.Event] = []

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.at, UTC)

    def monotonic(self) -> float:
        return self.at

    async def sleep(self, seconds: float) -> None:
        self.sleepers.append(asyncio.Event())
        await self.sleepers[-1].wait()


class Recorder:
    """Port Calls that keeps what it is given; `broken` refuses it."""

    def __init__(self) -> None:
        self.records: list[Mapping[str, Any]] = []
        self.broken = False

    async def reserve(self, call_id: str, caller: Caller, checked: CheckedCall) -> Facts:
        raise NotImplementedError

    def repeated(self, conversation: str, digest: str) -> int:
        return 7

    async def commit(self, intent: Mapping[str, Any], *, durable: bool) -> None:
        self.records.append({**intent, "durable": durable})

    async def settle(self, terminal: Mapping[str, Any], *, durable: bool) -> None:
        if self.broken:
            raise Refusal(Code.AUDIT_UNAVAILABLE, "broken")
        self.records.append(terminal)

    @property
    def accounted(self) -> int:
        """Calls that the records speak for."""
        return sum(sum(r["coalesced"].values()) if "coalesced" in r else 1 for r in self.records)


def terminal(number: int, code: Code = Code.INVALID_JSON, principal: object = None) -> dict[str, Any]:
    given = {"number": None, "outcome": Outcome.REFUSED, "ran": Ran.NO}
    return {"kind": "terminal", "call": f"c{number}", "principal": principal, "code": code, **given}


NOBODY = {"id": ANONYMOUS.id, "name": None}


async def flood(calls: CoalescedCalls, count: int, code: Code = Code.INVALID_JSON) -> None:
    for number in range(count):
        await calls.settle(terminal(number, code), durable=False)


async def test_over_the_limit_one_record_speaks_for_the_rest() -> None:
    """By code; and the next second has its own records again."""
    inner, clock = Recorder(), Hand()
    calls = CoalescedCalls(inner, clock)
    await flood(calls, PER_SECOND + 10)
    await flood(calls, 5, Code.TOO_LARGE)
    assert len(inner.records) == PER_SECOND
    clock.at += 1.0
    await flood(calls, 1)
    assert inner.records[PER_SECOND]["coalesced"] == {"invalid_json": 10, "too_large": 5}
    assert "coalesced" not in inner.records[PER_SECOND + 1]
    assert inner.accounted == PER_SECOND + 16


@pytest.mark.parametrize("record", [terminal(1, Code.DENIED, {"id": "x"}), terminal(1, Code.INVALID_JSON, {"id": "x"})])
async def test_what_somebody_asked_for_is_never_left_out(record: dict[str, Any]) -> None:
    """Nothing of a known principal is coalesced."""
    inner = Recorder()
    calls = CoalescedCalls(inner, Hand())
    for _ in range(PER_SECOND * 2):
        await calls.settle(record, durable=False)
    assert len(inner.records) == PER_SECOND * 2


@pytest.mark.parametrize("code", [Code.UNKNOWN_CONVERSATION, Code.UNAUTHENTICATED, Code.CONFLICTING_CONVERSATION])
async def test_whatever_is_refused_before_somebody_is_known_is_coalesced(code: Code) -> None:
    """A made-up handle or token is as easily sent as a body that cannot be read."""
    inner = Recorder()
    calls = CoalescedCalls(inner, Hand())
    await flood(calls, PER_SECOND + 7, code)
    assert len(inner.records) == PER_SECOND


@pytest.mark.parametrize("code", [Code.OVERLOADED, Code.INTERNAL_ERROR])
async def test_what_is_refused_before_anybody_looked_who_it_is_keeps_its_record(code: Code) -> None:
    """It may be a user's call, and each of those has a record of its own; what was never read names no tool, and is nobody's."""
    inner, of_nobody = Recorder(), Recorder()
    calls, unread = CoalescedCalls(inner, Hand()), CoalescedCalls(of_nobody, Hand())
    for number in range(PER_SECOND + 7):
        await calls.settle(terminal(number, code) | {"asked_tool": "get_stock"}, durable=False)
        await unread.settle(terminal(number, code) | {"asked_tool": None}, durable=False)
    assert (len(inner.records), len(of_nobody.records)) == (PER_SECOND + 7, PER_SECOND)


async def test_what_may_have_run_is_never_left_out() -> None:
    """Whoever asked for it."""
    inner = Recorder()
    calls = CoalescedCalls(inner, Hand())
    for _ in range(PER_SECOND + 7):
        await calls.settle(
            terminal(1, Code.OUTCOME_UNKNOWN) | {"outcome": "unknown", "ran": Ran.UNKNOWN}, durable=False
        )
    assert len(inner.records) == PER_SECOND + 7


async def test_a_count_that_cannot_be_written_is_kept() -> None:
    """The journal fails and recovers: nothing that was left out is forgotten."""
    inner, clock = Recorder(), Hand()
    calls = CoalescedCalls(inner, clock)
    await flood(calls, PER_SECOND + 3)
    inner.broken = True
    with pytest.raises(Refusal):
        await calls.flush()
    inner.broken = False
    await calls.flush()
    await calls.flush()
    assert inner.accounted == PER_SECOND + 3
    assert len(inner.records) == PER_SECOND + 1


async def test_the_record_of_a_count_stands_for_no_call() -> None:
    """The store may be away after the journal has it, and it is written again: nothing may take it for the call's own."""
    inner, clock = Recorder(), Hand()
    calls = CoalescedCalls(inner, clock)
    for number in range(PER_SECOND + 2):
        await calls.settle(terminal(number) | {"digest": "d"}, durable=False)
    await calls.flush()
    assert inner.records[0]["digest"] == "d"
    assert inner.records[-1]["digest"] is None


async def test_what_comes_while_a_count_is_written_is_counted() -> None:
    """Whether it can be written or not."""
    inner, clock = Recorder(), Hand()
    calls = CoalescedCalls(inner, clock)
    reached, go_on = asyncio.Event(), asyncio.Event()
    settle = inner.settle

    class Slow(Recorder):
        async def settle(self, terminal: Mapping[str, Any], *, durable: bool) -> None:
            if "coalesced" in terminal:
                reached.set()
                await go_on.wait()
            await settle(terminal, durable=durable)

    calls = CoalescedCalls(Slow(), clock)
    for broken in (False, True):
        await flood(calls, PER_SECOND + 3)
        writing = asyncio.create_task(calls.flush())
        await reached.wait()
        await flood(calls, 4)
        inner.broken = broken
        go_on.set()
        await asyncio.wait([writing])
        assert (writing.exception() is not None) == broken
        inner.broken = False
        reached.clear()
        go_on.clear()
        clock.at += 0.5
    go_on.set()
    await calls.flush()
    assert inner.accounted == 2 * (PER_SECOND + 7)


async def test_the_count_is_written_without_another_call() -> None:
    """By `watch` after a second, and at its end."""
    inner, clock = Recorder(), Hand()
    calls = CoalescedCalls(inner, clock)
    watching = asyncio.create_task(calls.watch())
    await flood(calls, PER_SECOND + 3)
    await asyncio.sleep(0)
    clock.sleepers.pop().set()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert inner.accounted == PER_SECOND + 3
    await flood(calls, 4)
    watching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await watching
    assert inner.accounted == PER_SECOND + 7


async def test_everything_else_is_passed_on() -> None:
    """Intents with their durability, and the count of repetitions."""
    inner = Recorder()
    calls = CoalescedCalls(inner, Hand())
    await calls.commit({"kind": "intent"}, durable=True)
    assert inner.records == [{"kind": "intent", "durable": True}]
    assert calls.repeated("c", "d") == 7


async def test_refused_calls_of_nobody_are_counted_too() -> None:
    """Those that were refused before they took a number; they need no conversation, and so no token."""
    inner = Recorder()
    calls = CoalescedCalls(inner, Hand())
    for number in range(PER_SECOND + 7):
        await calls.settle(terminal(number, Code.UNKNOWN_TOOL, NOBODY), durable=False)
    await calls.flush()
    assert len(inner.records) == PER_SECOND + 1
    assert inner.records[-1]["coalesced"] == {"unknown_tool": 7}


async def test_a_refused_call_of_nobody_with_a_number_has_a_short_record() -> None:
    """Its record gives the number back; what was asked is what makes it long."""
    inner = Recorder()
    calls = CoalescedCalls(inner, Hand())
    decision = {"effect": "deny", "guards": (), "reasons": [], "said": {"deny": {}}, "warn": {}, "policy": "p1"}
    whole = {"number": 3, "input": {}, "arguments": {}, "decision": decision}
    for number in range(PER_SECOND + 2):
        await calls.settle({**terminal(number, Code.DENIED, NOBODY), **whole}, durable=False)
    await calls.settle({**terminal(99, Code.POLICY_UNAVAILABLE, NOBODY), "number": 4, "input": {}}, durable=False)
    assert len(inner.records) == PER_SECOND + 3
    assert [record.get("shortened", False) for record in inner.records[-4:]] == [False, True, True, True]
    short = inner.records[PER_SECOND]
    assert not {"input", "arguments"} & short.keys()
    assert short["decision"] == {"effect": "deny", "guards": (), "reasons": [], "policy": "p1"}
    assert "decision" not in inner.records[-1]


@pytest.mark.parametrize(
    "other",
    [
        {"principal": {"id": "idp#ada"}},
        {"outcome": Outcome.DONE, "ran": Ran.YES},
        {"outcome": Outcome.UNKNOWN, "ran": Ran.UNKNOWN},
    ],
)
async def test_whatever_ran_or_is_somebodys_is_recorded_whole(other: dict[str, Any]) -> None:
    inner = Recorder()
    calls = CoalescedCalls(inner, Hand())
    for number in range(PER_SECOND + 2):
        await calls.settle({**terminal(number, Code.DENIED, NOBODY), "input": {}, "number": 1, **other}, durable=False)
    assert [record for record in inner.records if "input" not in record] == []
    assert len(inner.records) == PER_SECOND + 2
