"""Segments on a disk that does not play along: rotation, errors, deleted files, limits."""

import subprocess
import sys
from pathlib import Path

import pytest

from proxy.adapters.journal import JournalError
from proxy.adapters.journal_reader import read, verify
from proxy.errors import Code, Refusal
from tests.adapters.journal_disk import STOP, Disk, StillClock, files, opened, remount, start, volume


async def test_segments_rotate_by_size_and_by_age(tmp_path: Path) -> None:
    clock = StillClock()
    async with opened(tmp_path / "j", segment_bytes=800, segment_age=60, clock=clock) as journal:
        for _ in range(10):
            await journal.flushed(journal.append(STOP))
        clock.seconds = 61
        journal.append(STOP)
    records = list(read(tmp_path / "j"))
    assert [record["reason"] for record in records if record["kind"] == "segment"] == ["start", "size", "size", "age"]
    assert all(path.stat().st_size < 1100 for path in files(tmp_path / "j"))
    assert verify([tmp_path / "j"]).ok


async def test_a_rotated_segment_is_flushed_with_what_follows_it(tmp_path: Path) -> None:
    disk = Disk()
    async with opened(tmp_path / "j", sync=disk, segment_bytes=400) as journal:
        for _ in range(9):
            seq = journal.append(STOP)
        await journal.flushed(seq)
        assert len(set(disk.synced)) == len(files(tmp_path / "j")) > 2


async def test_flushes_that_fail_one_after_the_other_all_stay_in_doubt(tmp_path: Path) -> None:
    disk = Disk()
    async with opened(tmp_path / "j", sync=disk) as journal:
        disk.error = OSError(5, "Input/output error")
        doubtful = [journal.append(STOP)]
        for _ in range(3):
            with pytest.raises(Refusal):
                await journal.flushed(doubtful[-1])
            doubtful.append(journal.append(STOP))
        disk.error = None
        good = doubtful.pop()
        await journal.flushed(good)
        disk.error = OSError(5, "Input/output error")
        doubtful.append(journal.append(STOP))
        with pytest.raises(Refusal):
            await journal.flushed(doubtful[-1])
        disk.error = None
        await journal.flushed(journal.append(STOP))
        await journal.flushed(good)
        for seq in doubtful:
            with pytest.raises(Refusal):
                await journal.flushed(seq)


async def test_a_failed_flush_refuses_its_group_and_its_descriptor_is_never_used_again(tmp_path: Path) -> None:
    disk = Disk()
    async with opened(tmp_path / "j", sync=disk) as journal:
        await journal.flushed(journal.append(STOP))
        disk.error = OSError(5, "Input/output error")
        doubtful = journal.append(STOP)
        with pytest.raises(Refusal) as caught:
            await journal.flushed(doubtful)
        assert caught.value.code is Code.AUDIT_UNAVAILABLE
        disk.error = None
        with pytest.raises(Refusal):
            await journal.flushed(doubtful)  # the doubt stays
        await journal.flushed(journal.append(STOP))
        with pytest.raises(Refusal):
            await journal.flushed(doubtful)  # and a later flush of another descriptor does not lift it
    records = list(read(tmp_path / "j"))
    assert [record["kind"] for record in records] == ["segment", "stop", "stop", "segment", "stop"]
    assert records[3]["reason"] == "error"
    assert verify([tmp_path / "j"]).ok


async def test_a_deleted_segment_is_noticed_at_the_next_flush(tmp_path: Path) -> None:
    async with opened(tmp_path / "j") as journal:
        await journal.flushed(journal.append(STOP))
        files(tmp_path / "j")[0].unlink()
        with pytest.raises(Refusal):
            await journal.flushed(journal.append(STOP))
        await journal.flushed(journal.append(STOP))
    verdict = verify([tmp_path / "j"])
    assert verdict.first == 4  # what came before is not there, and the head anchored then shows it
    with pytest.raises(JournalError, match="does not have record 1"):
        list(read(tmp_path / "j"))


async def test_a_volume_that_turns_read_only_refuses_and_recovers(tmp_path: Path) -> None:
    with volume(tmp_path / "small", 64) as small:
        async with opened(small / "j") as journal:
            await journal.flushed(journal.append(STOP))
        remount(small, "ro")
        with pytest.raises(JournalError, match="Read-only file system"):
            start(small / "j")
        remount(small, "rw")
        async with opened(small / "j") as journal:
            journal.append(STOP)
        assert verify([small / "j"]).ok


def test_a_file_size_limit_is_an_error_with_a_gap_afterwards(tmp_path: Path) -> None:
    """EFBIG by RLIMIT_FSIZE, in a process of its own: a short write first, then an error."""
    script = """
import resource, sys
from pathlib import Path
from proxy.adapters.clock import SystemClock
from proxy.adapters.journal import Journal
from proxy.errors import Refusal
journal = Journal.open(Path(sys.argv[1]), chain="pod-a", clock=SystemClock(), reserve_bytes=256)
resource.setrlimit(resource.RLIMIT_FSIZE, (700, resource.RLIM_INFINITY))
refused = 0
for _ in range(6):
    try:
        journal.append({"kind": "intent", "pad": "x" * 300})
    except Refusal:
        refused += 1
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
journal.append({"kind": "stop"})
print(refused)
"""
    done = subprocess.run([sys.executable, "-c", script, tmp_path / "j"], capture_output=True, text=True, check=True)
    assert int(done.stdout) > 0
    records = list(read(tmp_path / "j"))
    assert sum(r["lost"]["intent"] for r in records if r["kind"] == "gap") == int(done.stdout)
    assert sum(r["kind"] == "intent" for r in records) == 6 - int(done.stdout)
    verdict = verify([tmp_path / "j"])
    assert verdict.ok, verdict
    assert verdict.seals
