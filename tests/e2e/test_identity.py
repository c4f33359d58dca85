"""Who calls, in which conversation: what a request brings, and what that is worth (design section 7)."""

import asyncio

import pytest

from tests.e2e.holds import held_price
from tests.e2e.rig import Rig, tool


def prepare(rig: Rig) -> None:
    """The unregistered may read news, which no rule speaks of, and stock, which may not meet other things."""
    rig.catalog["systems"]["news"] = {"audience": "internal"}
    rig.catalog["tools"].append(tool("get_news", "news", "read", {"method": "GET", "path": "/news/{sku}"}))
    rig.policy["grants"]["systems"]["news"] = {"read": {"unknown": {}}}
    rig.policy["grants"]["systems"]["inventory"]["read"]["unknown"] = {}


async def test_an_unknown_handle_is_nobody_s(shared: Rig) -> None:
    """Refused, nothing runs, one record; the same for a handle of odd shape."""
    for handle, status, code in (("A" * 43, 404, "unknown_conversation"), ("a b", 400, "invalid_call")):
        answer = await shared.send(handle, "get_stock")
        assert (answer.status, answer.code) == (status, code)
        assert (await shared.ended(answer.call_id))["conversation"] is None
    assert shared.upstream.received == []


async def test_a_handle_replaced_by_a_refresh_is_dead(shared: Rig) -> None:
    """The new one works, labels stay, the old one finds nothing."""
    old = await shared.register("refreshed")
    held = await held_price(shared, old)
    new = await shared.register("refreshed")
    assert new != old
    assert (await shared.send(old, "get_stock")).code == "unknown_conversation"
    assert (await shared.send(new, "get_price", {"sku": "2"})).code == "review_pending"
    assert (await shared.get(f"/v1/tool-calls/{held.call_id}", new))[0] == 200
    assert (await shared.get(f"/v1/tool-calls/{held.call_id}", old))[0] == 404


async def test_a_second_principal_on_an_id_is_a_conflict(shared: Rig) -> None:
    """409 for ben and for eve of another tenant; ada's stays hers."""
    handle = await shared.register("hers")
    for user in ("ben", "eve"):
        status, body = await shared.put("hers", shared.users[user])
        assert (status, body["refusal"]["code"]) == (409, "conflicting_conversation")
    assert (await shared.send(handle, "get_stock")).status == 200


async def test_of_many_registrations_at_once_one_principal_wins(shared: Rig) -> None:
    """Ada and ben race for one id: one of them has it, the other never."""
    for number in range(5):
        name = f"race-{number}"
        users = ["ada", "ben"] * 4
        answers = await asyncio.gather(*(shared.put(name, shared.users[user]) for user in users))
        winners = {user for user, (status, _) in zip(users, answers, strict=True) if status == 200}
        losers = {user for user, (status, _) in zip(users, answers, strict=True) if status == 409}
        assert len(winners) == 1
        assert winners | losers == {"ada", "ben"}


@pytest.mark.parametrize(
    ("user", "conversation", "status", "code"),
    [
        ("ada", "tokened", 200, ""),
        ("ben", "tokened", 404, "unknown_conversation"),
        ("eve", "tokened", 404, "unknown_conversation"),
        ("ada", "never-registered", 404, "unknown_conversation"),
        ("ada", None, 400, "invalid_call"),
        (None, "tokened", 400, "invalid_call"),
        ("forged", "tokened", 401, "unauthenticated"),
    ],
)
async def test_a_token_and_an_id(
    shared: Rig, user: str | None, conversation: str | None, status: int, code: str
) -> None:
    """Both together name the principal's own conversation; foreign and unknown are one answer; one alone proves nothing."""
    await shared.register("tokened")
    headers = {} if conversation is None else {"x_conversation_id": conversation}
    if user is not None:
        headers["authorization"] = f"Bearer {shared.users.get(user, 'f' * 43)}"
    answer = await shared.send(None, "get_stock", **headers)
    assert (answer.status, answer.code) == (status, code)
    assert len(shared.upstream.received) == (status == 200)


async def test_carriers_that_disagree_are_refused(shared: Rig) -> None:
    """Two handles, a handle with another conversation's id, with another user's token, or with a URL of another one."""
    one, other = await shared.register("one"), await shared.register("other")
    foreign = {"authorization": f"Bearer {shared.users['ben']}"}
    for headers in ({"x_conversation_id": "other"}, {"baggage": "sidegate.conversation=other"}, foreign):
        answer = await shared.send(one, "get_stock", **headers)
        assert (answer.status, answer.code) == (409, "conflicting_conversation"), headers
    body = '{"id":"1","tool":"get_stock","arguments":{"sku":"1"}}'
    status, answered = await shared.post(f"/c/{other}/v1/tool-calls", body, one)
    assert (status, answered["refusal"]["code"]) == (409, "conflicting_conversation")
    assert (await shared.post(f"/c/{other}/v1/tool-calls", body))[0] == 200
    assert (await shared.post(f"/c/{other}/v1/tool-calls", body, other))[0] == 200
    assert len(shared.upstream.received) == 2


async def test_a_registration_that_contradicts_itself_is_refused(shared: Rig) -> None:
    """The path names one conversation, a header another: nothing is registered."""
    for header in ({"x-conversation-id": "b"}, {"baggage": "conversation.id=b"}):
        status, body = await shared.put("contradicting", shared.users["ada"], header)
        assert (status, body["refusal"]["code"]) == (409, "conflicting_conversation")
    assert shared.records(kind="registered", conversation="contradicting") == []
    assert (await shared.put("contradicting", shared.users["ada"], {"x-conversation-id": "contradicting"}))[0] == 200


async def test_identity_headers_are_nothing(shared: Rig) -> None:
    """Whatever a caller claims in headers, without proof it is the implicit conversation and anonymous."""
    claims = {"x_user": "root", "x_agent_user": "admin", "x_forwarded_user": "ada", "x_remote_user": "ada"}
    answer = await shared.send(None, "get_news", **claims)
    assert answer.status == 200
    record = await shared.ended(answer.call_id)
    assert (record["conversation"], record["principal"]["id"]) == ("~implicit", "sidegate#anonymous")
    headers = dict(shared.upstream.received[-1].headers)
    assert not any(value in ("root", "admin", "ada") for value in headers.values())


async def test_the_implicit_conversation_may_not_hold(shared: Rig) -> None:
    """Its history is unknown, so a person would have to see the stock; nobody registered it, so it is denied."""
    answer = await shared.send(None, "get_stock")
    assert (answer.status, answer.code, answer.headers["x-sidegate-decision"]) == (403, "denied", "review")
    assert "register" in answer.body["refusal"]["fix"]
    assert shared.records(kind="review_requested", conversation="~implicit") == []
    assert (await shared.send(None, "create_order", {"sku": "S", "quantity": 1})).code == "denied"


async def test_the_implicit_conversation_cannot_be_registered(shared: Rig) -> None:
    """Its name is no id."""
    for name in ("~implicit", "%7Eimplicit", "a b", "x" * 129):
        status, body = await shared.put(name, shared.users["ada"])
        assert (status, body["refusal"]["code"]) == (400, "invalid_call"), name


async def test_an_expired_conversation_refuses_and_keeps_its_labels(prepared: Rig) -> None:
    """After conversation_ttl: 401, registering again revives it with what it had read, and the id is never clean."""
    prepared.settings["conversation_ttl"] = "4s"  # time enough for what has to be done before
    await prepared.start()
    handle = await prepared.register("short")
    await held_price(prepared, handle)

    async def expired() -> bool:
        answer = await prepared.send(handle, "get_stock")
        return (answer.status, answer.code) == (401, "conversation_expired")

    await prepared.until(expired, "the conversation expires")
    before = len(prepared.upstream.received)
    assert (await prepared.get("/v1/tools", handle))[0] == 401
    assert (await prepared.put("short", prepared.users["ben"]))[0] == 409
    again = await prepared.register("short")
    assert (await prepared.send(again, "get_price", {"sku": "2"})).code == "review_pending"
    assert len(prepared.upstream.received) == before


async def test_a_revoked_token_is_refused_at_once(prepared: Rig) -> None:
    """Ben's token leaves the file: no registration, no call by it; ada is not touched."""
    await prepared.start()
    await prepared.register("bens", "ben")
    prepared.revoke("ben")
    by_token = {"authorization": f"Bearer {prepared.users['ben']}", "x_conversation_id": "bens"}

    async def refused() -> bool:
        return (await prepared.send(None, "get_stock", **by_token)).code == "unauthenticated"

    await prepared.until(refused, "the token is revoked")
    assert (await prepared.put("bens", prepared.users["ben"]))[0] == 401
    handle = await prepared.register("hers")
    assert (await prepared.send(handle, "get_stock")).status == 200


async def test_a_conversation_is_its_agent_s_alone(prepared: Rig) -> None:
    """Another service account in front of the same state: the handle finds nothing, and the id is taken."""
    await prepared.start()
    handle = await prepared.register("c1")
    assert await prepared.stop() == 0
    prepared.settings["agent"]["service_account"] = "another"
    await prepared.start()
    assert (await prepared.send(handle, "get_stock")).code == "unknown_conversation"
    status, body = await prepared.put("c1", prepared.users["ada"])
    assert (status, body["refusal"]["code"]) == (409, "conflicting_conversation")
    assert prepared.upstream.received == []
