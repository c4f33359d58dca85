"""The room that the state has: the disk's, or a bound of its own below that."""

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from proxy.adapters.journal_reader import read, verify
from proxy.adapters.volume import Volume
from proxy.errors import Refusal
from tests.adapters.journal_disk import STOP, TERMINAL, StillClock, opened, refusal

MIB = 1 << 20


def fill(path: Path, size: int) -> None:
    """A file of so many bytes on the disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, size)


def why(work: Callable[[], Any]) -> str:
    """What the refusal's details say."""
    return str((refusal(work).details or {})["error"])


def test_without_a_bound_the_file_system_says_how_much_there_is(tmp_path: Path) -> None:
    """And whether there is room is found out by writing."""
    volume = Volume(tmp_path, None, StillClock())
    stats = os.statvfs(tmp_path)
    assert volume.size == stats.f_blocks * stats.f_frsize
    assert 0 < volume.free <= volume.size
    assert volume.has_room(False, 0)


def test_a_bound_counts_what_all_files_below_take(tmp_path: Path) -> None:
    """Folders within folders, too; over the bound nothing is left, and not less."""
    volume = Volume(tmp_path, 4 * MIB, StillClock())
    assert (volume.size, volume.free) == (4 * MIB, 4 * MIB)
    fill(tmp_path / "journal" / "a", MIB)
    fill(tmp_path / "history" / "of" / "bundles", MIB)
    (tmp_path / "odd").symlink_to("/nowhere")
    assert volume.free == 2 * MIB
    fill(tmp_path / "c", 3 * MIB)
    assert volume.free == 0


def test_a_bound_over_the_disks_size_promises_nothing_more(tmp_path: Path) -> None:
    bounded, disk = Volume(tmp_path, 1 << 62, StillClock()), Volume(tmp_path, None, StillClock())
    assert bounded.size == disk.size
    assert abs(bounded.free - disk.free) < 64 * MIB


def test_while_there_is_room_it_is_measured_once_a_second(tmp_path: Path) -> None:
    """When there is none, too: a full volume costs no walk a record."""
    clock = StillClock()
    volume = Volume(tmp_path, 4 * MIB, clock)
    assert volume.has_room(False, 0)
    fill(tmp_path / "a", 4 * MIB)
    clock.seconds += 0.9
    assert volume.has_room(False, 0)
    clock.seconds += 0.2
    assert not volume.has_room(False, 0)
    (tmp_path / "a").unlink()
    assert not volume.has_room(False, 0)
    clock.seconds += 1
    assert volume.has_room(False, 0)


def test_what_the_journal_writes_counts_at_once(tmp_path: Path) -> None:
    """A burst within a second must not outrun the measurement: its calls would have no room for their ends."""
    clock = StillClock()
    volume = Volume(tmp_path, 4 * MIB, clock)
    assert volume.has_room(False, 7 * MIB)
    assert volume.has_room(False, 11 * MIB - 1)
    assert not volume.has_room(False, 11 * MIB)
    clock.seconds += 1  # measured anew: what was said to be written is not there
    assert volume.has_room(False, 11 * MIB)


@pytest.mark.parametrize(
    ("used", "room", "last"), [(100, True, True), (199, True, True), (201, False, True), (211, False, False)]
)
def test_a_twentieth_more_is_kept_for_ends_of_calls(tmp_path: Path, used: int, room: bool, last: bool) -> None:
    """Of a bound of 200 blocks."""
    fill(tmp_path / "a", used * 4096)
    volume = Volume(tmp_path, 200 * 4096, StillClock())
    assert (volume.has_room(False, 0), volume.has_room(True, 0)) == (room, last)


@pytest.mark.parametrize("over", [False, True])
async def test_the_journal_stops_at_the_bound_and_goes_on_when_there_is_room_again(tmp_path: Path, over: bool) -> None:
    """Ends of calls may use the last part; over that nothing is written, and a gap says so later."""
    clock = StillClock()
    volume = Volume(tmp_path, 40 * MIB, clock)
    async with opened(tmp_path / "j", has_room=volume.has_room, clock=clock) as journal:
        fill(tmp_path / "ballast", 45 * MIB if over else 40 * MIB)
        clock.seconds += 2
        assert why(lambda: journal.append(STOP)) == "the rest of the volume is kept for terminal records"
        if over:
            assert "`limits.state_bytes`" in why(lambda: journal.append(TERMINAL))
        else:
            journal.append(TERMINAL)
        (tmp_path / "ballast").unlink()
        clock.seconds += 2
        journal.append(STOP)
    (gap,) = [record for record in read(tmp_path / "j") if record["kind"] == "gap"]
    assert sorted(gap["lost"]) == (["stop", "terminal"] if over else ["stop"])
    assert verify([tmp_path / "j"]).ok


async def test_a_burst_of_begins_leaves_room_for_all_their_ends(tmp_path: Path) -> None:
    """Large arguments, all within one second."""
    clock = StillClock()
    volume = Volume(tmp_path, 20 * MIB, clock)
    async with opened(tmp_path / "j", has_room=volume.has_room, clock=clock) as journal:
        begun = list[int]()
        with suppress(Refusal):
            for _ in range(100):
                begun.append(journal.append({"kind": "intent", "pad": "x" * MIB}))
        for _ in begun:
            journal.append(TERMINAL)
    assert 10 < len(begun) < 21
