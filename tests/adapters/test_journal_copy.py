"""The copy of the lines, which can neither stop nor slow the journal."""

import asyncio
import io
import os
from pathlib import Path

import pytest

from tests.adapters.journal_disk import STOP, files, opened, start


async def test_the_copy_has_every_line_and_a_broken_copy_stops_nothing(tmp_path: Path) -> None:
    copy = io.BytesIO()
    async with opened(tmp_path / "j", copy=copy, segment_bytes=400) as journal:
        for _ in range(5):
            journal.append(STOP)
    assert copy.getvalue() == b"".join(path.read_bytes() for path in files(tmp_path / "j"))
    copy.close()
    async with opened(tmp_path / "j", copy=copy) as journal:
        await journal.flushed(journal.append(STOP))


async def test_a_copy_that_blocks_does_not_block_the_journal(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """What is left out of the copy is told, once a minute."""
    reading, writing = os.pipe()
    with open(writing, "wb", buffering=0) as pipe:  # noqa: ASYNC230, PTH123 - a pipe's end has no path and does not block to open
        journal = start(tmp_path / "j", copy=pipe)
        for _ in range(11_000):
            seq = journal.append({"kind": "intent", "pad": "x" * 400})
        await asyncio.wait_for(journal.flushed(seq), 10)
        os.set_blocking(reading, False)
        os.close(reading)
        await journal.close()
    assert [record.message for record in caplog.records] == [
        "standard output is not read fast enough: lines of the copy are left out"
    ]
