"""Holds that nobody answers, and what changes between a yes and its execution."""

import asyncio
import signal

import pytest

from tests.e2e.holds import held_price, prices, resume, review_of
from tests.e2e.rig import Rig

pytestmark = pytest.mark.slow


async def test_expiry_is_a_no_and_the_call_asks_anew(prepared: Rig) -> None:
    """After the deadline: the state says expired, a yes is refused, a resume is refused, and the call is held anew."""
    prepared.settings["review_ttl"] = "2s"
    prepared.settings["patience"] = "50ms"
    await prepared.start()
    handle = await prepared.register("c1")
    held = await held_price(prepared, handle)
    _, shown = await prepared.review("GET", f"/v1/reviews/{review_of(held)}")

    async def expired() -> bool:
        return bool((await prepared.get(f"/v1/tool-calls/{held.call_id}", handle))[1]["status"] == "expired")

    await prepared.until(expired, "the review expires by itself")
    path = f"/v1/reviews/{review_of(held)}/approve"
    status, answer = await prepared.review("POST", path, {"digest": shown["digest"]})
    assert (status, answer["refusal"]["code"]) == (409, "review_expired")
    assert await resume(prepared, held, handle) == (409, "review_expired")
    again = await prepared.send(handle, "get_price")
    assert again.code == "review_pending"
    assert review_of(again) != review_of(held)
    # A caller with more patience than the review has time is told of the expiry.
    late = await prepared.send(handle, "get_price", {"sku": "late"}, x_sidegate_patience="10")
    assert (late.status, late.code) == (409, "review_expired")
    assert prices(prepared) == 0
    await prepared.sound()


async def test_an_approval_survives_kill_9(running: Rig) -> None:
    """Approved, killed, started: it can be used, once. One left pending is still there and can be answered."""
    handle = await running.register("c1")
    held = await held_price(running, handle)
    pending = await running.send(handle, "get_price", {"sku": "pending"})
    assert (await running.approve(review_of(held)))[0] == 200
    await running.stop(signal.SIGKILL)
    await running.start()
    assert await resume(running, held, handle) == (200, "")
    assert await resume(running, held, handle) == (409, "call_concluded")
    assert await resume(running, pending, handle) == (409, "review_pending")
    assert (await running.approve(review_of(pending)))[0] == 200
    assert await resume(running, pending, handle) == (200, "")
    assert prices(running) == 2
    await running.sound()


async def test_a_stricter_policy_wins_over_a_yes(running: Rig) -> None:
    """Policy denies after the approval: the second decision is the one that counts, and both are on record."""
    handle = await running.register("c1")
    held = await held_price(running, handle)
    assert (await running.approve(review_of(held)))[0] == 200
    revision = (await running.review("GET", "/v1/status"))[1]["revision"]
    running.policy["grants"]["systems"]["pricing"] = {"read": {"clerk": {}}}
    running.write()

    async def reloaded() -> bool:
        return bool((await running.review("GET", "/v1/status"))[1]["revision"] != revision)

    await running.until(reloaded, "the new policy is in force")
    assert await resume(running, held, handle) == (403, "denied")
    assert prices(running) == 0
    (end,) = [r for r in running.records(kind="terminal") if r.get("resumes") == held.call_id]
    assert end["decision"]["policy"] != (await running.ended(held.call_id))["decision"]["policy"]


async def test_a_yes_that_does_not_answer_what_policy_says_by_now_leaves_another_hold(running: Rig) -> None:
    """While a patient caller waits, policy finds another reason: the first yes alone runs nothing, both together do, once."""
    handle = await running.register("c1")
    for name in ("get_stock", "get_terms"):
        await running.send(handle, name)
    waiting = asyncio.create_task(running.send(handle, "get_price", x_sidegate_patience="30"))
    await running.until_true(lambda: len(running.records(kind="review_requested")) == 1, "it is held")
    revision = (await running.review("GET", "/v1/status"))[1]["revision"]
    running.policy["combination"].append(
        {
            "name": "prices",
            "marks": ["system:pricing", "system:inventory"],
            "then": "review",
            "message": "prices and stock do not meet",
            "approvers": ["sourcing-leads"],
        }
    )
    running.write()

    async def reloaded() -> bool:
        return bool((await running.review("GET", "/v1/status"))[1]["revision"] != revision)

    await running.until(reloaded, "the new policy is in force")
    for number in (1, 2):
        await held_so_often(running, number)
        assert prices(running) == 0
        assert (await running.approve(holds(running)[-1]))[0] == 200
    answer = await waiting
    assert answer.status == 200
    assert prices(running) == 1
    await running.sound()


async def held_so_often(rig: Rig, times: int) -> None:
    """Return once a person was asked so often."""
    await rig.until_true(lambda: len(holds(rig)) == times, f"it is held for the {times}. time")


def holds(rig: Rig) -> list[str]:
    """Ids of all reviews that were asked for."""
    return [record["review"]["id"] for record in rig.records(kind="review_requested")]


@pytest.mark.parametrize("change", ["retired", "changed"])
async def test_a_tool_that_went_or_changed_meanwhile_does_not_run(running: Rig, change: str) -> None:
    """The approval was for the catalog entry that was shown: a retired tool is unknown, a changed one is held anew."""
    handle = await running.register("c1")
    held = await held_price(running, handle)
    assert (await running.approve(review_of(held)))[0] == 200
    revision = (await running.review("GET", "/v1/status"))[1]["revision"]
    (entry,) = [t for t in running.catalog["tools"] if t["name"] == "get_price"]
    if change == "retired":
        running.catalog["tools"].remove(entry)
    else:
        entry["request"] = {"method": "GET", "path": "/prices/all/{sku}"}
    running.write()

    async def reloaded() -> bool:
        return bool((await running.review("GET", "/v1/status"))[1]["revision"] != revision)

    await running.until(reloaded, "the new catalog is in force")
    expected = (404, "unknown_tool") if change == "retired" else (409, "review_pending")
    assert await resume(running, held, handle) == expected
    assert prices(running) == 0


async def test_a_revoked_user_cannot_use_a_yes(running: Rig) -> None:
    """Ada's token is taken out of the file after the approval: her calls by token are refused."""
    handle = await running.register("c1")
    held = await held_price(running, handle)
    assert (await running.approve(review_of(held)))[0] == 200
    running.revoke("ada")
    headers = {"x_conversation_id": "c1", "authorization": f"Bearer {running.users['ada']}"}

    async def refused() -> bool:
        status, _ = await running.post(
            "/v1/tool-calls", b'{"id":"1","tool":"get_stock","arguments":{"sku":"1"}}', **headers
        )
        return status == 401

    await running.until(refused, "the token is revoked")
    status, body = await running.post(f"/v1/tool-calls/{held.call_id}/resume", b"", **headers)
    assert (status, body["refusal"]["code"]) == (401, "unauthenticated")
    assert prices(running) == 0


async def test_a_held_call_with_a_secret_is_resumed_with_it_but_not_after_a_restart(prepared: Rig) -> None:
    """The secret lives in memory only; after a restart the very same call uses the approval."""
    prepared.policy["combination"] = [
        {
            "name": "logins",
            "marks": ["system:suppliers", "system:inventory"],
            "then": "review",
            "message": "suppliers and log-ins do not meet",
            "approvers": ["sourcing-leads"],
        }
    ]
    await prepared.start()
    handle = await prepared.register("c1")
    assert (await prepared.send(handle, "get_terms")).status == 200
    held = []
    for password in ("canary-one", "canary-two"):
        answer = await prepared.send(handle, "log_in", {"user": "u", "password": password})
        assert answer.code == "review_pending"
        assert (await prepared.approve(review_of(answer)))[0] == 200
        held.append(answer)
    assert await resume(prepared, held[0], handle) == (200, "")
    assert b"canary-one" in prepared.upstream.received[-1].body
    await prepared.stop(signal.SIGKILL)
    await prepared.start()
    assert await resume(prepared, held[1], handle) == (404, "unknown_call")
    assert (await prepared.send(handle, "log_in", {"user": "u", "password": "canary-two"})).status == 200
    assert b"canary-two" in prepared.upstream.received[-1].body
