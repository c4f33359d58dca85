"""Calls of a pod that is gone are ended by whoever is there, once."""

import asyncio
from pathlib import Path

from proxy.adapters.store_valkey_pods import BEAT
from proxy.earlier import Outcome
from tests.adapters.valkey_rig import pods_on_server
from tests.contracts.store_kit import register, until
from tests.contracts.store_values import checked, intent, tool

STOCK = tool("get_stock", labels=["quantities"])
PRICES = tool("get_prices", system="pricing", labels=["prices"])


async def test_of_three_pods_one_ends_each_call_of_the_dead_one(tmp_path: Path) -> None:
    """Executing: outcome unknown, once in all journals. Reserved: vanishes."""
    async with pods_on_server(tmp_path) as pods, pods.pod("a") as a, pods.pod("b") as b, pods.pod("c") as c:
        who, what = await register(a), checked(STOCK)
        facts = await a.calls.reserve("ran", who, what)
        await a.calls.commit(intent("ran", who, what, facts), durable=True)
        await a.calls.reserve("only-reserved", who, checked(PRICES))
        assert await b.pods.end_the_gone() == 0
        pods.server.command("DEL", a.link.seal.name("lease", "a").decode())
        assert sum(await asyncio.gather(b.pods.end_the_gone(), c.pods.end_the_gone())) == 1
        history = (await b.calls.reserve("next", who, checked(STOCK))).history
        assert [(call.tool, call.outcome) for call in history.calls] == [("get_stock", Outcome.UNKNOWN)]
        assert history.principal_counters == {"calls": 1}
        ends = [*pods.records("b", kind="terminal"), *pods.records("c", kind="terminal")]
        assert [(end["call"], end["recovered"], end["pod"]) for end in ends] == [("ran", True, "a")]
        assert await b.calls.calls_of("a") == {}


async def test_a_forged_list_of_calls_ends_nobody_else_s(tmp_path: Path) -> None:
    """The list of a pod's calls is not sealed; the conversation's row, which says whose they are, is."""
    async with pods_on_server(tmp_path) as pods, pods.pod("a") as a, pods.pod("b") as b:
        who, what = await register(a), checked(STOCK)
        facts = await a.calls.reserve("mine", who, what)
        pods.server.command("HSET", a.link.seal.name("pods").decode(), "ghost", "1")
        pods.server.command("HSET", a.link.seal.name("calls", "ghost").decode(), "mine", who.conversation)
        assert await b.pods.end_the_gone() == 0
        await a.calls.commit(intent("mine", who, what, facts), durable=True)
        pods.server.command("HSET", a.link.seal.name("pods").decode(), "ghost", "1")
        pods.server.command("HSET", a.link.seal.name("calls", "ghost").decode(), "mine", who.conversation)
        assert await b.pods.end_the_gone() == 0
        history = (await b.calls.reserve("next", who, checked(PRICES))).history
        assert [call.outcome for call in history.calls] == [Outcome.EXECUTING]


async def test_a_beat_brings_stops_and_reviews_of_others(tmp_path: Path) -> None:
    """Without any call; the clock beats four times a second."""
    async with pods_on_server(tmp_path) as pods, pods.pod("a") as a, pods.pod("b") as b:
        who = await register(a)
        await until(lambda: pods.clock.sleeps_for(BEAT))
        await b.conversations.throw({"scope": "all"}, standing=True)
        assert a.conversations.stopped(who, None) is None
        pods.clock.advance(BEAT)
        await until(lambda: a.conversations.stopped(who, None) is not None)


async def test_who_ends_in_order_leaves_no_trace_of_itself(tmp_path: Path) -> None:
    async with pods_on_server(tmp_path) as pods, pods.pod("b") as b:
        async with pods.pod("a") as a:
            await register(a)
        key = b.link.seal.name("pods").decode()
        assert pods.server.command("HKEYS", key) == b"*1\r\n$1\r\nb\r\n"
