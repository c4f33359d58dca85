"""Calls of one turn, in one body or on many connections: none misses what another brings (design section 8)."""

import asyncio
import itertools
import json
from collections.abc import Sequence
from typing import Any

import aiohttp
import pytest

from tests.e2e.rig import Received, Rig, echo, reply, tool

THREE = ("get_stock", "get_terms", "get_price")


def prepare(rig: Rig) -> None:
    """Room for the holds of all rounds, and a system that no rule speaks of."""
    rig.settings["patience"] = "20s"
    rig.settings["limits"] = {"holds_per_principal": 1000}
    rig.catalog["systems"]["news"] = {"audience": "internal"}
    rig.catalog["tools"].append(tool("get_news", "news", "read", {"method": "GET", "path": "/news/{sku}"}))
    rig.policy["grants"]["systems"]["news"] = {"read": {"buyer": {}}}


def body_of(*names: str, sku: str = "S") -> str:
    """A list of native calls."""
    return json.dumps([{"id": f"{n}-{i}", "tool": n, "arguments": {"sku": sku}} for i, n in enumerate(names)])


async def turn(rig: Rig, handle: str, body: str) -> list[dict[str, Any]]:
    """One list; its answers."""
    status, answers = await rig.post("/v1/tool-calls", body, handle)
    assert status == 200
    return list(answers)


@pytest.mark.parametrize("order", list(itertools.permutations(THREE)), ids="-".join)
async def test_a_list_is_decided_in_order(shared: Rig, order: Sequence[str]) -> None:
    """Whatever the order, the third of three systems that may not meet is the one that is held."""
    handle = await shared.register("-".join(order))
    answers = await turn(shared, handle, body_of(*order))
    assert [answer["status"] for answer in answers] == ["done", "done", "pending"]
    assert len(shared.upstream.received) == 2


async def test_a_refused_item_bars_no_later_one_of_its_list(shared: Rig) -> None:
    """Decided in order: the denied order of suppliers has vanished before stock and price are looked at."""
    handle = await shared.register("vanishes")
    order = {"id": "order", "tool": "create_order", "arguments": {"sku": "1", "quantity": 5000}}
    reads = [{"id": name, "tool": name, "arguments": {"sku": "1"}} for name in ("get_stock", "get_price")]
    answers = await turn(shared, handle, json.dumps([order, *reads]))
    assert [answer["status"] for answer in answers] == ["refused", "done", "done"]


async def test_calls_on_many_connections_never_both_miss_each_other(shared: Rig) -> None:
    """Thirty rounds of three calls at once, upstream fast and slow: never do all three run."""

    async def uneven(request: Received, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep((int(request.trace, 16) % 3) * 0.01)
        await echo(request, writer)

    shared.upstream.answer = uneven
    for number in range(30):
        handle = await shared.register(f"connections-{number}")
        order = list(itertools.permutations(THREE))[number % 6]
        calls = (shared.send(handle, name, {"sku": "S"}, x_sidegate_patience="0.02") for name in order)
        answers = await asyncio.gather(*calls)
        assert sorted(answer.status for answer in answers) == [200, 200, 409], number


async def test_an_earlier_call_counts_while_its_facts_and_its_upstream_are_slow(shared: Rig) -> None:
    """The first hangs at its fact source (it has a number, and no decision yet); the later ones see it all the same."""
    arrived, go = asyncio.Event(), asyncio.Event()

    async def slow_facts(request: Received, writer: asyncio.StreamWriter) -> None:
        if request.target.startswith("/facts/"):
            arrived.set()
            await go.wait()
            await reply(writer, b'{"tenant": "acme", "owner": "ada"}')
        else:
            await echo(request, writer)

    shared.upstream.answer = slow_facts
    handle = await shared.register("slow-facts")
    first = asyncio.create_task(shared.send(handle, "get_customer", {"id": "17"}))
    await arrived.wait()
    assert (await shared.send(handle, "get_terms")).status == 200
    assert (await shared.send(handle, "get_price", x_sidegate_patience="0")).code == "review_pending"
    go.set()
    assert (await first).status == 200


async def test_a_refused_earlier_call_vanishes(shared: Rig) -> None:
    """What was reserved and then refused (facts unavailable) bars nobody afterwards."""

    async def no_facts(request: Received, writer: asyncio.StreamWriter) -> None:
        await (reply(writer, b"{", status="500 No") if "/facts/" in request.target else echo(request, writer))

    shared.upstream.answer = no_facts
    handle = await shared.register("vanished")
    refused = await shared.send(handle, "get_customer", {"id": "17"})
    assert (refused.status, refused.code) == (503, "facts_unavailable")
    for name in ("get_terms", "get_price"):
        assert (await shared.send(handle, name)).status == 200


async def test_a_held_item_is_pending_at_once_while_its_siblings_run(shared: Rig) -> None:
    """A list tells of its hold without the patience of a single call, and the siblings have their results."""
    handle = await shared.register("siblings")
    for name in THREE[:2]:
        await shared.send(handle, name)
    answers = await asyncio.wait_for(turn(shared, handle, body_of("get_stock", "get_price", "get_news")), 10)
    assert [answer["status"] for answer in answers] == ["done", "pending", "done"]
    assert [answer["id"] for answer in answers] == ["get_stock-0", "get_price-1", "get_news-2"]
    assert len(shared.upstream.received) == 4


BAD_ITEMS: dict[str, tuple[Any, str]] = {
    "unknown tool": ({"id": "bad", "tool": "nope", "arguments": {}}, "unknown_tool"),
    "bad arguments": ({"id": "bad", "tool": "get_stock", "arguments": {"sku": 1}}, "invalid_arguments"),
    "extra argument": ({"id": "bad", "tool": "get_stock", "arguments": {"sku": "1", "x": 1}}, "invalid_arguments"),
    "unknown version": ({"id": "bad", "tool": "get_stock", "version": "9", "arguments": {"sku": "1"}}, "unsupported_version"),
    "denied": ({"id": "bad", "tool": "create_order", "arguments": {"sku": "1", "quantity": 5000}}, "denied"),
    "no arguments": ({"id": "bad", "tool": "get_stock"}, "invalid_arguments"),
    "arguments as text": ({"id": "bad", "tool": "get_stock", "arguments": "{}"}, "invalid_arguments"),
    "unknown key": ({"id": "bad", "tool": "get_stock", "arguments": {"sku": "1"}, "x": 1}, "invalid_call"),
}  # fmt: skip


@pytest.mark.parametrize("bad", BAD_ITEMS)
async def test_one_bad_item_fails_alone(shared: Rig, bad: str) -> None:
    """Its siblings run; it has its own refusal in its own place, and its one record."""
    item, code = BAD_ITEMS[bad]
    handle = await shared.register(f"bad-{list(BAD_ITEMS).index(bad)}")
    good = [{"id": name, "tool": "get_stock", "arguments": {"sku": name}} for name in ("before", "after")]
    answers = await turn(shared, handle, json.dumps([good[0], item, good[1]]))
    assert [answer["status"] for answer in answers] == ["done", "refused", "done"]
    assert answers[1]["refusal"]["code"] == code
    assert [request.target for request in shared.upstream.received] == ["/stock/before", "/stock/after"]


async def test_a_repeated_id_fails_alone(shared: Rig) -> None:
    """Of two items of one id an answer could not be told whose it is: not both run."""
    handle = await shared.register("twins")
    calls = [{"id": name, "tool": "get_stock", "arguments": {"sku": str(n)}} for n, name in enumerate("aab")]
    answers = await turn(shared, handle, json.dumps(calls))
    assert answers[2]["status"] == "done"
    assert [a.get("refusal", {}).get("code") for a in answers[:2]] == [None, "invalid_call"]


async def test_over_the_limit_of_calls_under_way_a_call_is_refused(prepared: Rig) -> None:
    """`in_flight: 4`: two are ada's, the third of hers is overloaded at once and says so, ben's run; places are free again when
    calls have ended."""
    prepared.settings["limits"] = {"in_flight": 4}
    await prepared.start()
    go = asyncio.Event()

    async def gated(request: Received, writer: asyncio.StreamWriter) -> None:
        await go.wait()
        await echo(request, writer)

    prepared.upstream.answer = gated
    ada, ben = await prepared.register("hers"), await prepared.register("his", "ben")
    under_way = [asyncio.create_task(prepared.send(ada, "get_stock", {"sku": str(n)})) for n in range(2)]
    await prepared.until_true(lambda: len(prepared.upstream.received) == 2, "two of ada's are under way")
    third = await prepared.send(ada, "get_stock", {"sku": "3"})
    assert (third.status, third.code, third.headers["retry-after"]) == (429, "overloaded", "1")
    assert "2 calls of this principal" in third.body["refusal"]["message"]
    assert "fewer calls" in third.body["refusal"]["fix"]
    assert (await prepared.ended(third.call_id))["principal"]["name"] == "Ada Example"
    under_way.append(asyncio.create_task(prepared.send(ben, "get_stock", {"sku": "4"})))
    await prepared.until_true(lambda: len(prepared.upstream.received) == 3, "ben's is, too")
    go.set()
    assert [(await task).status for task in under_way] == [200, 200, 200]
    assert (await prepared.send(ada, "get_stock", {"sku": "3"})).status == 200
    await prepared.sound()


async def test_one_users_slow_calls_leave_the_upstream_to_others(shared: Rig) -> None:
    """140 at once of one user, to one tool: 128 get their place, the others are told at once, and ben's call is answered."""
    go = asyncio.Event()

    async def gated(request: Received, writer: asyncio.StreamWriter) -> None:
        if request.target.startswith("/stock/slow"):
            await go.wait()
        await echo(request, writer)

    shared.upstream.answer = gated
    ada, ben = await shared.register("slow"), await shared.register("quick", "ben")
    codes: list[str] = []

    async def one(number: int) -> None:
        codes.append((await shared.send(ada, "get_stock", {"sku": f"slow-{number}"})).code)

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        usual, shared.session = shared.session, session
        try:
            tasks = [asyncio.create_task(one(number)) for number in range(140)]
            await shared.until_true(lambda: len(codes) == 12, "those over her share are told")
            await shared.until_true(lambda: len(shared.upstream.received) == 128, "the others are under way")
            assert (await shared.send(ben, "get_stock")).status == 200
            go.set()
            await asyncio.gather(*tasks)
        finally:
            shared.session = usual
    assert sorted(codes) == [""] * 128 + ["overloaded"] * 12
