"""Stop switches: thrown and lifted by an operator, in force at once, and over a restart (design section 5)."""

import asyncio
import signal

import pytest

from tests.e2e.holds import held_price, prices, resume, review_of
from tests.e2e.rig import Received, Rig

SCOPES = [
    ("all", "", True),
    ("conversation", "stopped-{n}", False),
    ("principal", "token-file#ada", True),
    ("principal", "ada", True),
    ("tool", "get_stock", True),
    ("system", "inventory", True),
    ("agent", "test/agent", True),
]


async def switch(rig: Rig, method: str, scope: str, name: str, by: str = "rob") -> tuple[int, dict[str, object]]:
    """Throw (POST) or lift (DELETE)."""
    body = {"scope": scope, "name": name} if name else {"scope": scope}
    return await rig.review(method, "/v1/stops", body, by=by)


@pytest.mark.parametrize("number", range(len(SCOPES)))
async def test_a_thrown_switch_stops_what_it_names_until_it_is_lifted(shared: Rig, number: int) -> None:
    """The named calls are refused with `stopped`, without OPA and without execution; others go on."""
    scope, name, others_too = SCOPES[number]
    name = name.format(n=number)
    handle, other = await shared.register(f"stopped-{number}"), await shared.register(f"other-{number}")
    assert (await switch(shared, "POST", scope, name))[0] == 200
    answer = await shared.send(handle, "get_stock")
    assert (answer.status, answer.code, answer.body["refusal"]["ran"]) == (403, "stopped", "no")
    assert "decide" not in (await shared.ended(answer.call_id))["durations"]
    assert (await shared.send(other, "get_stock")).code == ("stopped" if others_too else "")
    ben = await shared.register(f"ben-{number}", "ben")
    elsewhere = await shared.send(ben, "get_terms")
    assert elsewhere.code == ("stopped" if scope in ("all", "agent") else "")
    assert (await switch(shared, "DELETE", scope, name))[0] == 200
    assert (await shared.send(handle, "get_stock")).status == 200


async def test_a_switch_needs_an_operator_of_the_review_port(shared: Rig) -> None:
    """Reviewers without the role, users, and nobody: refused, and nothing is stopped or lifted."""
    handle = await shared.register("operator")
    for method in ("POST", "DELETE"):
        for by in ("ada", "sam"):
            status, body = await switch(shared, method, "all", "", by=by)
            assert (status, body["refusal"]) == (403, body["refusal"] | {"code": "not_approver"})  # type: ignore[operator]  # a JSON object
        headers = {"authorization": f"Bearer {shared.users['ada']}"}
        async with shared.session.request(method, shared.url("review") + "/v1/stops", headers=headers) as response:
            assert response.status == 401
        async with shared.session.request(method, shared.url("agent") + "/v1/stops", headers=headers) as response:
            assert response.status == 404
    assert (await shared.send(handle, "get_stock")).status == 200


async def test_a_switch_is_a_scope_and_a_name(shared: Rig) -> None:
    """What cannot be understood stops nothing and is refused."""
    for body in ({"scope": "world"}, {"scope": "tool"}, {"scope": "tool", "name": ""}, {"scope": ["all"]}, {"x": "y"}):
        status, answer = await shared.review("POST", "/v1/stops", body)
        assert (status, answer["refusal"]["code"]) == (400, "invalid_call"), body


async def test_an_approved_call_is_stopped_too(shared: Rig) -> None:
    """A yes does not outrank a switch; the yes stands when it is lifted."""
    handle = await shared.register("approved")
    held = await held_price(shared, handle)
    assert (await shared.approve(review_of(held)))[0] == 200
    await switch(shared, "POST", "system", "pricing")
    assert await resume(shared, held, handle) == (403, "stopped")
    assert prices(shared) == 0
    await switch(shared, "DELETE", "system", "pricing")
    assert await resume(shared, held, handle) == (200, "")


async def test_a_switch_survives_kill_9(prepared: Rig) -> None:
    """Thrown and lifted are both durable once they are answered."""
    await prepared.start()
    handle = await prepared.register("c1")
    await switch(prepared, "POST", "tool", "get_stock")
    await switch(prepared, "POST", "system", "suppliers")
    await switch(prepared, "DELETE", "system", "suppliers")
    await prepared.stop(signal.SIGKILL)
    await prepared.start()
    assert (await prepared.send(handle, "get_stock")).code == "stopped"
    assert (await prepared.send(handle, "get_terms")).status == 200


async def test_a_stop_that_is_acknowledged_while_a_call_is_tried_ends_the_tries(prepared: Rig) -> None:
    """The upstream breaks off the first; the stop is answered before that: no second arrives, and the call says what is true."""
    next(tool for tool in prepared.catalog["tools"] if tool["name"] == "get_stock").update(idempotent=True, retries=3)

    async def stop_and_break_off(_: Received, writer: asyncio.StreamWriter) -> None:
        assert (await switch(prepared, "POST", "tool", "get_stock"))[0] == 200
        writer.close()

    prepared.upstream.answer = stop_and_break_off
    await prepared.start()
    answer = await prepared.send(await prepared.register("c1"), "get_stock")
    assert (answer.status, answer.code, answer.body["refusal"]["ran"]) == (502, "outcome_unknown", "unknown")
    assert len(prepared.upstream.received) == 1
    assert (await prepared.ended(answer.call_id))["outcome"] == "unknown"
    await prepared.sound()


async def test_a_stop_between_two_tries_of_which_none_was_sent_is_what_the_call_ends_with(prepared: Rig) -> None:
    """The first got no TLS connection: nothing was sent and nothing will be. `stopped`, with its one record, after an intent."""
    next(tool for tool in prepared.catalog["tools"] if tool["name"] == "get_stock").update(retries=1)
    met = []

    async def stop_and_hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        met.append(await switch(prepared, "POST", "all", ""))
        writer.close()

    async with await asyncio.start_server(stop_and_hang_up, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        prepared.catalog["upstreams"]["api"]["http"]["base_url"] = f"https://127.0.0.1:{port}"
        await prepared.start()
        answer = await prepared.send(await prepared.register("c1"), "get_stock")
    assert (answer.status, answer.code, answer.body["refusal"]["ran"]) == (403, "stopped", "no")
    assert [status for status, _ in met] == [200]
    record = await prepared.ended(answer.call_id)
    assert (record["outcome"], record["ran"], len(prepared.records(kind="intent"))) == ("refused", "no", 1)
    await prepared.sound()
