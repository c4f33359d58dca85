"""Held calls and tools of the agent's own over the agent port: state, resume, report, and callers that hang up."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from proxy.core.identity import hash_handle
from proxy.core.review import ReviewStatus
from tests.contracts.line import DENY, reviewed
from tests.contracts.served import Ports, call_of, ports
from tests.contracts.store_kit import until
from tests.contracts.store_values import registered

ORDER: dict[str, Any] = {"sku": "a", "quantity": 2, "auth": {"pin": "p1n-canary"}}
EVES = "e" * 43


@pytest.fixture
async def there(tmp_path: Path) -> AsyncIterator[Ports]:
    async with ports(tmp_path) as made:
        made.line.policy.decides = reviewed
        yield made


async def held(there: Ports, call: Any = None) -> str:
    """A held call in a body of several, which is pending at once; its call id."""
    reply = await there.call([call or call_of()])
    assert reply.tree[0]["status"] == "pending"
    return str(reply.tree[0]["call_id"])


async def resume(there: Ports, call_id: str, **headers: str) -> Any:
    return await there.call({}, f"/v1/tool-calls/{call_id}/resume", **headers)


async def test_a_held_call_tells_its_state(there: Ports) -> None:
    """At once without a wait."""
    call_id = await held(there)
    state = (await there.get(f"/v1/tool-calls/{call_id}")).tree
    assert (state["status"], state["call_id"], state["id"], state["tool"]) == ("pending", call_id, "c1", "get_capacity")
    assert await there.line.answer_review() == state["review"]
    assert (await there.get(f"/v1/tool-calls/{call_id}")).tree["status"] == "approved"


async def test_a_wait_ends_with_the_answer_or_with_its_time(there: Ports) -> None:
    """Seconds of the clock."""
    call_id = await held(there)
    waiting = asyncio.create_task(there.get(f"/v1/tool-calls/{call_id}?wait=20"))
    await until(lambda: there.line.clock.sleeps_for(20))
    there.line.clock.advance(20)
    assert (await waiting).tree["status"] == "pending"
    waiting = asyncio.create_task(there.get(f"/v1/tool-calls/{call_id}?wait=60"))
    await until(lambda: there.line.clock.sleeps_for(60))
    await there.line.answer_review(ReviewStatus.REJECTED)
    assert (await waiting).tree["status"] == "rejected"


@pytest.mark.parametrize("wait", ["-1", "61", "soon", "nan", "inf", ""])
async def test_a_wait_that_is_none_is_refused(there: Ports, wait: str) -> None:
    """Bounded, and a number."""
    reply = await there.get(f"/v1/tool-calls/{await held(there)}?wait={wait}")
    assert (reply.status, reply.code) == (400, "invalid_call")


async def test_before_the_yes_nothing_resumes_and_after_it_once(there: Ports) -> None:
    """A new call, decided anew, that names the held one."""
    call_id = await held(there)
    early = await resume(there, call_id)
    assert (early.status, early.code) == (409, "review_pending")
    await there.line.answer_review()
    reply = await resume(there, call_id)
    assert (reply.status, reply.tree["status"], reply.tree["id"]) == (200, "done", "c1")
    assert reply.tree["call_id"] != call_id
    assert (await there.line.terminal(reply.tree["call_id"]))["resumes"] == call_id
    late = await resume(there, call_id)
    assert (late.status, late.code) == (409, "call_concluded")
    assert len(there.line.upstreams.permits) == 1


async def test_a_no_is_what_resume_says(there: Ports) -> None:
    """With the reviewer's words."""
    call_id = await held(there)
    await there.line.answer_review(ReviewStatus.REJECTED)
    reply = await resume(there, call_id)
    assert (reply.code, "because" in reply.body.decode()) == ("review_rejected", True)


async def test_a_resumed_call_is_judged_again(there: Ports) -> None:
    """What policy denies by now does not run."""
    call_id = await held(there)
    await there.line.answer_review()
    there.line.policy.decides = lambda _: DENY
    reply = await resume(there, call_id)
    assert (reply.code, there.line.upstreams.permits) == ("denied", [])


async def test_the_secrets_of_a_held_call_are_sent_when_it_resumes(there: Ports) -> None:
    """As they came, from memory."""
    call_id = await held(there, call_of("place_order", **ORDER))
    await there.line.answer_review()
    assert (await resume(there, call_id)).tree["status"] == "done"
    assert b"p1n-canary" in there.line.upstreams.permits[0].checked.arguments.raw
    assert there.line.pipeline.held == {}


async def test_after_a_restart_a_call_without_secrets_resumes_from_its_record_and_one_with_them_does_not(
    there: Ports,
) -> None:
    """A mask is never sent in place of a secret; the same call again still uses the approval."""
    plain, secret = await held(there), await held(there, call_of("place_order", **ORDER))
    for _ in range(2):
        review = there.line.store.log.state.holds.open()
        pending = next(h.review for h in review if h.review.status is ReviewStatus.PENDING)
        await there.line.store.reviews.resolve(pending.id, ReviewStatus.APPROVED, "id#rita", None)
    there.line.pipeline.held.clear()
    assert (await resume(there, plain)).tree["status"] == "done"
    reply = await resume(there, secret)
    assert (reply.status, reply.code) == (404, "unknown_call")
    assert "the approval still stands" in reply.tree["refusal"]["fix"]
    assert len(there.line.upstreams.permits) == 1
    assert (await there.call(call_of("place_order", **ORDER))).tree["status"] == "done"


async def test_another_conversations_held_call_is_one_that_is_not_there(there: Ports) -> None:
    """For its state, its resumption, and for who proves nothing."""
    await there.line.store.conversations.register(registered("eves", "eve", handle_hash=hash_handle(EVES)))
    call_id = await held(there)
    await there.line.answer_review()
    for reply in (
        await there.get(f"/v1/tool-calls/{call_id}", EVES),
        await there.get(f"/v1/tool-calls/{call_id}", None),
        await resume(there, call_id, x_sidegate_conversation=EVES),
        await there.get("/v1/tool-calls/never-was"),
    ):
        assert (reply.status, reply.code) == (404, "unknown_call")
    assert there.line.upstreams.permits == []


async def test_who_hangs_up_while_held_leaves_an_abandoned_call_and_an_open_review(there: Ports) -> None:
    """The handler is cancelled when the connection closes."""
    task = asyncio.create_task(there.call(call_of()))
    await until(lambda: "reviews.outcome" in there.line.steps)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await there.line.ended()
    assert (await there.line.terminal())["outcome"] == "abandoned"
    assert len(there.line.store.log.state.holds.open()) == 1
    assert there.line.pipeline.gate.inside == 0


# Tools that the agent runs itself


async def handed(there: Ports) -> tuple[str, str]:
    there.line.policy.decides = type(there.line.policy)().decides
    reply = await there.call(call_of("draw_chart", title="t"))
    assert (reply.status, reply.tree["status"]) == (200, "pending")
    return reply.tree["call_id"], reply.tree["allowed"]["result_handle"]


async def test_the_agents_own_result_is_reported_once(there: Ports) -> None:
    """Under the handle, number tokens untouched."""
    call_id, handle = await handed(there)
    body = b'{"handle":"%s","result":{"n":1.10,"big":18446744073709551617}}' % handle.encode()
    reply = await there.call(body, f"/v1/tool-calls/{call_id}/result")
    assert (reply.status, reply.tree["status"]) == (200, "done")
    assert b'{"n":1.10,"big":18446744073709551617}' in reply.body
    again = await there.call(body, f"/v1/tool-calls/{call_id}/result")
    assert (again.status, again.code) == (404, "unknown_call")


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"[]",
        b"{}",
        b'{"handle":"h"}',
        b'{"result":1}',
        b'{"handle":7,"result":1}',
        b'{"handle":"h","result":1,"more":1}',
    ],
)
async def test_what_is_no_report_is_refused_and_spends_nothing(there: Ports, body: bytes) -> None:
    """The right report still works."""
    call_id, handle = await handed(there)
    assert (await there.call(body, f"/v1/tool-calls/{call_id}/result")).status == 400
    right = {"handle": handle, "result": None}
    assert (await there.call(right, f"/v1/tool-calls/{call_id}/result", origin="http://evil.test")).status == 400
    assert (await there.call(right, f"/v1/tool-calls/{call_id}/result")).status == 200
