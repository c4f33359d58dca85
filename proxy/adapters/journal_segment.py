"""The journal's files on disk: names, order, what a crash leaves at their ends. Used by the writer and the reader alike.

A directory holds one chain: segments `{chain}-{first seq:012d}.jsonl`, a `lock` and a `reserve`. A file set aside
because it held no whole line is called `{segment}.torn`, `{segment}.torn2` and so on.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

from proxy.core.chain import parse_line, stated_hash

CHAIN_NAME = re.compile(r"[A-Za-z0-9._-]{1,128}")
_SEGMENT_NAME = re.compile(r"(?P<chain>[A-Za-z0-9._-]{1,128})-(?P<first>[0-9]{12,})\.jsonl")
_LOST_PAGE = bytes(16)  # a run of NULs; one alone may be a flipped byte
_BOOKKEEPING = frozenset({"segment", "seal", "gap"})


class JournalError(Exception):
    """The journal cannot be used; the message is a sentence for the operator."""


@dataclass(frozen=True, slots=True)
class Segment:
    """One segment file by its name."""

    path: Path
    chain: str
    first: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Tail:
    """Bytes at a segment's end that are no whole lines: where, how many, and their SHA-256 in hex."""

    segment: str
    offset: int
    length: int
    sha256: str

    def record(self) -> dict[str, Any]:
        """The record that seals them."""
        return {
            "kind": "seal",
            "segment": self.segment,
            "offset": self.offset,
            "length": self.length,
            "sha256": self.sha256,
        }


@dataclass(slots=True)
class Scan:
    """What a segment holds: its last whole line (`seq` 0 if there is none), where that ends, and the torn bytes after it."""

    seq: int = 0
    hash: str = ""
    end: int = 0
    sealed: set[str] = field(default_factory=set)  # segments whose tails are sealed in here
    eventful: bool = False  # holds more than the journal's own bookkeeping
    tail: Tail | None = None


def parse_name(path: Path) -> Segment | None:
    """A segment by its file name; None for other files."""
    match = _SEGMENT_NAME.fullmatch(path.name)
    return Segment(path, match["chain"], int(match["first"])) if match else None


def segments_of(paths: Iterable[Path]) -> dict[str, list[Segment]]:
    """Segments by chain, in order. Other files are left out."""
    found = [segment for path in paths if (segment := parse_name(path)) is not None]
    chains: dict[str, list[Segment]] = {}
    for segment in sorted(found, key=lambda each: each.first):
        chains.setdefault(segment.chain, []).append(segment)
    return chains


def one_chain(directory: Path) -> list[Segment]:
    """The segments of a directory, in order. Raises JournalError if it holds several chains or cannot be listed."""
    try:
        chains = segments_of(directory.iterdir()) if directory.exists() else {}
    except OSError as error:
        raise JournalError(f"journal directory {directory} cannot be listed: {error.strerror}") from error
    if len(chains) > 1:
        names = ", ".join(sorted(chains))
        raise JournalError(
            f"journal directory {directory} holds several chains ({names}): keep one, move the others away"
        )
    return next(iter(chains.values()), [])


def existing_chain(directory: Path) -> str | None:
    """The chain whose segments are in the directory, None if there are none. Raises JournalError as `one_chain`."""
    segments = one_chain(directory)
    return segments[0].chain if segments else None


def scan(path: Path) -> Scan:
    """Find the last whole line of a segment and what is torn after it.

    Torn is what a crash leaves: half a line, or pages of NUL bytes, and then all that follows them, since a page is
    lost only if no flush covered it. Damage between whole lines is not torn: it stays where it is, for the reader to find.
    """
    found, offset = Scan(), 0
    with path.open("rb") as file:
        for line in file:
            offset += len(line)
            if not _take(found, line, offset) and _LOST_PAGE in line:
                break
        found.tail = _tail(path, found.end)
    return found


def _take(found: Scan, line: bytes, offset: int) -> bool:
    record = parse_line(line)
    if record is None:
        return False
    found.seq, found.hash, found.end = record["seq"], stated_hash(line) or "", offset
    if record["kind"] == "seal":
        found.sealed.add(str(record.get("segment")))
    found.eventful = found.eventful or record["kind"] not in _BOOKKEEPING
    return True


def _tail(path: Path, end: int) -> Tail | None:
    digest, length = sha256(), 0
    with path.open("rb") as file:
        file.seek(end)
        while block := file.read(1 << 20):
            digest.update(block)
            length += len(block)
    return Tail(segment=path.name, offset=end, length=length, sha256=digest.hexdigest()) if length else None


def ends(segments: list[Segment]) -> tuple[list[tuple[Segment, Scan]], list[Tail]]:
    """Scans of the last segments, newest first, back to the first eventful one, and the tails among them that no seal names.

    One is not enough: a crash while a torn tail is being sealed leaves a torn tail before a segment of bookkeeping.
    """
    scans: list[tuple[Segment, Scan]] = []
    sealed: set[str] = set()
    tails: list[Tail] = []
    for segment in reversed(segments):
        found = scan(segment.path)
        scans.append((segment, found))
        if found.tail is not None and segment.path.name not in sealed:
            tails.insert(0, found.tail)
        sealed |= found.sealed
        if found.eventful:
            break
    return scans, tails


def set_aside(path: Path) -> str:
    """Rename a segment that holds no whole line, so that its number is free again. Returns the new name."""
    suffix = ".torn"
    count = 1
    while path.with_name(path.name + suffix).exists():
        count += 1
        suffix = f".torn{count}"
    return path.rename(path.with_name(path.name + suffix)).name
