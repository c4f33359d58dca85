"""A full disk, on a small real file system."""

import os
from pathlib import Path

from proxy.adapters.journal import Journal
from proxy.adapters.journal_reader import read, verify
from proxy.errors import Refusal
from tests.adapters.journal_disk import STOP, TERMINAL, opened, refusal, start, volume


def _fill(journal: Journal, directory: Path) -> int:
    """Fill the volume with a foreign file, then with intents until one is refused. Returns the last that was written."""
    (directory / "filler").write_bytes(bytes(24 * 1024))
    last = 0
    for _ in range(1000):
        try:
            last = journal.append({"kind": "intent", "pad": "x" * 300})
        except Refusal:
            return last
    raise AssertionError("the volume never filled")


def _space(path: Path) -> int:
    stats = os.statvfs(path)
    return stats.f_bavail * stats.f_frsize


async def test_a_full_disk_refuses_all_but_terminal_records_and_leaves_one_gap(tmp_path: Path) -> None:
    with volume(tmp_path / "small", 64) as small:
        async with opened(small / "j", reserve_bytes=16384) as journal:
            last = _fill(journal, small)
            refusal(lambda: journal.append(STOP))
            ended = [journal.append(TERMINAL) for _ in range(12)]
            refusal(lambda: journal.append(STOP))
            await journal.flushed(ended[-1])
            assert _space(small) < 16384
            (small / "filler").unlink()
            journal.append(STOP)
        records = list(read(small / "j"))
        gaps = [record for record in records if record["kind"] == "gap"]
        assert [sorted(gap["lost"]) for gap in gaps] == [["intent", "stop"], ["stop"]]
        assert [record["seq"] for record in records if record["kind"] == "terminal"] == ended
        assert last < ended[0]
        assert verify([small / "j"]).ok


async def test_a_full_disk_still_starts_from_the_reserve(tmp_path: Path) -> None:
    with volume(tmp_path / "small", 64) as small:
        journal = start(small / "j", reserve_bytes=16384)
        _fill(journal, small)
        await journal.close()
        async with opened(small / "j", reserve_bytes=16384) as again:
            again.append({"kind": "terminal", "call": "recovered"})
            refusal(lambda: again.append(STOP))
        assert verify([small / "j"]).ok
