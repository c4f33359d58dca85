"""Memory is the replayed journal, the checkpoint follows it, and faults of either are refusals."""

import asyncio
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from proxy.adapters.journal import Journal
from proxy.adapters.journal_segment import JournalError
from proxy.adapters.store_embedded import open_store
from proxy.adapters.store_log import MAX_FAULT_SECONDS, PERIOD, SLICE
from proxy.core.hold_rules import HoldLimits
from proxy.errors import Code
from tests.adapters.embedded_rig import Rig, whole
from tests.contracts.store_kit import hold, refusing, register, run, until
from tests.contracts.store_values import caller, checked, intent, refused, registered, review, terminal, tool

STOCK = tool("get_stock", labels=["quantities"])
MAIL = tool("read_mail", system="mail", trusted=False)


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path / "state")


async def test_conversations_that_are_saved_and_idle_leave_memory_and_come_back(rig: Rig) -> None:
    async with rig.opened(in_memory=2) as store:
        who = [await register(store, f"talk-{number}") for number in range(5)]
        await store.calls.reserve("open", who[1], checked(STOCK))
        await hold(store, who[2], checked(STOCK))
        await run(store, who[0], checked(STOCK))
        for talk in who[3:]:
            await run(store, talk, checked(STOCK))
        assert len(store.log.state.conversations) == 5
        await store.log.save()
        assert set(store.log.state.conversations) == {"talk-1", "talk-2"}
        assert await store.conversations.conversation(handle_hash="hash-of-talk-4") == registered("talk-4")
        facts = await store.calls.reserve("c", who[0], checked(MAIL))
        assert (facts.seq, facts.history.marks["label:quantities"]) == (2, 1)


async def test_a_conversation_that_changes_while_it_is_saved_stays_in_memory(rig: Rig) -> None:
    async with rig.opened(in_memory=1) as store:
        who = [await register(store, f"talk-{number}") for number in range(2)]
        saving = asyncio.create_task(store.log.save())
        await asyncio.sleep(0)
        what = checked(STOCK)
        facts = await store.calls.reserve("c", who[0], what)
        await store.calls.commit(intent("c", who[0], what, facts), durable=False)
        await store.calls.settle(terminal("c", who[0], what, facts), durable=False)
        await store.calls.reserve("d", who[1], what)
        await saving
        assert (await store.calls.reserve("e", who[0], what)).history.marks != {}


async def test_a_replaced_handle_is_dead_before_and_after_it_is_saved(rig: Rig) -> None:
    async with rig.opened(in_memory=1) as store:
        await register(store, "talk")
        await store.log.save()
        await store.conversations.register(registered("talk", handle_hash="new"))
        for _ in range(2):
            assert await store.conversations.conversation(handle_hash="hash-of-talk") is None
            assert await store.conversations.conversation(handle_hash="new") is not None
            await register(store)
            await store.log.save()


async def test_it_is_saved_after_a_while_and_when_much_has_changed(rig: Rig) -> None:
    def saved() -> int:
        with closing(sqlite3.connect(rig.database)) as other:
            return int(other.execute("SELECT count(*) FROM entity").fetchone()[0])

    async with rig.opened() as store:
        await register(store)
        assert saved() == 0
        await until(lambda: rig.clock.sleeps_for(PERIOD))
        rig.clock.advance(PERIOD)
        await until(lambda: saved() == 1)
        for _ in range(SLICE):
            await register(store)
        await until(lambda: saved() >= SLICE)


async def test_the_checkpoint_is_never_ahead_of_the_journal_on_disk(rig: Rig) -> None:
    async with rig.opened() as store:
        await register(store)
        await store.log.save()
        who, what = caller("~implicit"), checked(STOCK)
        facts = await store.calls.reserve("c", who, what)
        await store.calls.commit(intent("c", who, what, facts), durable=False)
        rig.flush_fails = True
        await store.log.save()
        with closing(sqlite3.connect(rig.database)) as other:
            assert other.execute("SELECT count(*) FROM entity WHERE kind = 'executing'").fetchone()[0] == 0


async def test_one_flush_that_failed_long_ago_refuses_nothing(rig: Rig) -> None:
    async with rig.opened() as store:
        who = await register(store)
        rig.flush_fails = True
        with refusing(Code.AUDIT_UNAVAILABLE):
            await register(store)
        await store.log.save()
        rig.flush_fails = False
        rig.clock.advance(MAX_FAULT_SECONDS + 1)
        await store.log.save()
        await run(store, who, checked(STOCK))


async def test_a_fault_of_the_database_is_told_at_once_and_costs_no_call_its_time(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    """Once for a fault, and its end. Meanwhile no call has all that has changed encoded anew: the next look does that."""
    caplog.set_level("INFO")
    async with rig.opened() as store:
        await register(store)
        with closing(sqlite3.connect(rig.database, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            await register(store, "quiet")
            await store.log.save()
            await store.log.save()
            before = set(store.log._tasks)
            for number in range(SLICE + 1):
                await register(store, f"more-{number}")
            assert store.log._tasks <= before
            other.execute("ROLLBACK")
        await store.log.save()
    assert [record.message for record in caplog.records if "checkpoint" in record.message] == [
        "the checkpoint of state cannot be written",
        "the checkpoint of state is written again",
    ]


async def test_a_short_fault_of_the_database_passes_and_a_long_one_refuses_every_call(rig: Rig) -> None:
    async with rig.opened() as store:
        who = await register(store)
        with closing(sqlite3.connect(rig.database, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            await register(store, "quiet")
            await store.log.save()
            await run(store, who, checked(STOCK))
            facts = await store.calls.reserve("c", who, what := checked(STOCK))
            rig.clock.advance(MAX_FAULT_SECONDS + 1)
            for refused_step in (
                store.calls.reserve("d", who, checked(STOCK)),
                store.calls.commit(intent("c", who, what, facts), durable=False),
                store.reviews.request(review("c", who, what)),
                store.conversations.register(registered("other")),
            ):
                with refusing(Code.STATE_UNAVAILABLE):
                    await refused_step
            await store.calls.settle(terminal("c", who, what, facts, **refused(Code.STATE_UNAVAILABLE)), durable=True)
            other.execute("ROLLBACK")
        await store.log.save()
        facts = await run(store, who, checked(STOCK))
        assert facts.history.counters == {"calls": 1}
    async with rig.opened() as store:
        assert (await store.calls.reserve("e", who, checked(STOCK))).history.counters == {"calls": 2}
        assert await store.conversations.conversation(conversation_id="quiet") is not None


@pytest.mark.parametrize("how", ["missing", "garbage", "row"])
async def test_a_lost_or_damaged_checkpoint_is_built_anew_from_the_journal(rig: Rig, how: str) -> None:
    async with rig.opened() as store:
        who = await register(store, "talk-0")
        await run(store, who, checked(MAIL))
        await hold(store, who, checked(STOCK))
        expected = whole(store.log.state)
    if how == "missing":
        rig.database.unlink()
    elif how == "garbage":
        rig.database.write_bytes(b"no database at all" * 999)
    else:
        with closing(sqlite3.connect(rig.database, isolation_level=None)) as other:
            other.execute("UPDATE entity SET body = '{}' WHERE kind = 'review'")
    async with rig.opened() as store:
        assert whole(store.log.state) == expected


async def test_without_the_journals_beginning_a_lost_checkpoint_cannot_be_built_anew(rig: Rig) -> None:
    async with rig.opened() as store:
        await register(store, "talk-0")
    async with rig.opened() as store:
        await register(store, "talk-1")
    first, *_ = sorted(rig.directory.glob("*.jsonl"))
    first.unlink()
    async with rig.opened() as store:
        assert await store.conversations.conversation(conversation_id="talk-0") is not None
    rig.database.unlink()
    with pytest.raises(JournalError, match="does not have record 1"):
        async with rig.opened():
            pass


async def test_a_journal_that_is_not_the_checkpoints_is_refused(rig: Rig) -> None:
    async with rig.opened() as store:
        for _ in range(5):
            await register(store)
    shutil.rmtree(rig.directory)
    with pytest.raises(JournalError, match="at which state was saved"):
        async with rig.opened():
            pass


async def test_records_that_are_not_the_journals_are_refused(rig: Rig, tmp_path: Path) -> None:
    async with rig.opened():
        shutil.copytree(rig.directory, tmp_path / "older")
    journal = Journal.open(rig.directory, chain="test", clock=rig.clock)
    try:
        with pytest.raises(JournalError, match="ends at"):
            await open_store(tmp_path / "db", journal, tmp_path / "older", clock=rig.clock, limits=HoldLimits())
    finally:
        await journal.close()


async def test_a_place_that_cannot_hold_a_database_is_refused_with_a_sentence(rig: Rig) -> None:
    rig.database.mkdir(parents=True)
    with pytest.raises(JournalError, match="cannot be used"):
        async with rig.opened():
            pass


async def test_a_record_that_is_no_change_of_state_stops_the_start(rig: Rig) -> None:
    async with rig.opened() as store:
        store.log._journal.append({"kind": "review_resolved", "review": "of nobody"})
    with pytest.raises(JournalError, match="cannot be read as a change of state"):
        async with rig.opened():
            pass


async def test_a_record_that_could_not_be_folded_in_is_not_written(rig: Rig) -> None:
    async with rig.opened(in_memory=1) as store:
        who, what = await register(store, "talk-0"), checked(STOCK)
        facts = await store.calls.reserve("c", who, what)
        head = store.log._journal.head
        record = intent("c", who, what, facts)
        del record["marks"]
        with pytest.raises(ValueError, match="needs marks"):
            await store.calls.commit(record, durable=False)
        assert store.log._journal.head == head
        await register(store, "talk-1")
        await store.calls.settle(terminal("c", who, what, facts, **refused()), durable=False)
        for _ in range(2):
            await register(store, "talk-1")
            await store.log.save()
        assert "talk-0" not in store.log.state.conversations
        with closing(sqlite3.connect(rig.database, isolation_level=None)) as other:
            other.execute("UPDATE entity SET body = '{' WHERE id = 'talk-0'")
        head = store.log._journal.head
        with refusing(Code.STATE_UNAVAILABLE):
            await store.calls.settle(terminal("d", who, what, None, **refused()), durable=False)
        assert store.log._journal.head == head


async def test_what_cannot_be_written_changes_nothing(rig: Rig) -> None:
    """A value that is no JSON is the one write that always fails."""
    async with rig.opened() as store:
        who, what = await register(store, "talk-0"), checked(STOCK)
        facts = await store.calls.reserve("c", who, what)
        before = whole(store.log.state)
        for attempt in (
            store.calls.commit(intent("c", who, what, facts, bad=object()), durable=False),
            store.calls.settle(terminal("c", who, what, facts, bad=object()), durable=False),
            store.reviews.request(review("d", who, what, reasons={"p": object()})),
            store.conversations.register(registered("talk-1", profile=object())),
            store.conversations.throw({"scope": "all", "by": object()}, standing=True),
        ):
            with refusing(Code.AUDIT_UNAVAILABLE):
                await attempt
        assert whole(store.log.state) == before
        assert (await store.calls.reserve("e", who, what)).history.marks == {}
