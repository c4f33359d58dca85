"""Grouping: who shares a flush, and on which thread it runs."""

import asyncio
import threading
from pathlib import Path

import pytest

from proxy.errors import Refusal
from tests.adapters.journal_disk import STOP, Disk, opened


async def test_callers_in_flight_share_flushes_on_one_thread(tmp_path: Path) -> None:
    disk = Disk()
    async with opened(tmp_path / "j", sync=disk) as journal:

        async def call(number: int) -> None:
            journal.enter()
            await journal.flushed(journal.append({"kind": "intent", "call": str(number)}))
            journal.leave()

        await asyncio.gather(*(call(number) for number in range(200)))
        assert len(disk.synced) <= 5
    assert len(disk.threads) == 1
    assert threading.get_ident() not in disk.threads


async def test_a_group_waits_for_calls_in_flight_only_briefly(tmp_path: Path) -> None:
    disk = Disk()
    async with opened(tmp_path / "j", sync=disk) as journal:
        for _ in range(3):
            journal.enter()
        first = asyncio.ensure_future(journal.flushed(journal.append(STOP)))
        await asyncio.sleep(0)
        second = asyncio.ensure_future(journal.flushed(journal.append(STOP)))
        await asyncio.wait_for(asyncio.gather(first, second), 5)  # the third call never joins
        assert len(disk.synced) == 1


async def test_a_group_starts_at_once_when_everybody_in_flight_has_joined(tmp_path: Path) -> None:
    """The loop is blocked while the flush begins, so no timer can have started it."""
    disk = Disk()
    async with opened(tmp_path / "j", sync=disk) as journal:
        journal.enter()
        journal.enter()
        waiter = asyncio.ensure_future(journal.flushed(journal.append(STOP)))
        await asyncio.sleep(0)
        journal.leave()  # held or ended: nobody is left to wait for
        assert disk.entered.wait(5)
        await waiter
        disk.entered.clear()
        waiter = asyncio.ensure_future(journal.flushed(journal.append(STOP)))
        await asyncio.sleep(0)
        assert disk.entered.wait(5)
        await waiter


async def test_work_for_the_thread_does_not_split_the_group_that_waits_behind_a_flush(tmp_path: Path) -> None:
    disk = Disk()
    async with opened(tmp_path / "j", sync=disk) as journal:
        disk.gate.clear()
        tasks = [asyncio.ensure_future(journal.flushed(journal.append(STOP)))]
        await asyncio.sleep(0)
        tasks.append(asyncio.ensure_future(journal.flushed(journal.append(STOP))))
        work = asyncio.ensure_future(journal.run_in_writer(lambda: 7))
        await asyncio.sleep(0)
        tasks.append(asyncio.ensure_future(journal.flushed(journal.append(STOP))))
        await asyncio.sleep(0)
        disk.gate.set()
        await asyncio.gather(*tasks)
        assert await work == 7
        assert len(disk.synced) == 2


async def test_those_who_joined_during_a_flush_that_fails_are_refused_too(tmp_path: Path) -> None:
    """Their bytes went to the same descriptor, whose next flush could lie."""
    disk = Disk()
    async with opened(tmp_path / "j", sync=disk) as journal:
        disk.gate.clear()
        disk.error = OSError(5, "Input/output error")
        tasks = [asyncio.ensure_future(journal.flushed(journal.append(STOP)))]
        await asyncio.sleep(0)
        tasks.append(asyncio.ensure_future(journal.flushed(journal.append(STOP))))
        await asyncio.sleep(0)
        disk.gate.set()
        ends = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(end) for end in ends] == [Refusal, Refusal]
        disk.error = None
        await journal.flushed(journal.append(STOP))


async def test_those_who_come_during_a_flush_form_the_next_group(tmp_path: Path) -> None:
    disk = Disk()
    async with opened(tmp_path / "j", sync=disk) as journal:
        durable: list[int] = []
        journal.on_durable(durable.append)
        disk.gate.clear()
        first = asyncio.ensure_future(journal.flushed(journal.append(STOP)))
        await asyncio.sleep(0)
        later = [asyncio.ensure_future(journal.flushed(journal.append(STOP))) for _ in range(20)]
        await asyncio.sleep(0)
        assert not first.done()
        disk.gate.set()
        await asyncio.gather(first, *later)
        assert len(disk.synced) == 2
        assert durable == [2, 22]
        await journal.flushed(22)
        assert len(disk.synced) == 2  # it was durable already


async def test_a_caller_who_gives_up_does_not_spoil_the_group(tmp_path: Path) -> None:
    disk = Disk()
    async with opened(tmp_path / "j", sync=disk) as journal:
        disk.gate.clear()
        gone = asyncio.ensure_future(journal.flushed(journal.append(STOP)))
        stays = asyncio.ensure_future(journal.flushed(journal.append(STOP)))
        await asyncio.sleep(0)
        gone.cancel()
        disk.gate.set()
        await asyncio.wait_for(stays, 5)


async def test_work_runs_on_the_writer_thread_after_the_pending_flush(tmp_path: Path) -> None:
    disk = Disk()
    async with opened(tmp_path / "j", sync=disk) as journal:
        journal.enter()
        journal.enter()
        waiter = asyncio.ensure_future(journal.flushed(journal.append(STOP)))
        await asyncio.sleep(0)
        assert await journal.run_in_writer(lambda: (threading.get_ident() in disk.threads, len(disk.synced))) == (
            True,
            1,
        )
        await waiter

        def fail() -> None:
            raise LookupError("from the work")

        with pytest.raises(LookupError, match="from the work"):
            await journal.run_in_writer(fail)
