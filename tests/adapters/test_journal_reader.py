"""What the reader finds: any edited, dropped, reordered or cut record, any flipped byte, anywhere."""

import io
from collections.abc import Callable
from hashlib import sha256
from itertools import accumulate
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.adapters.journal_reader import (
    chains,
    file_lines,
    read,
    verify,
    verify_stream,
    whole_lines,
)
from proxy.adapters.journal_segment import JournalError
from proxy.core.chain import GENESIS, parse_line, seal_line, segment_name
from proxy.core.chain_walk import Place


def journal_lines() -> list[list[bytes]]:
    """Three segments of five records, the second sealing what is torn at the first's end; written by the pure core."""
    segments: list[list[bytes]] = []
    previous, name, seq = GENESIS, None, 0
    torn = b'{"seq":6,"at":"2026'
    seal = b'"segment":"pod-000000000001.jsonl","offset":%d,"length":%d,"sha256":"%b"'
    for index in range(3):
        lines: list[bytes] = []
        for position in range(5):
            seq += 1
            if position == 0:
                link = f'"segment":{f"{chr(34)}{name}{chr(34)}" if name else "null"},"hash":"{previous}"'
                body = f'"kind":"segment","chain":"pod","previous":{{{link}}},"reason":"start"'.encode()
                name = segment_name("pod", seq)
            elif position == 1 and index == 1:
                size = sum(map(len, segments[0])) - len(torn)
                body = b'"kind":"seal",' + seal % (size, len(torn), _sha(torn))
            else:
                body = f'"kind":"intent","call":"c{seq}","arguments":{{"q": "a b"}}'.encode()
            line, previous = seal_line(previous, b'{"seq":%d,"at":"2026-01-01T00:00:00.000000Z",%b}' % (seq, body))
            lines.append(line)
        segments.append(lines)
        if index == 0:
            lines.append(torn)
    return segments


def _sha(data: bytes) -> bytes:
    return sha256(data).hexdigest().encode()


SEGMENTS = journal_lines()
NAMES = [segment_name("pod", first) for first in (1, 6, 11)]
LINE_ENDS = [list(accumulate(len(line) for line in lines)) for lines in SEGMENTS]
HEAD = f"15:{SEGMENTS[2][-1][-67:-3].decode()}"


def write(directory: Path, segments: list[list[bytes]]) -> Path:
    directory.mkdir(exist_ok=True)
    for name, lines in zip(NAMES, segments, strict=True):
        (directory / name).write_bytes(b"".join(lines))
    return directory


def stream(segments: list[list[bytes]]) -> io.BytesIO:
    return io.BytesIO(b"".join(b"".join(lines) for lines in segments))


def test_an_untouched_journal_verifies_as_files_and_as_a_stream(tmp_path: Path) -> None:
    for verdict in (verify([write(tmp_path / "j", SEGMENTS)], head=HEAD), verify_stream(stream(SEGMENTS), head=HEAD)):
        assert verdict.ok, verdict
        assert (verdict.records, verdict.segments, verdict.first, verdict.head) == (15, 3, 1, HEAD)
        assert [seal["length"] for seal in verdict.seals] == [19]


@given(st.data())
def test_any_changed_byte_is_found(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    file = data.draw(st.integers(0, 2))
    content = bytearray(b"".join(SEGMENTS[file]))
    index = data.draw(st.integers(0, len(content) - 1))
    content[index] ^= data.draw(st.integers(1, 255))
    changed = [list(lines) for lines in SEGMENTS]
    changed[file] = [bytes(content)]
    directory = write(tmp_path_factory.getbasetemp() / "flipped", changed)
    verdict = verify([directory])
    assert not verdict.ok
    assert not verify_stream(stream(changed)).ok
    assert verdict.place is not None
    line = max(end for end in (0, *LINE_ENDS[file]) if end <= index)
    assert verdict.place.file == str(directory / NAMES[file])
    assert verdict.place.offset == line


@given(st.integers(0, 14), st.integers(0, 14))
def test_any_dropped_repeated_or_swapped_line_is_found(one: int, other: int) -> None:
    lines = [line for segment in SEGMENTS for line in segment]
    torn = lines.pop(5)
    for changed in (
        lines[:one] + lines[one + 1 :],
        lines[: one + 1] + lines[one:],
        [lines[other] if i == one else lines[one] if i == other else line for i, line in enumerate(lines)],
    ):
        if changed == lines:
            continue
        verdict = verify_stream(io.BytesIO(b"".join([*changed[:5], torn, *changed[5:]])), head=HEAD)
        assert not verdict.ok


def edited(lines: list[list[bytes]]) -> None:
    lines[1][3] = lines[1][3].replace(b"c9", b"c8")


def resealed(lines: list[list[bytes]]) -> None:
    """A forger who recomputes the hash of the line he edits, but not of those after it."""
    body = lines[1][3].replace(b"c9", b"c8")[:-76] + b"}"
    lines[1][3] = seal_line(lines[1][2][-67:-3].decode(), body)[0]


def torn_dropped(lines: list[list[bytes]]) -> None:
    del lines[0][-1]


def torn_edited(lines: list[list[bytes]]) -> None:
    lines[0][-1] = lines[0][-1].replace(b"2026", b"2027")


def torn_grown(lines: list[list[bytes]]) -> None:
    lines[0][-1] += b"7"


def spaced(lines: list[list[bytes]]) -> None:
    lines[2][1] = lines[2][1].replace(b"a b", b"a  b")


@pytest.mark.parametrize(
    ("change", "file", "line"),
    [(edited, 1, 4), (resealed, 1, 5), (torn_dropped, 1, 2), (torn_edited, 0, 6), (torn_grown, 0, 6), (spaced, 2, 2)],
)
def test_the_verdict_names_file_line_and_byte_offset(
    tmp_path: Path, change: Callable[[list[list[bytes]]], None], file: int, line: int
) -> None:
    changed = [list(lines) for lines in SEGMENTS]
    change(changed)
    verdict = verify([write(tmp_path / "j", changed)])
    offset = sum(len(each) for each in changed[file][: line - 1])
    assert verdict.place == Place(str(tmp_path / "j" / NAMES[file]), line, offset)
    assert verdict.sentence
    assert not verify_stream(stream(changed)).ok


def test_a_missing_or_renamed_segment_is_found(tmp_path: Path) -> None:
    directory = write(tmp_path / "j", SEGMENTS)
    middle = directory / NAMES[1]
    middle.rename(directory / segment_name("pod", 7))
    assert "name does not fit" in str(verify([directory]).sentence)
    (directory / segment_name("pod", 7)).unlink()
    verdict = verify([directory])
    assert not verdict.ok
    (directory / NAMES[0]).unlink()
    verdict = verify([directory])
    assert (verdict.ok, verdict.first) == (True, 11)  # what was archived or removed before is not known here


def test_a_cut_tail_is_found_against_an_anchored_head_only(tmp_path: Path) -> None:
    cut = [SEGMENTS[0], SEGMENTS[1], SEGMENTS[2][:-2]]
    directory = write(tmp_path / "j", cut)
    assert verify([directory]).ok
    verdict = verify([directory], head=HEAD)
    assert "ends at record 13" in str(verdict.sentence)
    assert "another hash" in str(verify([directory], head="12:" + "0" * 64).sentence)
    write(directory, SEGMENTS)
    (directory / NAMES[0]).unlink()
    assert "not among" in str(verify([directory], head="2:" + "0" * 64).sentence)
    with pytest.raises(JournalError, match="SEQ:HASH"):
        verify([directory], head="latest")


def test_replay_begins_where_it_is_told_whatever_lies_before(tmp_path: Path) -> None:
    changed = [list(lines) for lines in SEGMENTS]
    edited(changed)  # record 9
    directory = write(tmp_path / "j", changed)
    for after in (9, 10, 12, 15):
        assert [record["seq"] for record in read(directory, after=after)] == list(range(after + 1, 16))
    for after in (0, 3, 5, 6, 8):
        with pytest.raises(JournalError, match=r"Record 9 is needed"):
            list(read(directory, after=after))
    (directory / NAMES[0]).unlink()
    assert [record["seq"] for record in read(directory, after=9)] == list(range(10, 16))
    (directory / NAMES[1]).unlink()
    assert [record["seq"] for record in read(directory, after=10)] == list(range(11, 16))
    with pytest.raises(JournalError, match="does not have record 10"):
        list(read(directory, after=9))


def test_a_hole_after_the_saved_state_refuses_replay(tmp_path: Path) -> None:
    directory = write(tmp_path / "j", SEGMENTS)
    (directory / NAMES[1]).unlink()
    with pytest.raises(JournalError, match="Record 6 is needed"):
        list(read(directory))


def test_a_journal_that_ends_before_the_saved_state_refuses_replay(tmp_path: Path) -> None:
    directory = write(tmp_path / "j", SEGMENTS)
    with pytest.raises(JournalError, match="record 16"):
        list(read(directory, after=16))
    with pytest.raises(JournalError, match="record 2"):
        list(read(tmp_path / "empty", after=1))
    assert list(read(tmp_path / "empty")) == []


def numbered(line: bytes) -> int:
    record = parse_line(line)
    assert record is not None
    return int(record["seq"])


def test_people_read_what_can_be_read_and_are_told_what_cannot(tmp_path: Path) -> None:
    directory = write(tmp_path / "j", SEGMENTS)
    for source in ([*file_lines([directory])], [*stream(SEGMENTS)]):
        unreadable: list[int] = []
        assert next(iter(list(whole_lines(source, unreadable=unreadable.append))))[:8] == b'{"seq":1'
        assert unreadable == [6]
        assert [numbered(line) for line in whole_lines(source)] == list(range(1, 16))
    assert list(whole_lines([b"", b"\n", b"\0\0", b"[]\n", b'{"a":1}\n'])) == []


def test_paths_that_are_no_journal_are_named(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(JournalError, match=r"notes\.txt is neither"):
        chains([tmp_path / "notes.txt"])
    with pytest.raises(JournalError, match="found 0"):
        verify([tmp_path])
    directory = write(tmp_path / "j", SEGMENTS)
    (directory / "other-000000000001.jsonl").write_bytes(b"")
    with pytest.raises(JournalError, match="found 2: other, pod"):
        verify([directory])
    with pytest.raises(JournalError, match="several chains"):
        list(read(directory))


def test_nothing_to_read_does_not_verify() -> None:
    assert not verify_stream([]).ok
