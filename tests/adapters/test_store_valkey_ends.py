"""How calls ended is found in the journal from its end backwards, whatever has become of its beginning."""

import os
from pathlib import Path

from proxy.adapters.journal import Journal
from proxy.adapters.store_valkey_ends import ends_of
from tests.contracts.store_kit import ManualClock

CHAIN = "a"


async def write(path: Path, *records: tuple[str, str]) -> Path:
    """One run of a process: a segment with these records; its file."""
    journal = Journal.open(path, chain=CHAIN, clock=ManualClock(), reserve_bytes=4096)
    for kind, call in records:
        journal.append({"kind": kind, "call": call, "said": f"{kind} of {call}"})
    name = journal.head.segment
    await journal.close()
    return path / name


async def test_ends_are_found_in_whichever_segment_they_are(tmp_path: Path) -> None:
    await write(tmp_path, ("intent", "a"), ("intent", "b"), ("terminal", "a"), ("intent", "c"))
    await write(tmp_path, ("terminal", "b"), ("stop", "x"), ("intent", "d"))
    found = ends_of(tmp_path, {"a", "b", "c", "unheard of"})
    assert {call: end["said"] for call, end in found.items()} == {"a": "terminal of a", "b": "terminal of b"}
    assert ends_of(tmp_path, ()) == {}


async def test_nothing_is_read_before_the_segment_in_which_they_began(tmp_path: Path) -> None:
    """What cannot be read there is in nobody's way; nor is a line that is damaged, or a tail that is torn."""
    first = await write(tmp_path, ("intent", "old"), ("terminal", "old"))
    last = await write(tmp_path, ("intent", "a"), ("intent", "b"), ("terminal", "a"))
    first.unlink()
    os.mkfifo(first)
    lines = last.read_bytes().splitlines(keepends=True)
    last.write_bytes(b"".join([*lines[:1], b'{"kind":"terminal","call":"b"\n', *lines[1:], lines[-1][:40]]))
    assert ends_of(tmp_path, {"a", "b"}).keys() == {"a"}


async def test_a_journal_without_its_oldest_segments_is_read(tmp_path: Path) -> None:
    first = await write(tmp_path, ("intent", "a"))
    await write(tmp_path, ("terminal", "a"))
    first.unlink()
    assert ends_of(tmp_path, {"a", "gone with the first"}).keys() == {"a"}
