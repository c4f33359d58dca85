"""Calls of a pod that is gone get their one end, whatever goes wrong while another pod gives it to them."""

from pathlib import Path
from typing import Any

from proxy.adapters.store_valkey import SharedStore
from proxy.core.conversation import IMPLICIT
from proxy.earlier import Outcome
from proxy.errors import Code
from proxy.model import Caller
from tests.adapters.resp_server import answering
from tests.adapters.valkey_rig import Pods, looked_twice, pods_on_server, until_told
from tests.contracts.store_kit import refusing, register
from tests.contracts.store_values import caller, checked, intent, terminal, tool
from tests.e2e.redis_server import redis_server

WHAT = checked(tool("get_stock", labels=["quantities"]))
OTHER = checked(tool("get_prices", system="pricing", labels=["prices"]))


async def left(pods: Pods, store: SharedStore, who: Caller) -> dict[str, Any]:
    """A call `ran` that is under way when its pod has lost its lease; what its end would say."""
    facts = await store.calls.reserve("ran", who, WHAT)
    await store.calls.commit(intent("ran", who, WHAT, facts), durable=True)
    no_lease(pods, store)
    return terminal("ran", who, WHAT, facts)


def no_lease(pods: Pods, store: SharedStore) -> None:
    pods.server.command("DEL", store.link.seal.name("lease", store.pod).decode())


async def ended_once(pods: Pods, name: str, store: SharedStore, who: Caller) -> None:
    """In this pod's journal, as the first one's; and nothing names it any more."""
    ends = [(end["call"], end["outcome"], end["pod"]) for end in pods.records(name, kind="terminal")]
    assert ends == [("ran", "unknown", "a")]
    history = (await store.calls.reserve("next", who, OTHER)).history
    assert [(call.tool, call.outcome) for call in history.calls] == [("get_stock", Outcome.UNKNOWN)]
    assert {*await store.calls.calls_of("a"), *await store.calls.calls_of("b")} <= {"next"}


async def test_an_end_whose_answers_get_lost_is_in_the_journal_once(tmp_path: Path) -> None:
    """The server has done each step, and the pod that asked does not hear so."""
    async with redis_server(tmp_path / "redis") as server, answering({}, server) as between:
        pods = Pods(tmp_path / "pods", server, url=between.url, deadline=0.3)
        async with pods.pod("a") as a, pods.pod("b") as b:
            who = await register(a)
            await left(pods, a, who)
            assert await b.pods.end_the_gone() == 0
            between.swallowed.add(b"ran")
            for _ in range(2):
                with refusing(Code.STATE_UNAVAILABLE):
                    await b.pods.end_the_gone()
            between.swallowed.clear()
            await until_told(b)
            await looked_twice(b)
            await ended_once(pods, "b", b, who)


async def test_who_is_killed_after_taking_over_ends_it_when_it_is_back(tmp_path: Path) -> None:
    async with pods_on_server(tmp_path) as pods, pods.pod("a") as a:
        who = await register(a)
        await left(pods, a, who)
        async with pods.pod("b") as b:
            await b.pods._gone.take_over("a")
            assert await b.calls.calls_of("a") == {}
        async with pods.pod("b") as b:
            assert await b.recover() == 1
            await ended_once(pods, "b", b, who)


async def test_an_end_that_only_the_journal_has_is_not_written_again_after_a_kill(tmp_path: Path) -> None:
    """Between the journal and the server; this pod's journal has no beginning of that call."""
    async with pods_on_server(tmp_path) as pods, pods.pod("a") as a:
        who = await register(a)
        await left(pods, a, who)
        async with pods.pod("b") as b:
            await b.pods._gone.take_over("a")
            pods.server.command("CONFIG", "SET", "min-replicas-to-write", "1")  # it can be read, and not written
            for _ in range(2):
                with refusing(Code.STATE_UNAVAILABLE):
                    await b.pods._gone.end_adopted()
            pods.server.command("CONFIG", "SET", "min-replicas-to-write", "0")
        async with pods.pod("b") as b:
            assert await b.recover() == 0
            await ended_once(pods, "b", b, who)


async def test_what_a_pod_took_over_and_left_is_ended_as_the_first_ones(tmp_path: Path) -> None:
    async with pods_on_server(tmp_path) as pods, pods.pod("a") as a, pods.pod("b") as b, pods.pod("c") as c:
        who = await register(a)
        await left(pods, a, who)
        await b.pods._gone.take_over("a")
        no_lease(pods, b)
        assert await looked_twice(c) == 1
        await ended_once(pods, "c", c, who)
        assert await b.pods.end_the_gone() == 0
        assert pods.records("b", kind="terminal") == []


async def test_a_call_that_its_pod_ends_after_it_was_taken_over_has_that_end_alone(tmp_path: Path) -> None:
    """It lived, and was only slow."""
    async with pods_on_server(tmp_path) as pods, pods.pod("a") as a, pods.pod("b") as b:
        who = await register(a)
        end = await left(pods, a, who)
        await b.pods._gone.take_over("a")
        await a.calls.settle(end, durable=True)
        assert await b.pods.end_the_gone() == 0
        assert pods.records("b", kind="terminal") == []
        assert await b.calls.calls_of("b") == {}
        history = (await b.calls.reserve("next", who, OTHER)).history
        assert [call.outcome for call in history.calls] == [Outcome.DONE]


async def test_what_a_pod_did_for_nobody_is_ended_too(tmp_path: Path) -> None:
    """It stands in a row of that pod's own."""
    nobody = caller(IMPLICIT)
    async with pods_on_server(tmp_path) as pods, pods.pod("a") as a, pods.pod("b") as b:
        await left(pods, a, nobody)
        assert await looked_twice(b) == 1
        (end,) = pods.records("b", kind="terminal")
        assert (end["call"], end["conversation"], end["pod"]) == ("ran", IMPLICIT, "a")
        assert (await b.calls.calls_of("a"), await b.calls.calls_of("b")) == ({}, {})
        row = a.link.seal.name("talk", f"{IMPLICIT} a").decode()
        assert int(pods.server.command("TTL", row)[1:]) > 0, "it is forgotten in its time"
        history = (await a.calls.reserve("next", nobody, OTHER)).history
        assert [call.outcome for call in history.calls] == [Outcome.UNKNOWN]
        assert (await b.talks.read(f"{IMPLICIT} a")).executing == {}
        pods.server.command("DEL", row)
        assert (await b.talks.read(f"{IMPLICIT} a")).version == 0, "what was forgotten is missed by nobody"
