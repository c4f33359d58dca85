"""What a crash leaves at the end of the journal, and how the next start seals it."""

import asyncio
import io
from pathlib import Path
from typing import Any

import pytest

from proxy.adapters.journal import JournalError
from proxy.adapters.journal_reader import read, verify, verify_stream
from tests.adapters.journal_disk import STOP, files, opened


def _torn(directory: Path, junk: bytes, *, cut: int = 0) -> Path:
    """A journal of three records whose last segment ends in junk."""

    async def write() -> None:
        async with opened(directory) as journal:
            journal.append(STOP)
            journal.append(STOP)

    asyncio.run(write())
    path = files(directory)[-1]
    data = path.read_bytes()
    path.write_bytes(data[: len(data) - cut] + junk)
    return path


def _reopen(directory: Path) -> list[dict[str, Any]]:
    async def once() -> None:
        async with opened(directory) as journal:
            journal.append(STOP)

    asyncio.run(once())
    return list(read(directory))


@pytest.mark.parametrize(
    ("junk", "cut", "kept"),
    [
        (b'{"seq":4,"at":"20', 0, 3),
        (b'{"seq":4,"at":"20\n', 0, 3),
        (b"\n", 0, 3),
        (bytes(4096), 0, 3),
        (b'{"seq":4' + bytes(100), 0, 3),
        (bytes(5000) + b'half"}\n{"seq":9,"kind":"x","hash":"' + b"0" * 64 + b'"}\n', 0, 3),
        (b"", 5, 2),
        (b"", 1, 2),
        (b"\xff\xfe junk", 40, 2),
    ],
)
def test_a_torn_or_zeroed_tail_is_read_over_then_sealed(tmp_path: Path, junk: bytes, cut: int, kept: int) -> None:
    path = _torn(tmp_path / "j", junk, cut=cut)
    before = path.read_bytes()
    assert len(list(read(tmp_path / "j"))) == kept
    assert not verify([tmp_path / "j"]).ok  # not sealed yet: it could be a cut as well
    records = _reopen(tmp_path / "j")
    assert [record["seq"] for record in records] == list(range(1, kept + 4))
    assert [record["kind"] for record in records[kept:]] == ["segment", "seal", "stop"]
    assert path.read_bytes() == before
    seal = records[kept + 1]
    assert (seal["segment"], seal["offset"] + seal["length"]) == (path.name, len(before))
    assert verify([tmp_path / "j"]).ok
    assert verify_stream(io.BytesIO(b"".join(each.read_bytes() for each in files(tmp_path / "j")))).ok
    path.write_bytes(before[:-1] + bytes([before[-1] ^ 1]))
    assert not verify([tmp_path / "j"]).ok  # the torn bytes are evidence, too


@pytest.mark.parametrize("content", [b"", b'{"seq":4,"ki', bytes(4096)])
def test_a_last_segment_without_one_whole_line_is_set_aside(tmp_path: Path, content: bytes) -> None:
    _torn(tmp_path / "j", b'{"seq":4,"half')
    (tmp_path / "j" / "pod-a-000000000004.jsonl").write_bytes(content)
    assert len(list(read(tmp_path / "j"))) == 3
    records = _reopen(tmp_path / "j")
    assert [record["kind"] for record in records[3:]] == ["segment", "seal"] + (["seal"] if content else []) + ["stop"]
    aside = tmp_path / "j" / "pod-a-000000000004.jsonl.torn"
    assert aside.read_bytes() == content
    assert verify([tmp_path / "j"]).ok
    if content:
        aside.write_bytes(content[:-1] + b"?")
        assert not verify([tmp_path / "j"]).ok


def test_a_crash_while_sealing_is_sealed_at_the_next_start(tmp_path: Path) -> None:
    path = _torn(tmp_path / "j", b'{"seq":4,"half')
    _reopen(tmp_path / "j")
    second = files(tmp_path / "j")[1]
    lines = second.read_bytes().splitlines(keepends=True)
    second.write_bytes(lines[0] + lines[1][:20])  # the seal itself is torn
    assert len(list(read(tmp_path / "j"))) == 4
    records = _reopen(tmp_path / "j")
    assert [record.get("segment") for record in records if record["kind"] == "seal"] == [path.name, second.name]
    assert verify([tmp_path / "j"]).ok


def test_damage_between_whole_lines_is_not_taken_for_a_torn_tail(tmp_path: Path) -> None:
    """Start goes on after the last whole line; replay refuses the hole unless state was saved after it."""
    path = _torn(tmp_path / "j", b"")
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + lines[1].replace(b"ops", b"opz") + lines[2])

    async def once() -> None:
        async with opened(tmp_path / "j") as journal:
            assert journal.head.seq == 4

    asyncio.run(once())
    with pytest.raises(JournalError, match=r"line 2, .*Record 2 is needed"):
        list(read(tmp_path / "j"))
    assert [record["seq"] for record in read(tmp_path / "j", after=3)] == [4]
    assert not verify([tmp_path / "j"]).ok
