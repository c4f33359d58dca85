"""What happens to one tool call: the order of steps, holds, snapshots, several calls of one body, tools of the agent's own."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from proxy.errors import Code, Ran, Refusal
from proxy.model import Dialect, Effect, Presented, Response, Status, ToolCall, UnreadableCall
from tests.contracts.line import (
    ADA,
    ALLOW,
    DENY,
    OWN,
    READ,
    REVIEW,
    WRITE,
    Line,
    call,
    opened,
    refusal,
    snapshot,
)
from tests.contracts.store_kit import until

BROKEN = UnreadableCall(id="c9", tool="", dialect=Dialect.NATIVE, refusal=Refusal(Code.INVALID_CALL, "no arguments"))


@pytest.fixture
async def line(tmp_path: Path) -> AsyncIterator[Line]:
    async with opened(tmp_path) as made:
        yield made


def durable(line: Line, step: str) -> list[bool]:
    return [kwargs["durable"] for name, kwargs in line.options if name == step]


# The order of steps


async def test_an_allowed_call_takes_every_step_in_order(line: Line) -> None:
    """Identify, snapshot, stop switches, repeats, reserve, facts, decide, commit, execute, settle, conclude."""
    answer = await line.handle()
    assert line.steps == [
        "telemetry.begin",
        "conversations.conversation",
        "snapshots.current",
        "conversations.stopped",
        "calls.repeated",
        "calls.reserve",
        "facts.resource",
        "policy.decide",
        "conversations.stopped",
        "calls.commit",
        "executor.execute",
        "calls.settle",
        "telemetry.conclude",
    ]
    assert (answer.status, answer.result and answer.result.body) == (Status.DONE, b'{"weekly_capacity":7}')
    assert answer.decision is Effect.ALLOW


async def test_what_is_executed_is_what_was_decided_and_nothing_else(line: Line) -> None:
    """The permit carries the very call and caller of the record."""
    answer = await line.handle()
    (permit,) = line.upstreams.permits
    intent = (await line.journal(kind="intent"))[0]
    assert (permit.call_id, permit.caller.conversation) == (answer.call_id, intent["conversation"])
    assert permit.checked.arguments.raw == READ.arguments.raw
    assert (intent["digest"], intent["revision"]) == (permit.checked.digest, line.snapshots.now.revision)
    assert line.policy.asked[0]["call"]["digest"] == permit.checked.digest


async def test_a_read_waits_for_the_disk_at_its_end_and_an_effect_before_it_is_sent(line: Line) -> None:
    """One durable wait a call."""
    await line.handle(READ)
    await line.handle(WRITE)
    assert durable(line, "calls.commit") == [False, True]
    assert durable(line, "calls.settle") == [True, False]


async def test_a_denied_call_is_recorded_and_never_sent(line: Line) -> None:
    """The refusal says what the policies said, the record has the input."""
    line.policy.decides = lambda _: DENY
    answer = await line.handle()
    assert (refusal(answer).code, refusal(answer).message, refusal(answer).fix) == (
        Code.DENIED,
        "too much",
        "order less",
    )
    assert line.upstreams.permits == []
    record = await line.terminal(answer.call_id)
    assert (record["outcome"], record["code"], record["ran"], record["input"]["call"]["tool"]) == (
        "refused",
        "denied",
        "no",
        "get_capacity",
    )
    assert await line.journal(kind="intent") == []


async def test_an_unreadable_call_is_recorded_before_anybody_is_identified(line: Line) -> None:
    """It has its terminal record, and that is all that happens."""
    answer = await line.handle(BROKEN)
    assert refusal(answer).code is Code.INVALID_CALL
    assert (await line.terminal())["code"] == "invalid_call"
    assert line.steps == ["telemetry.begin", "calls.settle", "telemetry.conclude"]


async def test_secrets_go_to_the_upstream_and_nowhere_else(line: Line) -> None:
    """Policy and journal see a mask."""
    await line.handle(WRITE)
    assert b"p1n-canary" in line.upstreams.permits[0].checked.arguments.raw
    assert "p1n-canary" not in str(line.policy.asked)
    assert "p1n-canary" not in str(await line.journal())
    assert line.policy.asked[0]["call"]["arguments"]["auth"]["pin"].startswith("hmac:")


async def test_the_third_refusal_of_one_call_is_the_last_that_policy_is_asked_about(line: Line) -> None:
    """After three in a row it is repeated_call."""
    line.policy.decides = lambda _: DENY
    codes = [refusal(await line.handle()).code for _ in range(4)]
    assert codes == [Code.DENIED] * 3 + [Code.REPEATED_CALL]
    assert len(line.policy.asked) == 3


async def test_a_stop_switch_refuses_before_policy_is_asked(line: Line) -> None:
    """Stopped calls are recorded and not decided."""
    await line.store.conversations.throw({"scope": "tool", "name": "get_capacity", "by": "op"}, standing=True)
    assert refusal(await line.handle()).code is Code.STOPPED
    assert line.policy.asked == []


@pytest.mark.parametrize("step", ["facts.resource", "policy.decide"])
async def test_a_stop_that_is_thrown_while_a_call_is_being_decided_counts(line: Line, step: str) -> None:
    """Who was told that it stands sees nothing sent after that."""
    stop = line.stop(step)
    task = line.begin()
    await stop.reached.wait()
    await line.store.conversations.throw({"scope": "all", "by": "op"}, standing=True)
    stop.go.set()
    assert refusal(await task).code is Code.STOPPED
    assert line.upstreams.permits == []


async def test_nobody_makes_us_ask_whose_a_record_is(line: Line) -> None:
    """It would be the upstream's work, done with our credential. Policy is shown the record, without an owner."""
    await line.handle(presented=Presented())
    assert "facts.resource" not in line.steps
    (asked,) = line.policy.asked
    assert [(r["id"], r["owner"]) for r in asked["resources"]] == [("s1", None)]


async def test_a_failed_result_is_the_tools_failure_and_the_call_ran(line: Line) -> None:
    """HTTP 200 with a failure inside."""
    line.upstreams.answers = lambda _: Response(status=200, media_type="application/json", body=b'{"ok":false}')
    no = refusal(await line.handle())
    assert (no.code, no.ran) == (Code.TOOL_FAILED, Ran.YES)
    assert (await line.terminal())["outcome"] == "done"


# Snapshots


async def test_the_snapshot_is_the_one_that_opas_answer_names(line: Line) -> None:
    """While policy is being swapped the answer is of the one before: the call is checked and decided again on that one."""
    line.snapshots.before, line.snapshots.now = line.snapshots.now, snapshot("p2", ("tools/0/labels", ["newer"]))
    answer = await line.handle()
    assert [asked["tool"]["labels"] for asked in line.policy.asked] == [
        ["newer", "confidential"],
        ["terms", "confidential"],
    ]
    assert line.upstreams.permits[0].checked.tool == line.snapshots.before.catalog.tools[READ.tool]
    assert answer.revision == line.snapshots.before.revision
    assert (await line.terminal())["number"] == line.store.log.state.conversations["talk"].last


async def test_an_answer_of_an_unknown_revision_is_never_an_allow(line: Line) -> None:
    """OPA serves a policy that this process has not loaded."""
    line.policy.decides = lambda _: replace(ALLOW, revision="stranger")
    no = refusal(await line.handle())
    assert (no.code, line.upstreams.permits) == (Code.POLICY_UNAVAILABLE, [])


async def test_an_answer_that_changes_its_revision_twice_is_never_an_allow(line: Line) -> None:
    """Asked again on the snapshot before, OPA answers for the new one."""
    line.snapshots.before, line.snapshots.now = line.snapshots.now, snapshot("p2")
    revisions = iter(("p1", "p2"))
    line.policy.decides = lambda _: replace(ALLOW, revision=next(revisions))
    assert refusal(await line.handle()).code is Code.POLICY_UNAVAILABLE
    assert line.upstreams.permits == []


# Several calls of one body


async def test_calls_of_one_body_are_decided_in_order_and_executed_together(line: Line) -> None:
    """Each sees those before it as executing, and all are at their upstreams at the same time."""
    stop = line.stop("executor.execute")
    calls = [call(id=f"c{n}", given=b'{"supplier_id":"s%d"}' % n) for n in range(3)]
    task = asyncio.create_task(line.pipeline.handle_all(calls, ADA, patient=False))
    await until(lambda: line.steps.count("executor.execute") == 3)
    stop.go.set()
    answers = await task
    assert [(a.call.id, a.status) for a in answers] == [(f"c{n}", Status.DONE) for n in range(3)]
    assert [[c["outcome"] for c in asked["conversation"]["calls"]] for asked in line.policy.asked] == [
        [],
        ["executing"],
        ["executing", "executing"],
    ]


async def test_one_bad_item_fails_alone(line: Line) -> None:
    """An unreadable item, an unknown tool and a held call stand between two that run; the held one is pending at once."""
    line.policy.decides = lambda asked: REVIEW if asked["call"]["tool"] == "place_order" else ALLOW
    items: list[ToolCall | UnreadableCall] = [READ, BROKEN, call("no_such_tool"), WRITE, call(id="last")]
    answers = await asyncio.wait_for(line.pipeline.handle_all(items, ADA, patient=False), 10)
    assert [a.refusal and a.refusal.code for a in answers] == [
        None,
        Code.INVALID_CALL,
        Code.UNKNOWN_TOOL,
        Code.REVIEW_PENDING,
        None,
    ]
    assert len({a.call_id for a in answers}) == len(await line.journal(kind="terminal")) == 5
    assert line.pipeline.gate.inside == 0


# Tools that the agent runs itself


async def handed(line: Line) -> tuple[str, str]:
    answer = await line.handle(OWN)
    assert (answer.status, answer.refusal) == (Status.PENDING, None)
    assert answer.handle is not None
    return answer.call_id, answer.handle


async def test_a_tool_of_the_agents_own_is_committed_handed_over_and_reported_once(line: Line) -> None:
    """The intent is there before the handle is; the report takes the path of any result."""
    call_id, handle = await handed(line)
    assert len(await line.journal(kind="intent", call=call_id)) == 1
    answer = await line.pipeline.report(call_id, handle, b'{"drawn":true}')
    assert (answer.status, answer.result and answer.result.body) == (Status.DONE, b'{"drawn":true}')
    assert (await line.terminal(call_id))["outcome"] == "done"
    with pytest.raises(Refusal) as no:
        await line.pipeline.report(call_id, handle, b"{}")
    assert no.value.code is Code.UNKNOWN_CALL


async def test_a_wrong_handle_reports_nothing_and_spends_nothing(line: Line) -> None:
    """The right one still works."""
    call_id, handle = await handed(line)
    for name, given in ((call_id, "x" * 43), ("no-such-call", handle)):
        with pytest.raises(Refusal) as no:
            await line.pipeline.report(name, given, b"{}")
        assert no.value.code is Code.UNKNOWN_CALL
    assert (await line.pipeline.report(call_id, handle, b"{}")).status is Status.DONE


async def test_no_report_in_time_is_an_unknown_outcome(line: Line) -> None:
    """The tool's own timeout."""
    call_id, _ = await handed(line)
    timeout = line.snapshots.now.catalog.tools["draw_chart"].timeout
    await until(lambda: line.clock.sleeps_for(timeout))
    line.clock.advance(timeout)
    await line.ended()
    record: dict[str, Any] = await line.terminal(call_id)
    assert (record["outcome"], record["code"], record["ran"]) == ("unknown", "outcome_unknown", "unknown")
    assert line.pipeline.gate.inside == 0


async def test_a_denied_tool_of_the_agents_own_has_no_handle(line: Line) -> None:
    """Nothing is handed over without a permit."""
    line.policy.decides = lambda _: DENY
    answer = await line.handle(OWN)
    assert (refusal(answer).code, answer.handle) == (Code.DENIED, None)
