"""Reading the journal: strictly for replay and verification, leniently for people."""

import re
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import takewhile
from pathlib import Path
from typing import Any

from proxy.adapters.journal_segment import JournalError, Segment, ends, one_chain, parse_name, segments_of
from proxy.core.chain import parse_line, stated_hash
from proxy.core.chain_walk import BrokenChainError, ChainWalk, Place
from proxy.core.shipped import beginnings, unwrapped

_ANCHOR = re.compile(r"([0-9]{1,18}):([0-9a-f]{64})")
_IN_MEMORY = 64 << 20  # bytes of a stream; what is longer goes to a temporary file
_REMEDY = "put the segment files back from a copy, or start with an empty state directory (see `sidegate audit verify`)"
Entry = tuple[Place, bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What verification found: up to the first problem, `records` of the chain hold together.

    `head` is "seq:hash" of the last good record: kept elsewhere, it also shows a tail that was cut off later. `first` is
    the first record's number: above 1, older segments were not among those read. `place` and `sentence` name the problem.
    """

    ok: bool
    records: int
    segments: int
    first: int
    head: str
    place: Place | None = None
    sentence: str | None = None
    gaps: tuple[Mapping[str, Any], ...] = ()
    seals: tuple[Mapping[str, Any], ...] = ()


def read(directory: Path, *, after: int = 0) -> Iterator[dict[str, Any]]:
    """Records in order from number `after` + 1, for replay. A torn tail at the end is left out; what lies before is not
    looked at. Raises JournalError where a record is damaged or missing, and if the journal ends before `after`."""
    segments = one_chain(directory)
    begin = max((index for index, segment in enumerate(segments) if segment.first <= after + 1), default=None)
    if begin is None:
        if after or segments:
            raise JournalError(f"the journal in {directory} does not have record {after + 1}: {_REMEDY}")
        return
    limits = {tail.segment: tail.offset for tail in ends(segments)[1]}
    entries = _entries(segments[begin:], limits)
    walk = ChainWalk() if segments[begin].first == after + 1 else _after(entries, after, directory)
    try:
        for place, line in entries:
            record = walk.take(place, line)
            if record is not None:
                yield record
        walk.finish()
    except BrokenChainError as error:
        raise JournalError(f"{error}. Record {walk.seq + 1} is needed to rebuild state: {_REMEDY}") from error


def whole_lines(lines: Iterable[bytes], *, unreadable: Callable[[int], None] | None = None) -> Iterator[bytes]:
    """Lines that hold a whole record, for people: nothing is verified, and what is none is left out.

    They may come as a log shipper has wrapped them, among lines of others. `unreadable` is told the number, from 1, of each
    line that holds a damaged record.
    """
    for number, line in enumerate(unwrapped(lines), 1):
        found = beginnings(line)
        if found and parse_line(line[found[0] :]) is not None:
            yield line[found[0] :]
            continue
        if found and unreadable is not None:
            unreadable(number)
        if len(found) > 1 and parse_line(line[found[-1] :]) is not None:
            yield line[found[-1] :]  # in a stream, half a line and a segment's first are one line


def file_lines(paths: Sequence[Path]) -> Iterator[bytes]:
    """All lines of segment files or directories, chain by chain. Raises JournalError if one cannot be read."""
    for segments in chains(paths).values():
        for _, line in _entries(segments, {}):
            yield line


def chains(paths: Sequence[Path]) -> dict[str, list[Segment]]:
    """Segments by chain, of files and directories. Raises JournalError for a path that is neither a segment nor a directory."""
    files: list[Path] = []
    try:
        for path in paths:
            if path.is_dir():
                files.extend(path.iterdir())
            elif path.is_file() and parse_name(path) is not None:
                files.append(path)
            else:
                raise JournalError(f"{path} is neither a journal directory nor a segment file (CHAIN-NUMBER.jsonl)")
    except OSError as error:
        raise JournalError(f"{error.filename} cannot be read: {error.strerror}") from error
    return segments_of(files)


def verify(paths: Sequence[Path], *, head: str | None = None) -> Verdict:
    """Verify one chain in segment files or directories. `head` is an anchored "seq:hash". Raises JournalError if it cannot."""
    found = chains(paths)
    if len(found) != 1:
        raise JournalError(
            f"expected the segments of one chain, found {len(found)}: {', '.join(sorted(found)) or 'none'}"
        )
    (segments,) = found.values()
    return _Verification(head, check_files=True).run(_entries(segments, {}))


def verify_stream(lines: Iterable[bytes], *, head: str | None = None) -> Verdict:
    """Verify one chain whose segments come one after the other in a stream, also as a log shipper has wrapped them.

    Lines of others in between are passed over; a record that is missing there breaks the chain. First the bytes are taken as
    they are, since torn bytes that a record seals look like lines of others.
    """
    with tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY) as kept:
        kept.writelines(lines)
        kept.seek(0)
        as_written = _Verification(head, check_files=False).run(_numbered("-", kept))
        if as_written.ok:
            return as_written
        kept.seek(0)
        records = (line[found[0] :] for line in unwrapped(kept) if (found := beginnings(line)))
        return _Verification(head, check_files=False).run(_numbered("-", records))


class _Verification:
    def __init__(self, head: str | None, *, check_files: bool) -> None:
        self._check_files = check_files
        self._walk = ChainWalk()
        self._records = self._segments = self._first = 0
        self._gaps: list[Mapping[str, Any]] = []
        self._seals: list[Mapping[str, Any]] = []
        match = _ANCHOR.fullmatch(head) if head is not None else None
        if head is not None and match is None:
            raise JournalError(f"{head!r} is not a head: expected SEQ:HASH, as `audit verify` prints it")
        self._anchor = (int(match[1]), match[2]) if match else None

    def run(self, entries: Iterator[Entry]) -> Verdict:
        place = Place("-", 0, 0)
        try:
            for place, line in entries:
                record = self._walk.take(place, line)
                if record is not None:
                    self._note(place, record)
            self._walk.finish()
            self._check_end(place)
        except BrokenChainError as error:
            return self._verdict(error)
        return self._verdict(None)

    def _note(self, place: Place, record: dict[str, Any]) -> None:
        if self._check_files and place.line == 1 and Path(place.file).name != self._walk.segment:
            raise BrokenChainError(
                place, f"the file's name does not fit its first record, which begins {self._walk.segment}"
            )
        self._first = self._first or record["seq"]
        self._records += 1
        if record["kind"] == "segment":
            self._segments += 1
        elif record["kind"] == "gap":
            self._gaps.append(record)
        elif record["kind"] == "seal":
            self._seals.append(record)
            if self._check_files:
                _check_set_aside(place, record)
        if self._anchor is not None and self._anchor[0] == record["seq"] and self._anchor[1] != self._walk.hash:
            raise BrokenChainError(place, f"record {record['seq']} has another hash than the anchored head")

    def _check_end(self, place: Place) -> None:
        if not self._records:
            raise BrokenChainError(place, "there is no record")
        if self._anchor is None:
            return
        if self._anchor[0] > self._walk.seq:
            raise BrokenChainError(
                place,
                f"the journal ends at record {self._walk.seq}, but the anchored head is record {self._anchor[0]}: cut off",
            )
        if self._anchor[0] < self._first:
            raise BrokenChainError(place, f"the anchored head, record {self._anchor[0]}, is not among what was read")

    def _verdict(self, error: BrokenChainError | None) -> Verdict:
        return Verdict(
            ok=error is None,
            records=self._records,
            segments=self._segments,
            first=self._first,
            head=f"{self._walk.seq}:{self._walk.hash}" if self._records else "",
            place=error.place if error is not None else None,
            sentence=error.sentence if error is not None else None,
            gaps=tuple(self._gaps),
            seals=tuple(self._seals),
        )


def _entries(segments: Sequence[Segment], limits: Mapping[str, int]) -> Iterator[Entry]:
    """Lines of segment files, each file up to its limit in bytes, if it has one."""
    for segment in segments:
        limit = limits.get(segment.path.name)
        try:
            with segment.path.open("rb") as file:
                yield from _before(limit, _numbered(str(segment.path), file))
        except OSError as error:
            raise JournalError(f"{segment.path} cannot be read: {error.strerror}") from error


def _before(limit: int | None, entries: Iterator[Entry]) -> Iterator[Entry]:
    return entries if limit is None else takewhile(lambda entry: entry[0].offset < limit, entries)


def _numbered(name: str, lines: Iterable[bytes]) -> Iterator[Entry]:
    offset = 0
    for number, line in enumerate(lines, 1):
        yield Place(name, number, offset), line
        offset += len(line)


def _after(entries: Iterator[Entry], after: int, directory: Path) -> ChainWalk:
    """Skip to the record `after`, which is taken at its word: what lies before is not looked at."""
    start = b'{"seq":%d,' % after
    for place, line in entries:
        if line.startswith(start) and (digest := stated_hash(line)) is not None:
            return ChainWalk(seq=after, hash_=digest, segment=Path(place.file).name, offset=place.offset + len(line))
    raise JournalError(f"the journal in {directory} does not have record {after}, at which state was saved: {_REMEDY}")


def _check_set_aside(place: Place, seal: Mapping[str, Any]) -> None:
    """A sealed file without one whole line lies beside the segments under another name; if it is still there, it is checked."""
    name = str(seal.get("segment"))
    path = Path(place.file).with_name(Path(name).name)
    if ".torn" not in name or not path.is_file():
        return
    if sha256(path.read_bytes()).hexdigest() != seal.get("sha256"):
        raise BrokenChainError(Place(str(path), 1, 0), "the torn bytes are not those that were sealed")
