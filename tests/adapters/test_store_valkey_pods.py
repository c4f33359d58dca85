"""Calls of a pod that is gone are ended by whoever is there, once."""

import asyncio
import signal
from pathlib import Path

import pytest

from proxy.adapters.store_valkey_pods import BEAT
from proxy.adapters.store_valkey_rows import UNKNOWN
from proxy.adapters.store_valkey_troubles import why
from proxy.earlier import Outcome
from proxy.errors import Code, Refusal
from tests.adapters.valkey_rig import LATER, looked_twice, pods_on_server, until_told
from tests.contracts.store_kit import refusing, register, until
from tests.contracts.store_values import checked, intent, terminal, tool

STOCK = tool("get_stock", labels=["quantities"])
PRICES = tool("get_prices", system="pricing", labels=["prices"])


async def test_of_three_pods_one_ends_each_call_of_the_dead_one(tmp_path: Path) -> None:
    """Executing: outcome unknown, once in all journals. Reserved: vanishes."""
    async with pods_on_server(tmp_path) as pods, pods.pod("a") as a, pods.pod("b") as b, pods.pod("c") as c:
        who, what = await register(a), checked(STOCK)
        facts = await a.calls.reserve("ran", who, what)
        await a.calls.commit(intent("ran", who, what, facts), durable=True)
        await a.calls.reserve("only-reserved", who, checked(PRICES))
        pods.server.command("DEL", a.link.seal.name("lease", "a").decode())
        assert sum(await asyncio.gather(b.pods.end_the_gone(), c.pods.end_the_gone())) == 0
        assert sum(await asyncio.gather(b.pods.end_the_gone(), c.pods.end_the_gone())) == 1
        history = (await b.calls.reserve("next", who, checked(STOCK))).history
        assert [(call.tool, call.outcome) for call in history.calls] == [("get_stock", Outcome.UNKNOWN)]
        assert history.principal_counters == {"calls": 1}
        ends = [*pods.records("b", kind="terminal"), *pods.records("c", kind="terminal")]
        assert [(end["call"], end["recovered"], end["pod"]) for end in ends] == [("ran", True, "a")]
        assert await b.calls.calls_of("a") == {}


async def test_a_pod_that_lives_and_has_lost_its_lease_keeps_its_calls(tmp_path: Path) -> None:
    """As after an outage longer than a lease, or a jump of the server's clock: it beats before the next look."""
    async with pods_on_server(tmp_path) as pods, pods.pod("a") as a, pods.pod("b") as b:
        who, what = await register(a), checked(STOCK)
        facts = await a.calls.reserve("runs", who, what)
        await a.calls.commit(intent("runs", who, what, facts), durable=True)
        for _ in range(2):
            pods.server.command("DEL", a.link.seal.name("lease", "a").decode())
            assert await b.pods.end_the_gone() == 0
            await a.pods.beat()
            assert await b.pods.end_the_gone() == 0
        await a.calls.settle(terminal("runs", who, what, facts), durable=True)
        history = (await b.calls.reserve("next", who, checked(PRICES))).history
        assert [call.outcome for call in history.calls] == [Outcome.DONE]
        assert pods.records("b", kind="terminal") == []


async def test_a_look_that_fails_is_no_look(tmp_path: Path) -> None:
    """Two outages, one after the other: nobody has had time to beat in between."""
    async with pods_on_server(tmp_path, deadline=0.3) as pods, pods.pod("a") as a, pods.pod("b") as b:
        who, what = await register(a), checked(STOCK)
        facts = await a.calls.reserve("runs", who, what)
        await a.calls.commit(intent("runs", who, what, facts), durable=True)
        pods.server.command("DEL", a.link.seal.name("lease", "a").decode())
        assert await b.pods.end_the_gone() == 0
        pods.server.kill(signal.SIGSTOP)
        with refusing(Code.STATE_UNAVAILABLE):
            await b.pods.end_the_gone()
        pods.server.kill(signal.SIGCONT)
        await until_told(b)
        assert await looked_twice(b) == 1


async def test_while_nobody_can_beat_nobody_is_gone(tmp_path: Path) -> None:
    """The server can be read and not written (no replicas, no memory, no disk) for longer than a lease."""
    async with pods_on_server(tmp_path) as pods, pods.pod("a") as a, pods.pod("b") as b:
        who, what = await register(a), checked(STOCK)
        facts = await a.calls.reserve("runs", who, what)
        await a.calls.commit(intent("runs", who, what, facts), durable=True)
        for store in (a, b):
            pods.server.command("DEL", a.link.seal.name("lease", store.pod).decode())
        pods.server.command("CONFIG", "SET", "min-replicas-to-write", "1")
        for _ in range(2):
            with refusing(Code.STATE_UNAVAILABLE):
                await b.pods.beat()
            assert await b.pods.end_the_gone() == 0
        pods.server.command("CONFIG", "SET", "min-replicas-to-write", "0")
        for store in (b, a):
            await store.pods.beat()
            assert await b.pods.end_the_gone() == 0
        assert pods.records("b", kind="terminal") == []
        assert list(await a.calls.calls_of("a")) == ["runs"]


async def test_a_forged_list_of_calls_ends_nobody_else_s(tmp_path: Path) -> None:
    """The list of a pod's calls is not sealed; the conversation's row, which says whose they are, is."""
    async with pods_on_server(tmp_path) as pods, pods.pod("a") as a, pods.pod("b") as b:
        who, what = await register(a), checked(STOCK)
        facts = await a.calls.reserve("mine", who, what)
        pods.server.command("HSET", a.link.seal.name("pods").decode(), "ghost", "1")
        pods.server.command("HSET", a.link.seal.name("calls", "ghost").decode(), "mine", who.conversation)
        assert await looked_twice(b) == 0
        await a.calls.commit(intent("mine", who, what, facts), durable=True)
        pods.server.command("HSET", a.link.seal.name("pods").decode(), "ghost", "1")
        pods.server.command("HSET", a.link.seal.name("calls", "ghost").decode(), "mine", who.conversation)
        assert await looked_twice(b) == 0
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


ODD = ("ghost", "", "a b", "x" * 200, r"\255\254", r"\000", "../../calls", "{other}:pods")


async def test_names_that_no_pod_has_do_not_trouble_the_beats(tmp_path: Path) -> None:
    """Put there by somebody else, as fields and as values, in the list of pods and in their lists of calls."""
    async with pods_on_server(tmp_path) as pods, pods.pod("b") as b:
        async with pods.pod("a") as a:
            who, what = await register(a), checked(STOCK)
            facts = await a.calls.reserve("ran", who, what)
            await a.calls.commit(intent("ran", who, what, facts), durable=True)
            pods.server.command("DEL", a.link.seal.name("lease", "a").decode())
            for key in (a.link.seal.name("pods"), a.link.seal.name("calls", "a"), a.link.seal.name("calls", "ghost")):
                for name in ODD:  # by Lua, which can write any byte
                    said = f"return redis.call('HSET', KEYS[1], '{name}', '{name}')"
                    assert pods.server.command("EVAL", said, "1", key.decode()) == b":1\r\n"
            await b.pods.beat()
            assert await looked_twice(b) == 1
            assert await b.pods.end_the_gone() == 0
        history = (await b.calls.reserve("next", who, checked(PRICES))).history
        assert [call.outcome for call in history.calls] == [Outcome.UNKNOWN]
        talks = pods.server.command("KEYS", a.link.seal.name("talk", "*").decode())
        assert talks.startswith(b"*1\r\n"), "no conversation has come of a name"
        async with pods.pod("ghost") as ghost:
            assert await ghost.recover() == 0


async def test_a_conversation_that_a_later_version_has_written_refuses_its_calls_and_nothing_else(
    tmp_path: Path,
) -> None:
    """While pods are replaced one by one: the older pod beats, serves the other conversations, and ends what others left."""
    async with pods_on_server(tmp_path) as pods, pods.pod("a") as a, pods.pod("b") as b:
        whos, what = [await register(b) for _ in range(2)], checked(STOCK)
        for n, who in enumerate(whos):
            facts = await b.calls.reserve(f"c{n}", who, what)
            await b.calls.commit(intent(f"c{n}", who, what, facts), durable=False)
        pods.rewrite_later(a.link.seal.name("talk", whos[0].conversation).decode())
        for store in (a, b):
            with pytest.raises(Refusal) as found:
                await store.calls.reserve("x", whos[0], what)
            assert why(found.value) == UNKNOWN.format(LATER)
            await store.calls.reserve(f"of-{store.pod}", whos[1], what)
            await store.pods.beat()
        pods.server.command("DEL", a.link.seal.name("lease", "b").decode())
        assert await a.pods.end_the_gone() == 0
        with refusing(Code.STATE_UNAVAILABLE):
            await a.pods.end_the_gone()
        assert "c0" in await a.calls.calls_of("b")
        assert [record["call"] for record in pods.records("a", kind="terminal")] == ["c1"]


async def test_a_pod_that_went_back_to_the_older_version_starts_and_leaves_what_it_cannot_read(tmp_path: Path) -> None:
    """It ends its other calls; the one is ended when a version that can read it starts."""
    async with pods_on_server(tmp_path) as pods:
        async with pods.pod("a") as a:
            whos, what = [await register(a) for _ in range(2)], checked(STOCK)
            for n, who in enumerate(whos):
                facts = await a.calls.reserve(f"c{n}", who, what)
                await a.calls.commit(intent(f"c{n}", who, what, facts), durable=False)
        pods.rewrite_later(a.link.seal.name("talk", whos[0].conversation).decode())
        async with pods.pod("a") as a:
            assert await a.recover() == 1
            assert list(await a.calls.calls_of("a")) == ["c0"]
        assert [record["call"] for record in pods.records("a", kind="terminal")] == ["c1"]


async def test_who_ends_in_order_leaves_no_trace_of_itself(tmp_path: Path) -> None:
    async with pods_on_server(tmp_path) as pods, pods.pod("b") as b:
        async with pods.pod("a") as a:
            await register(a)
        key = b.link.seal.name("pods").decode()
        assert pods.server.command("HKEYS", key) == b"*1\r\n$1\r\nb\r\n"
