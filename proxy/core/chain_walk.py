"""Following a chain line by line, over segment borders and over what crashes left torn there. Pure.

Torn bytes are accepted if, and only if, the next segment continues the chain from the last whole line before them and a
`seal` record there names their place, length and SHA-256. Everything else that is not the next line breaks the chain.
"""

from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from proxy.core.chain import GENESIS, Problem, check_line, parse_line, segment_name, stated_hash

_LINE_START = b'{"seq":'
_TORN_LIMIT = 64 << 20  # bytes kept while looking for the segment that goes on


@dataclass(frozen=True, slots=True)
class Place:
    """A line: file ("-" for standard input), line number from 1, byte offset of its first byte from 0."""

    file: str
    line: int
    offset: int


class BrokenChainError(Exception):
    """The chain does not go on at `place`; `sentence` says why."""

    def __init__(self, place: Place, sentence: str) -> None:
        super().__init__(f"{place.file}, line {place.line}, byte {place.offset}: {sentence}")
        self.place = place
        self.sentence = sentence


@dataclass(slots=True)
class _Torn:
    place: Place
    sentence: str
    segment: str
    offset: int
    data: bytearray = field(default_factory=bytearray)
    whole: bool = False  # whole records are among them: then this is damage, not a tail

    def broken(self) -> BrokenChainError:
        return BrokenChainError(self.place, self.sentence)


class ChainWalk:
    """Feed it lines in order with `take`, then `finish`. `seq` and `hash` are the last record's, `segment` its segment."""

    def __init__(self, *, seq: int = 0, hash_: str = "", segment: str = "", offset: int = 0) -> None:
        """Begin at a segment's first line, or after a record: its number, hash, segment and the offset of its end."""
        self.seq = seq
        self.hash = hash_
        self.segment = segment
        self._offset = offset
        self._torn: _Torn | None = None
        self._unsealed: dict[str, _Torn] = {}
        self._left: set[str] = set()  # segments that were walked to their end

    def take(self, place: Place, line: bytes) -> dict[str, Any] | None:
        """The next record, None if the line may be part of a torn tail. Raises BrokenChainError."""
        if self._torn is None:
            found = self._next(line)
            if isinstance(found, dict):
                return self._accept(place, found, line)
            self._torn = _Torn(place, found.sentence, self.segment, self._offset)
        return self._look_for_next_segment(place, line, self._torn)

    def finish(self) -> None:
        """Raises BrokenChainError if torn bytes were not sealed by what followed."""
        if self._torn is not None:
            raise self._torn.broken()
        for torn in self._unsealed.values():
            raise torn.broken()

    def _look_for_next_segment(self, place: Place, line: bytes, torn: _Torn) -> dict[str, Any] | None:
        cut = max(0, line.rfind(_LINE_START))  # in a stream, half a line and the next segment's first are one line
        found = self._next(line[cut:])
        if isinstance(found, Problem):
            if place.line == 1 and torn.segment and not torn.whole and not _stands_alone(line):
                raise BrokenChainError(place, "the segment's first record is damaged")
            torn.data += line
            torn.whole = torn.whole or parse_line(line) is not None
            if len(torn.data) > _TORN_LIMIT:
                raise torn.broken()
            return None
        torn.data += line[:cut]
        self._torn = None
        self._unsealed[torn.segment] = torn
        return self._accept(Place(place.file, place.line, place.offset + cut), found, line[cut:])

    def _next(self, line: bytes) -> dict[str, Any] | Problem:
        record = parse_line(line)
        before = _previous(record) if record is not None and record["kind"] == "segment" else None
        if not self.hash and before is None:
            return Problem("the journal does not begin with a whole segment record here")
        outcome = check_line(self.hash or (before or {})["hash"], line)
        if isinstance(outcome, Problem):
            return _explained(outcome, record, self.seq)
        if record is None:
            return Problem("the line is not a record")
        if self.hash and record["seq"] != self.seq + 1:
            return Problem(f"record {record['seq']} stands where record {self.seq + 1} belongs")
        if before is not None and self.segment and before["segment"] != self.segment:
            return Problem(f"the segment follows {before['segment']}, not {self.segment}")
        return record

    def _accept(self, place: Place, record: dict[str, Any], line: bytes) -> dict[str, Any]:
        if record["kind"] == "segment":
            self._left.add(self.segment)
            self.segment = segment_name(str(record.get("chain")), record["seq"])
            self._offset = 0
        elif record["kind"] == "seal":
            self._seal(place, record)
        elif self._unsealed:
            raise next(iter(self._unsealed.values())).broken()
        self.seq, self.hash = record["seq"], stated_hash(line) or ""
        self._offset += len(line)
        return record

    def _seal(self, place: Place, record: dict[str, Any]) -> None:
        name = str(record.get("segment"))
        torn = self._unsealed.pop(name, None)
        if torn is None:
            if name in self._left:
                raise BrokenChainError(place, f"the torn bytes of {name} that this record seals are missing")
            return
        sealed = (record.get("offset"), record.get("length"), record.get("sha256"))
        if sealed != (torn.offset, len(torn.data), sha256(torn.data).hexdigest()):
            raise torn.broken()


def _previous(record: dict[str, Any]) -> dict[str, Any] | None:
    """Where a segment record says that it goes on; None if it does not say it well."""
    previous = record.get("previous")
    if not isinstance(previous, dict) or not isinstance(previous.get("hash"), str) or "segment" not in previous:
        return None
    first = record["seq"] == 1
    return previous if first == (previous["hash"] == GENESIS) else None


def _stands_alone(line: bytes) -> bool:
    """Whether it is a segment's first record as it was written, wherever it belongs."""
    record = parse_line(line)
    previous = _previous(record) if record is not None and record["kind"] == "segment" else None
    return previous is not None and isinstance(check_line(previous["hash"], line), str)


def _explained(problem: Problem, record: dict[str, Any] | None, seq: int) -> Problem:
    if record is None or record["seq"] == seq + 1 or not seq:
        return problem
    return Problem(f"{problem.sentence} (it says it is record {record['seq']}, and follows record {seq})")
