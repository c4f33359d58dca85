"""Holds: a yes is a fact of a second decision, never a second door."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from proxy.core.review import Review, ReviewStatus
from proxy.errors import Code
from proxy.model import Decision, Presented, Reason, Status
from tests.contracts.line import ADA, ALLOW, DENY, REVIEW, Line, opened, refusal, reviewed, snapshot
from tests.contracts.store_kit import until


@pytest.fixture
async def line(tmp_path: Path) -> AsyncIterator[Line]:
    async with opened(tmp_path) as made:
        yield made


async def test_a_yes_is_a_fact_of_a_second_decision_and_is_spent_by_the_intent(line: Line) -> None:
    """Held, approved, decided again with the approval, run once."""
    line.policy.decides = reviewed
    task = line.begin()
    review_id = await line.answer_review()
    assert (await task).status is Status.DONE
    first, second = line.policy.asked
    assert first["approval"] is None
    assert second["approval"]["by"] == "id#rita"
    assert second["approval"]["covers"] == dict(REVIEW.said["review"])
    assert (await line.journal(kind="intent"))[0]["review"] == review_id
    assert line.store.log.state.holds.all[review_id].review.status is ReviewStatus.SPENT


@pytest.mark.parametrize("second", [DENY, replace(REVIEW, review=(replace(REVIEW.review[0], code="another"),))])
async def test_a_yes_is_no_second_door(line: Line, second: Decision) -> None:
    """What the second decision does not allow does not run."""
    line.policy.decides = lambda asked: second if asked["approval"] else REVIEW
    task = line.begin()
    await line.answer_review()
    assert refusal(await task).code is Code.DENIED
    assert line.upstreams.permits == []


def pending(line: Line) -> list[Review]:
    holds = line.store.log.state.holds.open()
    return [hold.review for hold in holds if hold.review.status is ReviewStatus.PENDING]


async def test_a_reason_that_comes_up_after_the_yes_needs_a_yes_of_its_own(line: Line) -> None:
    """Held twice, run once, on the approval that covers all that was said in the end."""
    risky = Reason(policy="review", code="risky", approvers=("leads",))
    said = {**REVIEW.said["review"], "review": [{"code": "risky"}]}
    more = replace(REVIEW, review=(*REVIEW.review, risky), said={"review": said})

    def decides(asked: dict[str, Any]) -> Decision:
        covers = (asked["approval"] or {"covers": {}})["covers"]
        return ALLOW if covers == said else more if covers else REVIEW

    line.policy.decides = decides
    task = line.begin()
    first = await line.answer_review()
    await until(lambda: len(pending(line)) == 1)
    assert line.upstreams.permits == []
    (second,) = pending(line)
    await line.store.reviews.resolve(second.id, ReviewStatus.APPROVED, "id#rita", None)
    assert (await task).status is Status.DONE
    assert second.id != first
    assert [record["review"] for record in await line.journal(kind="intent")] == [second.id]


async def test_a_stop_that_is_thrown_while_a_call_is_held_counts(line: Line) -> None:
    """Every refusal stands in the way of the second decision, too."""
    line.policy.decides = reviewed
    task = line.begin()
    await until(lambda: bool(line.store.log.state.holds.open()))
    await line.store.conversations.throw({"scope": "all", "by": "op"}, standing=True)
    await line.answer_review()
    assert refusal(await task).code is Code.STOPPED
    assert line.upstreams.permits == []


async def test_a_tool_that_is_gone_when_the_yes_comes_is_unknown(line: Line) -> None:
    """The tool is resolved again after the hold."""
    line.policy.decides = reviewed
    task = line.begin()
    await until(lambda: bool(line.store.log.state.holds.open()))
    line.snapshots.now = snapshot("p1", ("tools/0/name", "renamed"))
    await line.answer_review()
    assert refusal(await task).code is Code.UNKNOWN_TOOL


async def test_a_no_and_an_impatient_caller_are_refusals_of_their_own(line: Line) -> None:
    """Pending at once for who does not wait; rejected with the reviewer's words."""
    line.policy.decides = reviewed
    pending = await line.handle(patient=False)
    assert (refusal(pending).code, pending.status, refusal(pending).approvers) == (
        Code.REVIEW_PENDING,
        Status.PENDING,
        ("leads",),
    )
    assert "reviews.outcome" not in line.steps
    task = line.begin()
    await line.answer_review(ReviewStatus.REJECTED)
    assert (refusal(await task).code, refusal(await task).message) == (
        Code.REVIEW_REJECTED,
        "the reviewer said no: because",
    )
    assert line.upstreams.permits == []


async def test_a_hold_ends_with_the_callers_patience(line: Line) -> None:
    """The caller's own patience, in seconds of the clock; the record stays open."""
    line.policy.decides = reviewed
    task = line.begin(presented=replace(ADA, patience=1.5))
    await until(lambda: line.clock.sleeps_for(1.5))
    line.clock.advance(1.5)
    assert refusal(await task).code is Code.REVIEW_PENDING
    assert len(line.store.log.state.holds.open()) == 1


async def test_who_nobody_registered_cannot_be_held(line: Line) -> None:
    """Denied instead, and no reviewer is shown anything."""
    line.policy.decides = reviewed
    no = refusal(await line.handle(presented=Presented()))
    assert (no.code, no.reasons) == (Code.DENIED, (("combination", "three_systems"),))
    assert line.store.log.state.holds.open() == []
