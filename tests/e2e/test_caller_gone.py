"""The caller hangs up while OPA thinks, while the call is held, and while the upstream works (design section 4)."""

import asyncio
import json
import os
import signal

from tests.e2e.gates import Gate
from tests.e2e.rig import Received, Rig, echo, native, reply

ORDER = native("create_order", {"sku": "S", "quantity": 1})


def prepare(rig: Rig) -> None:
    """Long deadlines: what ends these calls is the caller."""
    rig.settings["opa"] = {"deadline": "5s"}
    rig.settings["patience"] = "20s"


async def in_flight(rig: Rig) -> int:
    """Calls under way, by the review port."""
    return int((await rig.review("GET", "/v1/status"))[1]["in_flight"])


async def test_gone_while_opa_thinks(shared: Rig) -> None:
    """Nothing is sent, one record says abandoned, and the call leaves no trace in its conversation."""
    handle = await shared.register("thinking")
    pid = shared.opa_pid()

    async def under_way() -> bool:
        return await in_flight(shared) == 1

    async def nothing_under_way() -> bool:
        return await in_flight(shared) == 0

    os.kill(pid, signal.SIGSTOP)
    try:
        await shared.hang_up_on(handle, ORDER, when=under_way)
        await shared.until(nothing_under_way, "the call is given up while OPA still hangs")
    finally:
        os.kill(pid, signal.SIGCONT)
    (record,) = shared.records(kind="terminal", conversation="thinking")
    assert (record["outcome"], record["code"], record["caller_gone"]) == ("abandoned", "abandoned", True)
    assert shared.upstream.received == []
    assert shared.records(kind="intent", conversation="thinking") == []
    assert (await shared.send(handle, "get_stock")).status == 200
    assert [r.target for r in shared.upstream.received] == ["/stock/SKU-1"]


async def test_gone_while_held(shared: Rig) -> None:
    """One record, the review stays, and a later yes waits for a live identical call: nobody there, nothing runs."""
    handle = await shared.register("held")
    for name in ("get_stock", "get_terms"):
        assert (await shared.send(handle, name)).status == 200

    async def held() -> bool:
        return bool(await open_reviews(shared, "held"))

    await shared.hang_up_on(handle, native("get_price"), when=held)
    await shared.until_true(lambda: len(ends(shared, "held")) == 3, "the held call ends")
    assert ends(shared, "held")[-1]["code"] == "abandoned"
    (review,) = await open_reviews(shared, "held")
    assert (await shared.approve(review))[0] == 200
    assert len(shared.upstream.received) == 2
    assert (await shared.send(handle, "get_price")).status == 200
    assert len(shared.upstream.received) == 3


async def test_gone_while_the_upstream_works(shared: Rig) -> None:
    """What was sent is carried to its end and recorded as done, with the caller gone."""
    gate = Gate()
    shared.upstream.answer = gate
    handle = await shared.register("working")
    await shared.hang_up_on(handle, ORDER, when=gate.has_one)
    assert ends(shared, "working") == []
    assert await in_flight(shared) == 1  # a round trip later the sidecar has seen the end of the connection, too
    gate.open.set()
    await shared.until_true(lambda: len(ends(shared, "working")) == 1, "the call ends")
    (record,) = ends(shared, "working")
    assert (record["outcome"], record["ok"], record["ran"]) == ("done", True, "yes")
    assert record["caller_gone"] is True
    assert len(shared.upstream.received) == 1


async def test_gone_in_the_middle_of_a_list(shared: Rig) -> None:
    """The first item is at the upstream, the second at its fact source: the one is carried to its end, the other given up,
    and a third never begins."""
    go = asyncio.Event()

    async def gated(request: Received, writer: asyncio.StreamWriter) -> None:
        await go.wait()
        facts = request.target.startswith("/facts/")
        await (reply(writer, b'{"tenant": "acme", "owner": "ada"}') if facts else echo(request, writer))

    async def both_arrived() -> bool:
        return len(shared.upstream.received) == 2

    shared.upstream.answer = gated
    handle = await shared.register("list")
    items = [("get_stock", {"sku": "1"}), ("get_customer", {"id": "17"}), ("get_stock", {"sku": "3"})]
    body = json.dumps([{"id": str(n), "tool": name, "arguments": given} for n, (name, given) in enumerate(items)])
    await shared.hang_up_on(handle, body, when=both_arrived)
    await shared.until_true(lambda: len(ends(shared, "list")) == 1, "the second is given up")
    assert ends(shared, "list")[0]["code"] == "abandoned"
    go.set()
    await shared.until_true(lambda: len(ends(shared, "list")) == 2, "the first ends")
    assert (ends(shared, "list")[1]["outcome"], ends(shared, "list")[1]["caller_gone"]) == ("done", True)
    assert [request.target for request in shared.upstream.received] == ["/stock/1", "/facts/17"]


def ends(rig: Rig, conversation: str) -> list[dict[str, object]]:
    """Terminal records of a conversation."""
    return rig.records(kind="terminal", conversation=conversation)


async def open_reviews(rig: Rig, conversation: str) -> list[str]:
    """Ids of its pending reviews."""
    _, found = await rig.review("GET", "/v1/reviews")
    return [review["id"] for review in found if review["conversation"] == conversation]
