"""What the server has acknowledged outlives it, and each call gets its one end, whoever dies."""

import asyncio
import signal
from pathlib import Path

import pytest

from proxy.errors import Code, Refusal
from proxy.model import ToolCount
from tests.adapters.valkey_rig import looked_twice, pods_on_server, until_told
from tests.contracts.store_kit import hold, refusing, register, run, until
from tests.contracts.store_values import checked, fresh, intent, terminal, tool

STOCK = tool("get_stock", labels=["quantities"])
PRICES = tool("get_prices", system="pricing", labels=["prices"])


async def test_a_server_that_is_killed_in_the_middle_loses_nothing_acknowledged(tmp_path: Path) -> None:
    """Ten times: after kill -9 and a start, every label, count and hold that was acknowledged is there."""
    async with pods_on_server(tmp_path, deadline=1.0) as pods:
        for number in range(10):
            async with pods.pod() as store:
                who = await register(store)
                found = tool("get_stock", labels=[f"label-{number}"])
                await run(store, who, checked(found))
                held = await hold(store, who, checked(PRICES))
                pods.server.kill()
            await pods.server.start()
            async with pods.pod() as store:
                facts = await store.calls.reserve(fresh("call"), who, checked(STOCK))
                assert f"label:label-{number}" in facts.history.marks
                assert facts.history.tools == {"get_stock": ToolCount(started=1, ok=1)}
                assert await store.reviews.find(review_id=held.id) == [held]


async def test_an_end_that_the_server_has_not_heard_is_in_the_journal_and_told_later(tmp_path: Path) -> None:
    """The caller is refused its result; the count is right once the server is back."""
    async with pods_on_server(tmp_path, deadline=1.0) as pods:
        async with pods.pod() as store:
            who, what = await register(store), checked(STOCK)
            facts = await store.calls.reserve("c", who, what)
            await store.calls.commit(intent("c", who, what, facts), durable=True)
            pods.server.kill(signal.SIGSTOP)
            with refusing(Code.STATE_UNAVAILABLE):
                await store.calls.settle(terminal("c", who, what, facts), durable=True)
            (record,) = pods.records("a", kind="terminal")
            (unheard,) = pods.records("a", kind="unheard")
            assert (record["outcome"], unheard["call"], unheard["code"]) == ("done", "c", "state_unavailable")
            pods.server.kill(signal.SIGCONT)
            await until_told(store)
            history = (await store.calls.reserve("d", who, checked(PRICES))).history
            assert history.tools == {"get_stock": ToolCount(started=1, ok=1)}
        assert len(pods.records("a", kind="terminal")) == 1


async def test_an_end_is_in_the_journal_before_the_server_takes_the_call_off_its_list(tmp_path: Path) -> None:
    """Else a pod that dies between the two has a call without an end, and nothing that names it."""
    async with pods_on_server(tmp_path, deadline=5.0) as pods, pods.pod() as store:
        who, what = await register(store), checked(STOCK)
        facts = await store.calls.reserve("c", who, what)
        await store.calls.commit(intent("c", who, what, facts), durable=True)
        pods.server.kill(signal.SIGSTOP)
        settled = asyncio.create_task(store.calls.settle(terminal("c", who, what, facts), durable=True))
        await until(lambda: bool(pods.records("a", kind="terminal", call="c")))
        assert not settled.done()
        pods.server.kill(signal.SIGCONT)
        await settled
        assert await store.calls.calls_of("a") == {}
        assert pods.records("a", kind="unheard") == []


async def test_a_restarted_pod_tells_the_end_that_its_journal_has(tmp_path: Path) -> None:
    """Not a second end, and not "unknown" where it is known."""
    async with pods_on_server(tmp_path, deadline=1.0) as pods:
        async with pods.pod() as store:
            who, what = await register(store), checked(STOCK)
            facts = await store.calls.reserve("c", who, what)
            await store.calls.commit(intent("c", who, what, facts), durable=True)
            pods.server.kill()
            with refusing(Code.STATE_UNAVAILABLE):
                await store.calls.settle(terminal("c", who, what, facts), durable=True)
        await pods.server.start()
        async with pods.pod() as store:
            assert await store.recover() == 0
            history = (await store.calls.reserve("d", who, checked(PRICES))).history
            assert history.tools == {"get_stock": ToolCount(started=1, ok=1)}
        assert len(pods.records("a", kind="terminal", call="c")) == 1


async def test_a_pod_starts_whose_oldest_segments_were_removed(tmp_path: Path) -> None:
    """As the runbook tells when the volume is full: what is needed of the journal is how its last calls ended."""
    async with pods_on_server(tmp_path, deadline=1.0) as pods:
        async with pods.pod() as store:
            who, what = await register(store), checked(STOCK)
            await run(store, who, what)
        async with pods.pod() as store:
            facts = [await store.calls.reserve(call, who, what) for call in ("told", "left", "reserved")]
            for call, seen in zip(("told", "left"), facts, strict=False):
                await store.calls.commit(intent(call, who, what, seen), durable=True)
            pods.server.kill()
            with refusing(Code.STATE_UNAVAILABLE):
                await store.calls.settle(terminal("told", who, what, facts[0]), durable=True)
        await pods.server.start()
        first, *others = sorted((pods.path / "a").glob("a-*.jsonl"))
        assert others
        first.unlink()
        async with pods.pod() as store:
            assert await store.recover() == 1
            history = (await store.calls.reserve("next", who, checked(PRICES))).history
            assert history.tools == {"get_stock": ToolCount(started=3, ok=2)}
            assert await store.calls.calls_of("a") == {"next": who.conversation}


async def test_what_could_not_be_ended_at_the_start_is_not_said_to_be(tmp_path: Path) -> None:
    """The server can be read, and not written. The end is in the journal by then, once; the next start tells it."""
    async with pods_on_server(tmp_path) as pods:
        async with pods.pod() as store:
            who, what = await register(store), checked(STOCK)
            facts = await store.calls.reserve("c", who, what)
            await store.calls.commit(intent("c", who, what, facts), durable=True)
        async with pods.pod() as store:
            pods.server.command("CONFIG", "SET", "min-replicas-to-write", "1")
            assert await store.recover() == 0
            pods.server.command("CONFIG", "SET", "min-replicas-to-write", "0")
            assert list(await store.calls.calls_of("a")) == ["c"]
        async with pods.pod() as store:
            assert await store.recover() == 0
            assert await store.calls.calls_of("a") == {}
        assert len(pods.records("a", kind="terminal", call="c")) == 1


async def test_a_commit_that_nobody_answered_does_not_run_and_leaves_nothing(tmp_path: Path) -> None:
    """It may have been applied when the deadline passed: the end of the refused call takes it back."""
    async with pods_on_server(tmp_path, deadline=1.0) as pods, pods.pod() as store:
        who, what = await register(store), checked(STOCK)
        facts = await store.calls.reserve("c", who, what)
        pods.server.kill(signal.SIGSTOP)
        with refusing(Code.STATE_UNAVAILABLE):
            await store.calls.commit(intent("c", who, what, facts), durable=True)
        with pytest.raises(Refusal):
            await store.calls.settle(
                terminal("c", who, what, facts, outcome="refused", ok=False, code="state_unavailable"), durable=False
            )
        pods.server.kill(signal.SIGCONT)
        await until_told(store)
        history = (await store.calls.reserve("d", who, checked(PRICES))).history
        assert (history.tools, history.counters, history.principal_counters) == ({}, {}, {})
        assert pods.records("a", kind="intent") == []


async def test_a_stop_that_this_pod_has_not_heard_of_still_refuses_the_next_call(tmp_path: Path) -> None:
    """The answer to its reservation tells."""
    async with pods_on_server(tmp_path) as pods, pods.pod("a") as a, pods.pod("b") as b:
        who = await register(a)
        await b.conversations.throw({"scope": "tool", "name": "get_stock"}, standing=True)
        assert a.conversations.stopped(who, checked(STOCK)) is None
        with refusing(Code.STOPPED):
            await a.calls.reserve("c", who, checked(STOCK))
        assert a.conversations.stopped(who, checked(STOCK)) is not None


async def test_a_pod_that_was_taken_for_dead_commits_nothing(tmp_path: Path) -> None:
    """Others have ended its reservation and gone on without it."""
    async with pods_on_server(tmp_path) as pods, pods.pod("a") as a, pods.pod("b") as b:
        who, what = await register(a), checked(STOCK)
        facts = await a.calls.reserve("c", who, what)
        pods.server.command("DEL", a.link.seal.name("lease", "a").decode())
        assert await looked_twice(b) == 0
        assert (await b.calls.reserve("d", who, checked(PRICES))).history.tools == {}
        with refusing(Code.STATE_UNAVAILABLE):
            await a.calls.commit(intent("c", who, what, facts), durable=True)
