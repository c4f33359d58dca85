"""Calls of the embedded store: what a durable step waits for."""

import asyncio
from pathlib import Path

from proxy.errors import Code
from tests.adapters.embedded_rig import Rig
from tests.contracts.store_kit import refusing, register, run
from tests.contracts.store_values import checked, intent, refused, review, terminal, tool

STOCK = tool("get_stock", labels=["quantities"])


async def test_a_durable_step_says_so_when_it_is_not_on_disk_and_counts_all_the_same(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    async with rig.opened() as store:
        who, what = await register(store), checked(STOCK)
        facts = await store.calls.reserve("c", who, what)
        rig.flush_fails = True
        with refusing(Code.AUDIT_UNAVAILABLE):
            await store.calls.commit(intent("c", who, what, facts), durable=True)
        later = await store.calls.reserve("d", who, what)
        assert "label:quantities" in later.history.marks
        with refusing(Code.AUDIT_UNAVAILABLE):
            await store.calls.settle(terminal("c", who, what, facts), durable=True)


async def test_a_step_that_need_not_be_durable_does_not_wait_for_the_disk(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    async with rig.opened() as store:
        who, what = await register(store), checked(STOCK)
        rig.flush_fails = True
        facts = await store.calls.reserve("c", who, what)
        await store.calls.commit(intent("c", who, what, facts), durable=False)
        await store.calls.settle(terminal("c", who, what, facts), durable=False)


async def test_parallel_durable_steps_share_a_flush(tmp_path: Path) -> None:
    """The first that waits waits for the others, since the journal knows how many are in flight."""
    flushes = []

    class Counting(Rig):
        def _sync(self, descriptor: int) -> None:
            flushes.append(descriptor)
            super()._sync(descriptor)

    rig = Counting(tmp_path)
    async with rig.opened() as store:
        who, what = await register(store), checked(STOCK)
        all_facts = [await store.calls.reserve(f"c{n}", who, what) for n in range(20)]
        flushes.clear()
        commits = (intent(f"c{n}", who, what, facts) for n, facts in enumerate(all_facts))
        await asyncio.gather(*(store.calls.commit(record, durable=True) for record in commits))
        assert len(flushes) == 1


async def test_calls_that_are_held_or_have_ended_are_not_waited_for(tmp_path: Path) -> None:
    """A flush waits a little for every call in flight, and only for those."""
    async with Rig(tmp_path).opened() as store:
        who, what = await register(store), checked(STOCK)
        await store.calls.reserve("held", who, what)
        await store.reviews.request(review("held", who, what))
        facts = await store.calls.reserve("refused", who, what)
        await store.calls.settle(terminal("refused", who, what, facts, **refused()), durable=False)
        await run(store, who, what)
        assert store.log._in_flight == set()
        await store.calls.reserve("held", who, what)
        assert store.log._in_flight == {"held"}
