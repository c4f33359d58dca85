"""One terminal record on every way out: whatever a port raises, wherever the caller hangs up, and when the process ends."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from proxy.errors import Code, Ran, Refusal, Retry
from proxy.model import Status
from tests.contracts.line import ADA, OWN, READ, WRITE, Line, call, opened, refusal, reviewed
from tests.contracts.store_kit import until

DECIDING = (
    "conversations.conversation",
    "snapshots.current",
    "conversations.stopped",
    "calls.repeated",
    "calls.reserve",
    "facts.resource",
    "policy.decide",
)
HOLDING = ("reviews.request", "telemetry.held", "reviews.outcome", "telemetry.resolved")
AWAITED = (
    "conversations.conversation",
    "calls.reserve",
    "facts.resource",
    "policy.decide",
    "reviews.request",
    "reviews.outcome",
)
UNAVAILABLE = Refusal(Code.STATE_UNAVAILABLE, "not now")
BROKEN = RuntimeError("canary-7f3a9")


@pytest.fixture
async def line(tmp_path: Path) -> AsyncIterator[Line]:
    async with opened(tmp_path) as made:
        yield made


@pytest.mark.parametrize("fault", [UNAVAILABLE, BROKEN], ids=["refusal", "fault"])
@pytest.mark.parametrize("step", [*DECIDING, *HOLDING, "calls.commit"])
async def test_a_fault_before_anything_is_sent_is_a_refusal_with_one_record_and_nothing_runs(
    line: Line, step: str, fault: Exception
) -> None:
    """Fail closed at each port, count the call out, say nothing of the fault, and take the next call."""
    line.faults[step] = fault
    if step in HOLDING:
        line.policy.decides = reviewed
    task = line.begin()
    if step == "telemetry.resolved":
        await line.answer_review()
    no = refusal(await asyncio.wait_for(task, 10))
    expected = Code.STATE_UNAVAILABLE if fault is UNAVAILABLE else Code.INTERNAL_ERROR
    assert (no.code, no.ran, line.upstreams.permits) == (expected, Ran.NO, [])
    assert "canary" not in f"{no.message} {no.fix} {no.details}"
    record = await line.terminal()
    assert (record["outcome"], record["code"], record["ok"]) == ("refused", expected, False)
    assert line.pipeline.gate.inside == 0
    assert await line.journal(kind="intent") == []
    line.faults.clear()
    line.policy.decides = type(line.policy)().decides
    assert (await line.handle(call(given=b'{"supplier_id":"next"}'))).status is Status.DONE


async def test_what_breaks_after_sending_may_have_run(line: Line) -> None:
    """The record says unknown, the caller is told not to try again."""
    line.faults["executor.execute"] = BROKEN
    no = refusal(await line.handle(WRITE))
    assert (no.code, no.ran, no.retry) == (Code.INTERNAL_ERROR, Ran.UNKNOWN, Retry.NEVER)
    record = await line.terminal()
    assert (record["outcome"], record["ran"], record["refusal"]["details"]) == (
        "unknown",
        "unknown",
        {"fault": "RuntimeError"},
    )
    assert len(await line.journal(kind="intent")) == 1


@pytest.mark.parametrize("ran", list(Ran))
async def test_a_refusal_of_the_executor_is_recorded_as_it_says_whether_the_tool_ran(line: Line, ran: Ran) -> None:
    """No: the call never was. Yes: it counts. Unknown: it may have been."""
    line.faults["executor.execute"] = Refusal(Code.TOOL_TIMEOUT, "slow", ran=ran)
    assert refusal(await line.handle()).ran is ran
    expected = {Ran.NO: "refused", Ran.YES: "done", Ran.UNKNOWN: "unknown"}[ran]
    assert (await line.terminal())["outcome"] == expected


@pytest.mark.parametrize("item", [READ, WRITE], ids=["read", "write"])
async def test_a_result_whose_record_cannot_be_written_is_withheld(line: Line, item: object) -> None:
    """The caller learns that it ran, and not what came of it; the call is counted out."""
    line.faults["calls.settle"] = Refusal(Code.AUDIT_UNAVAILABLE, "the disk is gone")
    no = refusal(await line.handle(READ if item is READ else WRITE))
    assert (no.code, no.ran) == (Code.AUDIT_UNAVAILABLE, Ran.YES)
    assert len(line.upstreams.permits) == 1
    assert line.pipeline.gate.inside == 0


async def test_a_refusal_whose_record_cannot_be_written_stays_that_refusal(line: Line) -> None:
    """What policy said is said, and nothing ran."""
    line.faults = {"calls.settle": Refusal(Code.AUDIT_UNAVAILABLE, "gone"), "policy.decide": UNAVAILABLE}
    assert refusal(await line.handle()).code is Code.STATE_UNAVAILABLE
    assert line.pipeline.gate.inside == 0


async def test_a_settle_that_breaks_withholds_the_result_and_is_told_like_any_end(line: Line) -> None:
    """The gate does not leak, and telemetry hears of it."""
    line.faults["calls.settle"] = BROKEN
    no = refusal(await line.handle())
    assert (no.code, no.ran) == (Code.INTERNAL_ERROR, Ran.YES)
    assert "withheld" in no.message
    assert [answer.refusal for answer in line.watcher.concluded] == [no]
    assert line.pipeline.gate.inside == 0


async def test_time_that_a_failing_step_took_is_its_own(line: Line) -> None:
    """Else the time of a policy service that does not answer would be nobody's."""
    line.faults["policy.decide"] = UNAVAILABLE
    await line.handle()
    line.faults.clear()
    line.policy.decides = reviewed
    held = line.begin()
    await until(lambda: "reviews.outcome" in line.steps)
    held.cancel()
    with pytest.raises(asyncio.CancelledError):
        await held
    await line.ended()
    assert [sorted(stages) for stages in line.watcher.stages] == [["decide"], ["decide", "hold"]]


async def test_telemetry_that_cannot_begin_does_not_hang_a_body_of_several_calls(line: Line) -> None:
    """The fault is raised to the rescue, in bounded time."""
    line.faults["telemetry.begin"] = BROKEN
    with pytest.raises(RuntimeError):
        await asyncio.wait_for(line.pipeline.handle_all([READ, READ], ADA), 5)
    assert line.pipeline.gate.inside == 0


async def test_over_the_gate_a_call_is_refused_with_a_record_and_not_counted(tmp_path: Path) -> None:
    """And the place is free again when the call inside ends."""
    async with opened(tmp_path, limit=1) as line:
        stop = line.stop("executor.execute")
        inside = line.begin()
        await stop.reached.wait()
        no = await line.handle(call(given=b'{"supplier_id":"other"}'))
        assert (refusal(no).code, line.pipeline.gate.inside) == (Code.OVERLOADED, 1)
        assert (await line.terminal(no.call_id))["code"] == "overloaded"
        stop.go.set()
        assert ((await inside).status, line.pipeline.gate.inside) == (Status.DONE, 0)
        assert (await line.handle()).status is Status.DONE


async def test_a_held_call_takes_no_place(tmp_path: Path) -> None:
    """With room for one, another call runs while one waits for a person."""
    async with opened(tmp_path, limit=1) as line:
        line.policy.decides = reviewed
        held = line.begin()
        await until(lambda: "reviews.outcome" in line.steps)
        assert line.pipeline.gate.inside == 0
        line.policy.decides = type(line.policy)().decides
        assert (await line.handle(call(given=b'{"supplier_id":"other"}'))).status is Status.DONE
        await line.answer_review()
        assert ((await held).status, line.pipeline.gate.inside) == (Status.DONE, 0)


# The caller hangs up


@pytest.mark.parametrize("step", AWAITED)
async def test_who_hangs_up_before_anything_is_sent_leaves_an_abandoned_call(line: Line, step: str) -> None:
    """At each await until the permit: the call is given up, recorded once, counted out, and never sent."""
    if step in HOLDING:
        line.policy.decides = reviewed
    stop = line.stop(step)
    task = line.begin()
    await asyncio.wait_for(stop.reached.wait(), 10)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await line.ended()
    record = await line.terminal()
    assert (record["outcome"], record["code"], record["caller_gone"]) == ("abandoned", "abandoned", True)
    assert (line.upstreams.permits, line.pipeline.gate.inside) == ([], 0)


@pytest.mark.parametrize("step", ["calls.commit", "executor.execute"])
async def test_who_hangs_up_later_does_not_stop_what_is_allowed(line: Line, step: str) -> None:
    """The call is carried to its end, and its record says that nobody waited any more."""
    stop = line.stop(step)
    task = line.begin(WRITE)
    await asyncio.wait_for(stop.reached.wait(), 10)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    stop.go.set()
    await line.ended()
    record = await line.terminal()
    assert (record["outcome"], record["caller_gone"], len(line.upstreams.permits)) == ("done", True, 1)
    assert line.pipeline.gate.inside == 0


async def test_who_hangs_up_while_the_record_is_written_changes_nothing(line: Line) -> None:
    """The record is written, once."""
    stop = line.stop("calls.settle")
    task = line.begin()
    await asyncio.wait_for(stop.reached.wait(), 10)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    stop.go.set()
    await line.ended()
    assert (await line.terminal())["outcome"] == "done"
    assert line.pipeline.gate.inside == 0


async def test_who_hangs_up_during_a_body_of_several_calls_gives_up_those_not_sent(line: Line) -> None:
    """The first is at its upstream and ends well, the second is being decided and is given up, the third never began."""
    executing, deciding = line.stop("executor.execute"), line.stop("policy.decide")
    calls = [call(id=f"c{n}", given=b'{"supplier_id":"s%d"}' % n) for n in range(3)]
    task = asyncio.create_task(line.pipeline.handle_all(calls, ADA))
    await deciding.reached.wait()
    deciding.go.set()
    await executing.reached.wait()
    deciding.go.clear()
    await until(lambda: line.steps.count("policy.decide") == 2)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    executing.go.set()
    await line.ended()
    records = await line.journal(kind="terminal")
    assert sorted((r["tool_call"], r["outcome"]) for r in records) == [("c0", "done"), ("c1", "abandoned")]
    assert line.pipeline.gate.inside == 0


async def test_who_hangs_up_after_a_hand_over_can_still_report(line: Line) -> None:
    """The call awaits its result under the handle that was given."""
    answer = await line.handle(OWN)
    assert answer.handle is not None
    reporting = asyncio.create_task(line.pipeline.report(answer.call_id, answer.handle, b"{}"))
    assert (await reporting).status is Status.DONE


async def test_an_approval_stays_for_an_identical_call_when_its_waiter_has_left(line: Line) -> None:
    """A disconnect ends the call, not the record."""
    line.policy.decides = reviewed
    task = line.begin()
    await until(lambda: bool(line.store.log.state.holds.open()))
    await until(lambda: "reviews.outcome" in line.steps)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await line.ended()
    await line.answer_review()
    assert line.upstreams.permits == []
    assert (await line.handle()).status is Status.DONE
    assert len(line.upstreams.permits) == 1


# The process ends


async def test_the_end_of_the_process_waits_for_calls_and_then_ends_them_with_their_records(line: Line) -> None:
    """One is sent and its outcome unknown; one is being decided and refused, for its caller is still there."""
    executing, deciding = line.stop("executor.execute"), line.stop("policy.decide")
    deciding.go.set()
    sent = line.begin(WRITE)
    await executing.reached.wait()
    deciding.go.clear()
    thinking = line.begin()
    await until(lambda: line.steps.count("policy.decide") == 2)
    assert await line.pipeline.finish(0.01) == 2
    assert (refusal(await sent).code, refusal(await thinking).code) == (Code.OUTCOME_UNKNOWN, Code.OVERLOADED)
    outcomes = sorted(r["outcome"] for r in await line.journal(kind="terminal"))
    assert (outcomes, line.pipeline.gate.inside) == (["refused", "unknown"], 0)


async def test_the_end_of_the_process_does_not_cut_off_a_record_that_is_being_written(line: Line) -> None:
    """The last thing a call does is the one thing that must not be missing."""
    stop = line.stop("calls.settle")
    task = line.begin()
    await stop.reached.wait()
    finishing = asyncio.create_task(line.pipeline.finish(0))
    for _ in range(10):  # turns of the loop, in which the calls under way are ended
        await asyncio.sleep(0)
    stop.go.set()
    assert await finishing == 1
    assert (await task).status is Status.DONE
    assert (await line.terminal())["outcome"] == "done"


async def test_the_end_of_the_process_lets_calls_end_that_are_quick(line: Line) -> None:
    """Nothing is cut off that ends in time."""
    stop = line.stop("executor.execute")
    task = line.begin()
    await stop.reached.wait()
    asyncio.get_running_loop().call_soon(stop.go.set)
    assert await line.pipeline.finish(10) == 0
    assert (await task).status is Status.DONE
