"""Reviews through both ports: who may say yes, to what, and how often it runs (design section 12)."""

import asyncio
import os
import signal

import pytest

from tests.e2e.holds import held_price, prices, resume, review_of
from tests.e2e.rig import Rig


def prepare(rig: Rig) -> None:
    """Room for the holds of all tests."""
    rig.settings["limits"] = {"holds_per_principal": 200}
    rig.settings["patience"] = "100ms"
    rig.settings["opa"] = {"deadline": "5s"}


async def digest_of(rig: Rig, review: str) -> str:
    """The digest as a reviewer sees it."""
    return str((await rig.review("GET", f"/v1/reviews/{review}"))[1]["digest"])


async def in_flight(rig: Rig, count: int) -> bool:
    """Whether so many calls are under way."""
    return bool((await rig.review("GET", "/v1/status"))[1]["in_flight"] == count)


async def test_of_twenty_approvals_at_once_one_wins(shared: Rig) -> None:
    """One 200, nineteen 409, one execution however often it is resumed."""
    handle = await shared.register("twenty")
    held = await held_price(shared, handle)
    review = review_of(held)
    body = {"digest": await digest_of(shared, review)}
    answers = await asyncio.gather(*(shared.review("POST", f"/v1/reviews/{review}/approve", body) for _ in range(20)))
    assert sorted(status for status, _ in answers) == [200, *[409] * 19]
    assert {a["refusal"]["code"] for status, a in answers if status == 409} == {"call_concluded"}
    opa = shared.opa_pid()
    os.kill(opa, signal.SIGSTOP)  # so that all ten are decided at the same time
    try:
        resuming = [asyncio.create_task(resume(shared, held, handle)) for _ in range(10)]
        await shared.until(lambda: in_flight(shared, 10), "ten are under way")
    finally:
        os.kill(opa, signal.SIGCONT)
    results = [await task for task in resuming]
    assert [status for status, _ in results].count(200) == 1
    assert prices(shared) == 1
    assert len(shared.records(kind="intent", review=review)) == 1


async def test_of_a_yes_and_a_no_at_once_one_wins(shared: Rig) -> None:
    """Ten rounds, in both orders: one answer stands, and it alone decides whether the call runs."""
    for number in range(10):
        handle = await shared.register(f"both-{number}")
        held = await held_price(shared, handle)
        review = review_of(held)
        body = {"digest": await digest_of(shared, review)}
        verbs = ("approve", "reject") if number % 2 else ("reject", "approve")
        answers = await asyncio.gather(*(shared.review("POST", f"/v1/reviews/{review}/{v}", body) for v in verbs))
        assert sorted(status for status, _ in answers) == [200, 409]
        (standing,) = [answer["status"] for status, answer in answers if status == 200]
        before = prices(shared)
        status, code = await resume(shared, held, handle)
        assert (status, code) == ((200, "") if standing == "approved" else (409, "review_rejected"))
        assert prices(shared) == before + (standing == "approved")


@pytest.mark.parametrize(
    ("by", "status", "code"),
    [("ada", 403, "not_approver"), ("sam", 403, "not_approver"), ("tom", 404, "unknown_call")],
    ids=["the asker herself", "another group", "another tenant"],
)
async def test_who_may_not_approve(shared: Rig, by: str, status: int, code: str) -> None:
    """Four eyes, the group, the tenant: refused, and the review stays open."""
    handle = await shared.register(f"not-{by}")
    held = await held_price(shared, handle)
    review = review_of(held)
    body = {"digest": await digest_of(shared, review)}
    for verb in ("approve", "reject"):
        answer = await shared.review("POST", f"/v1/reviews/{review}/{verb}", body, by=by)
        assert (answer[0], answer[1]["refusal"]["code"]) == (status, code)
    assert (await resume(shared, held, handle)) == (409, "review_pending")
    assert prices(shared) == 0
    assert (await shared.approve(review))[0] == 200


async def test_another_tenant_sees_nothing(shared: Rig) -> None:
    """Neither in the list nor by its id, and not what has been answered."""
    handle = await shared.register("unseen")
    review = review_of(await held_price(shared, handle))
    for query in ("", "?status=all"):
        _, listed = await shared.review("GET", f"/v1/reviews{query}", by="tom")
        assert listed == []
    status, body = await shared.review("GET", f"/v1/reviews/{review}", by="tom")
    assert (status, body["refusal"]["code"]) == (404, "unknown_call")
    unknown = await shared.review("GET", "/v1/reviews/r-unknown", by="tom")
    assert (status, body) == unknown


async def test_an_approval_repeats_the_digest_that_was_shown(shared: Rig) -> None:
    """A wrong digest, none, or none of the allowed shape: no yes."""
    handle = await shared.register("digest")
    held = await held_price(shared, handle)
    path = f"/v1/reviews/{review_of(held)}/approve"
    for body, code in (
        ({"digest": "0" * 64}, "call_concluded"),
        ({}, "invalid_call"),
        ({"digest": None}, "invalid_call"),
        ({"digest": True}, "invalid_call"),
        ([], "invalid_call"),
        ({"digest": "x", "force": "yes"}, "invalid_call"),
    ):
        status, answer = await shared.review("POST", path, body)
        assert status in (400, 409)
        assert answer["refusal"]["code"] == code
    assert await resume(shared, held, handle) == (409, "review_pending")


async def test_each_port_knows_its_own_tokens_only(shared: Rig) -> None:
    """A user's token is nobody on the review port, a reviewer's nobody on the agent port."""
    for path in ("/v1/reviews", "/v1/status"):
        for token in (shared.users["ada"], "", "x" * 40):
            headers = {"authorization": f"Bearer {token}"} if token else {}
            async with shared.session.get(shared.url("review") + path, headers=headers) as response:
                assert response.status == 401
                assert (await response.json())["refusal"]["code"] == "unauthenticated"
    status, body = await shared.put("by-reviewer", shared.reviewers["rob"])
    assert (status, body["refusal"]["code"]) == (401, "unauthenticated")


async def test_a_no_answers_the_identical_call_too(shared: Rig) -> None:
    """The reviewer's comment goes back to the model, and nobody is asked again about the same call."""
    handle = await shared.register("rejected")
    held = await held_price(shared, handle)
    await shared.review("POST", f"/v1/reviews/{review_of(held)}/reject", {"comment": "not this quarter"})
    again = await shared.send(handle, "get_price")
    assert (again.status, again.code) == (409, "review_rejected")
    assert "not this quarter" in again.body["refusal"]["message"]
    assert again.body["refusal"]["review"] == review_of(held)
    assert prices(shared) == 0
    other = await shared.send(handle, "get_price", {"sku": "other"})
    assert other.code == "review_pending"


async def test_over_the_limit_of_holds_a_call_is_refused(shared: Rig) -> None:
    """Five open holds of one conversation; the sixth is overloaded, says for how long, and works after a no."""
    handle = await shared.register("limits")
    held = [await held_price(shared, handle)]
    held += [await shared.send(handle, "get_price", {"sku": f"S{number}"}) for number in range(4)]
    assert {answer.code for answer in held} == {"review_pending"}
    sixth = await shared.send(handle, "get_price", {"sku": "S5"})
    assert (sixth.status, sixth.code) == (429, "overloaded")
    assert int(sixth.headers["retry-after"]) > 0
    await shared.review("POST", f"/v1/reviews/{review_of(held[0])}/reject", {})
    assert (await shared.send(handle, "get_price", {"sku": "S5"})).code == "review_pending"


async def test_after_three_rejections_nobody_is_asked_any_more(shared: Rig) -> None:
    """The conversation's further reviews are denials."""
    handle = await shared.register("rejections")
    held = await held_price(shared, handle)
    for number in range(3):
        await shared.review("POST", f"/v1/reviews/{review_of(held)}/reject", {})
        held = await shared.send(handle, "get_price", {"sku": f"S{number}"})
    assert (held.status, held.code) == (403, "denied")


async def test_three_identical_refusals_are_enough(shared: Rig) -> None:
    """The fourth is repeated_call, without OPA and without execution; another call is not touched by it."""
    handle = await shared.register("repeated")
    over = {"sku": "S", "quantity": 1000}
    assert [(await shared.send(handle, "create_order", over)).code for _ in range(3)] == ["denied"] * 3
    fourth = await shared.send(handle, "create_order", over)
    assert (fourth.status, fourth.code) == (403, "repeated_call")
    assert "decide" not in (await shared.ended(fourth.call_id))["durations"]
    assert (await shared.send(handle, "create_order", {"sku": "S", "quantity": 1})).status == 200


async def test_a_hold_waits_for_a_patient_caller(shared: Rig) -> None:
    """Within the caller's patience the yes is all it takes: the call that was held runs and answers."""
    handle = await shared.register("patient")
    for name in ("get_stock", "get_terms"):
        await shared.send(handle, name)
    waiting = asyncio.create_task(shared.send(handle, "get_price", x_sidegate_patience="20"))
    await shared.until_true(lambda: bool(shared.records(kind="review_requested", conversation="patient")), "held")
    (request,) = shared.records(kind="review_requested", conversation="patient")
    assert (await shared.approve(request["review"]["id"]))[0] == 200
    answer = await waiting
    assert (answer.status, answer.headers["x-sidegate-decision"]) == (200, "allow")
    record = await shared.ended(answer.call_id)
    assert shared.records(kind="intent", call=answer.call_id)[0]["approval"]["review"] == request["review"]["id"]
    assert "hold" in record["durations"]


async def test_waiting_for_the_state_of_a_hold(shared: Rig) -> None:
    """`?wait=` ends with the answer; the hold is its own conversation's only."""
    handle = await shared.register("wait")
    held = await held_price(shared, handle)
    other = await shared.register("wait-other")
    path = f"/v1/tool-calls/{held.call_id}"
    assert (await shared.get(path, other))[0] == 404
    assert (await shared.get(path))[0] == 404
    for wait in ("nan", "-1", "61", "inf", "x"):
        assert (await shared.get(f"{path}?wait={wait}", handle))[0] == 400
    waiting = asyncio.create_task(shared.get(f"{path}?wait=20", handle))
    assert (await shared.approve(review_of(held)))[0] == 200
    status, body = await waiting
    assert (status, body["status"]) == (200, "approved")
