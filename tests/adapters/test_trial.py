"""Policies on trial are asked once a call has concluded: what they would have said is noted, and nothing else changes."""

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import pytest

from proxy.adapters.trial import CLOSING_SECONDS, HEAD_START, OF_NOBODY, WAITING_BYTES, Trials
from proxy.core.trail import Trail
from proxy.errors import Code, Refusal
from proxy.model import Caller, Status
from tests.contracts.line import SilentSpan, Watcher, opened
from tests.contracts.store_kit import ManualClock, until
from tests.telemetry.samples import ALLOWED, CALL, CALLER, PARENT, SteppedClock, trail

DOCUMENT = orjson.dumps({"call": {"id": "c1"}})
NO = {"mine": {"deny": [{"code": "no"}], "review": []}}


@dataclass
class Scripted:
    """A trial that says what it is told to, once it may."""

    said: Mapping[str, Any] | Exception = field(default_factory=lambda: NO)
    may: asyncio.Event = field(default_factory=asyncio.Event)
    asked: list[bytes] = field(default_factory=list)
    at_once: int = 0
    most_at_once: int = 0

    async def shadow(self, document: bytes, trace: Any) -> Mapping[str, Any]:
        self.asked.append(document)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        await self.may.wait()
        self.at_once -= 1
        if isinstance(self.said, Exception):
            raise self.said
        return self.said


@dataclass
class Bench:
    """Trials under way, and what came of them."""

    trials: Trials
    scripted: Scripted
    noted: list[Mapping[str, Any]]
    watcher: Watcher

    def conclude(self, document: bytes | None = DOCUMENT, **changes: Any) -> None:
        """A call has ended."""
        ended = trail(PARENT, decision=ALLOWED)
        ended.document = document
        for name, value in changes.items():
            setattr(ended, name, value)
        self.trials.conclude(SilentSpan(PARENT), ended, ended.answer())


@asynccontextmanager
async def bench(
    said: Mapping[str, Any] | Exception = NO, *, on_trial: bool = True, clock: Any = None, note: Any = None
) -> AsyncIterator[Bench]:
    """Trials that run, and whose policies may answer at once."""
    scripted, watcher = Scripted(said), Watcher()
    noted: list[Mapping[str, Any]] = []
    trials = Trials(watcher, scripted, lambda: on_trial, note or noted.append, clock or SteppedClock())
    running = asyncio.create_task(trials.run())
    scripted.may.set()
    try:
        yield Bench(trials, scripted, noted, watcher)
    finally:
        running.cancel()


async def noted_of(said: Mapping[str, Any] | Exception) -> list[Mapping[str, Any]]:
    """What is noted of one call."""
    async with bench(said) as on:
        on.conclude()
        assert on.scripted.asked == []  # its answer goes first
        await on.trials.finish()
        return on.noted


async def test_what_would_have_been_said_is_noted() -> None:
    """With the call, its tool, its conversation and its trace; a policy that had nothing to say is left out."""
    ended: Trail = trail(PARENT)
    assert await noted_of(NO | {"silent": {"deny": [], "review": []}}) == [
        {
            "kind": "trial",
            "call": ended.call_id,
            "conversation": "conv-1",
            "tool": CALL.tool,
            "trace": PARENT.trace_id,
            "said": NO,
        }
    ]


async def test_silence_is_not_noted() -> None:
    """A policy on trial that has nothing to say leaves no record."""
    assert await noted_of({"mine": {"deny": [], "review": []}}) == []


async def test_a_trial_that_fails_is_noted_and_changes_nothing() -> None:
    """Its author sees why."""
    (record,) = await noted_of(Refusal(Code.POLICY_INVALID, "m", details={"cause": "evaluation"}))
    assert record["said"] == {"fault": {"cause": "evaluation"}}


@pytest.mark.parametrize(("on_trial", "changes"), [(False, {}), (True, {"decision": None}), (True, {"document": None})])
async def test_what_was_not_decided_is_not_tried_and_without_a_policy_on_trial_nothing_is(
    on_trial: bool, changes: dict[str, Any]
) -> None:
    """No round trip for nothing: also where OPA has just failed."""
    async with bench(on_trial=on_trial) as on:
        on.conclude(**changes)
        await on.trials.finish()
        assert on.scripted.asked == []
        assert len(on.watcher.concluded) == 1


async def test_a_call_is_tried_when_it_has_ended_and_its_answer_has_had_time_to_leave(tmp_path: Path) -> None:
    """Through the line: the terminal record is written and the answer is there before the trial is asked."""
    scripted, noted, clock = Scripted(), list[Mapping[str, Any]](), ManualClock()
    async with opened(tmp_path) as line:
        trials = Trials(line.watcher, scripted, lambda: True, noted.append, clock)
        line.pipeline.telemetry = trials
        running = asyncio.create_task(trials.run())
        answer = await line.handle()
        assert answer.status is Status.DONE
        await until(lambda: clock.sleeps_for(HEAD_START))
        assert (await line.terminal())["outcome"] == "done"
        assert scripted.asked == []
        clock.advance(HEAD_START)
        await until(lambda: len(scripted.asked) == 1)
        assert orjson.loads(scripted.asked[0])["call"]["id"] == answer.call_id
        running.cancel()


async def test_calls_are_tried_one_at_a_time_in_their_order() -> None:
    """So that decisions wait behind one trial at most."""
    async with bench() as on:
        on.scripted.may.clear()
        documents = [orjson.dumps({"call": number}) for number in range(5)]
        for document in documents:
            on.conclude(document)
        await until(lambda: on.scripted.at_once == 1)
        on.scripted.may.set()
        await on.trials.finish()
        assert on.scripted.asked == documents
        assert on.scripted.most_at_once == 1


@pytest.mark.parametrize(("caller", "tried"), [(None, OF_NOBODY + 1), (CALLER, 40)])
async def test_of_calls_of_nobody_few_wait(caller: Caller | None, tried: int) -> None:
    """Whoever reaches the port can send them as fast as it goes."""
    async with bench() as on:
        on.scripted.may.clear()
        on.conclude()
        await until(lambda: on.scripted.at_once == 1)
        for _ in range(40 - 1):
            on.conclude(caller=caller)
        on.scripted.may.set()
        await on.trials.finish()
        assert len(on.scripted.asked) == tried
        assert on.trials.left_out == 40 - tried


async def test_what_waits_is_bounded_in_bytes_and_the_rest_is_counted_in_log_and_records(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Under load calls are left out, which whoever reads the records has to know. What was tried makes room."""
    document = b"x" * (WAITING_BYTES // 2)
    async with bench() as on:
        on.scripted.may.clear()
        with caplog.at_level(logging.WARNING):
            for _ in range(4):
                on.conclude(document)
        assert on.trials.left_out == 2
        assert len(caplog.records) == 1  # at most one a minute
        on.scripted.may.set()
        await on.trials.finish()
        assert [record["left_out"] for record in on.noted] == [2, 2]
        on.conclude(document)
        await on.trials.finish()
        assert len(on.noted) == 3


@pytest.mark.parametrize("fault", [Refusal(Code.AUDIT_UNAVAILABLE, "m"), ValueError("s3cret")])
async def test_a_note_that_fails_is_counted_and_the_next_call_is_tried(
    fault: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    """The call has long been answered."""
    noted: list[Mapping[str, Any]] = []

    def note(record: Mapping[str, Any]) -> None:
        if not noted:
            noted.append({})
            raise fault
        noted.append(record)

    async with bench(note=note) as on:
        on.conclude()
        on.conclude()
        await on.trials.finish()
        assert (on.trials.left_out, noted[1]["left_out"]) == (1, 1)
    assert "s3cret" not in caplog.text + str([record.__dict__ for record in caplog.records])


async def test_the_end_waits_for_a_trial_that_hangs_no_longer_than_its_bound(caplog: pytest.LogCaptureFixture) -> None:
    """What is left then is counted."""
    async with bench() as on:
        on.scripted.may.clear()
        for _ in range(3):
            on.conclude()
        began = asyncio.get_running_loop().time()
        await on.trials.finish()
        assert asyncio.get_running_loop().time() - began < CLOSING_SECONDS + 2
        assert on.trials.left_out == 3
        assert caplog.records[-1].__dict__["fields"] == {"left_out": 3}


def test_those_who_watch_hear_all_that_they_heard_without_trials() -> None:
    """Begin, held, resolved, conclude go on to the telemetry around which the trials are."""
    told: list[str] = []

    class Listening(Watcher):
        def held(self, trail: Any, review: Any) -> None:
            told.append("held")

        def resolved(self, trail: Any, review: Any) -> None:
            told.append("resolved")

    watcher = Listening()
    trials = Trials(watcher, Scripted(), lambda: False, lambda _: None, SteppedClock())
    ended = trail(PARENT)
    assert trials.begin(CALL, ended.presented).context.trace_id == f"{1:032x}"
    trials.held(ended, None)  # type: ignore[arg-type] # passed on unread
    trials.resolved(ended, None)  # type: ignore[arg-type] # passed on unread
    trials.conclude(SilentSpan(PARENT), ended, ended.answer())
    assert told == ["held", "resolved"]
    assert len(watcher.concluded) == 1
