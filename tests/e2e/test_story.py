"""One conversation through the running sidecar: reads that meet, a hold, a yes, one execution."""

from tests.e2e.rig import Rig


async def held_price(rig: Rig, handle: str) -> dict[str, str]:
    """Bring a conversation to the point where the price is held; the refusal."""
    assert (await rig.call(handle, "get_stock"))[0] == 200
    assert (await rig.call(handle, "get_terms"))[0] == 200
    status, answer = await rig.call(handle, "get_price")
    assert (status, answer["status"]) == (409, "pending")
    refusal: dict[str, str] = answer["refusal"]
    return refusal


async def test_what_was_judged_is_what_arrives(running: Rig) -> None:
    """Number tokens, key order and nothing of the caller's headers reach the upstream, with its own credential."""
    handle = await running.register("c1")
    body = '{"id":"n","tool":"create_order","arguments":{"sku":"\\u00e9","quantity":1.10}}'
    status, _ = await running.post("/v1/tool-calls", body, handle, cookie="a=b", x_user="root", x_api_key="k")
    assert status == 200
    received = running.upstream.received[-1]
    assert received.body == '{"sku":"é","quantity":1.10}'.encode()
    headers = dict(received.headers)
    assert headers["authorization"] == "Bearer upstream-secret-credential"
    assert not {"x-user", "x-api-key", "cookie"} & headers.keys()


async def test_a_hold_runs_once_after_a_yes(running: Rig) -> None:
    """The third system is held, shows the two calls before it, runs once, and is held anew."""
    handle = await running.register("c1")
    held = await held_price(running, handle)
    _, shown = await running.review("GET", f"/v1/reviews/{held['review']}")
    assert [call["system"] for call in shown["earlier_calls"]] == ["inventory", "suppliers"]
    assert (await running.approve(held["review"]))[1]["status"] == "approved"
    before = len(running.upstream.received)
    status, answer = await running.post(f"/v1/tool-calls/{held['call_id']}/resume", b"", handle)
    assert (status, answer["status"]) == (200, "done")
    status, _ = await running.post(f"/v1/tool-calls/{held['call_id']}/resume", b"", handle)
    assert status == 409
    assert len(running.upstream.received) == before + 1
    status, again = await running.call(handle, "get_price")
    assert (status, again["refusal"]["code"]) == (409, "review_pending")
    assert again["refusal"]["review"] != held["review"]


async def test_the_identical_call_uses_the_yes(running: Rig) -> None:
    """Without `resume`, the model's repetition of the call finds its approval."""
    handle = await running.register("c1")
    held = await held_price(running, handle)
    await running.approve(held["review"])
    assert (await running.call(handle, "get_price"))[1]["status"] == "done"
    assert (await running.call(handle, "get_price"))[1]["status"] == "pending"


async def test_parallel_calls_never_both_miss_each_other(running: Rig) -> None:
    """Three parallel reads of systems that may not meet: two run, the third is held at once."""
    handle = await running.register("c1")
    calls = [
        f'{{"id":"{name}","tool":"{name}","arguments":{{"sku":"S"}}}}'
        for name in ("get_stock", "get_terms", "get_price")
    ]
    status, answers = await running.post("/v1/tool-calls", f"[{','.join(calls)}]", handle)
    assert status == 200
    assert [answer["status"] for answer in answers] == ["done", "done", "pending"]
