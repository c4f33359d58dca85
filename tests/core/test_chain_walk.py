"""Following a chain: one line after the other, torn tails only where they are sealed."""

from hashlib import sha256
from typing import Any

import orjson
import pytest

from proxy.core.chain import GENESIS, seal_line, segment_name
from proxy.core.chain_walk import BrokenChainError, ChainWalk, Place


class Pen:
    """Writes lines of one chain."""

    def __init__(self) -> None:
        self.hash = GENESIS
        self.seq = 0
        self.segment: str | None = None

    def line(self, **record: Any) -> bytes:
        self.seq += 1
        line, self.hash = seal_line(self.hash, orjson.dumps({"seq": self.seq, "at": "t", **record}))
        return line

    def header(self) -> bytes:
        previous = {"segment": self.segment, "hash": self.hash}
        self.segment = segment_name("pod", self.seq + 1)
        return self.line(kind="segment", chain="pod", previous=previous, reason="start")


def walk(*lines: bytes) -> list[str]:
    found = ChainWalk()
    records = [found.take(Place("-", number, 0), line) for number, line in enumerate(lines, 1)]
    found.finish()
    return [record["kind"] for record in records if record is not None]


def broken(*lines: bytes) -> BrokenChainError:
    with pytest.raises(BrokenChainError) as caught:
        walk(*lines)
    return caught.value


def test_lines_of_linked_segments_follow_each_other() -> None:
    pen = Pen()
    assert walk(pen.header(), pen.line(kind="stop"), pen.header()) == ["segment", "stop", "segment"]


def test_a_walk_begins_with_a_whole_segment_record_or_where_it_is_told() -> None:
    pen = Pen()
    pen.header()
    end, line = pen.hash, pen.line(kind="stop")
    assert "does not begin" in broken(line).sentence
    found = ChainWalk(seq=1, hash_=end, segment="pod-000000000001.jsonl", offset=100)
    assert found.take(Place("-", 1, 100), line) is not None
    assert (found.seq, found.hash) == (2, pen.hash)


def test_a_first_record_that_claims_a_past_is_not_a_beginning() -> None:
    pen = Pen()
    pen.hash = "1" * 64
    assert "does not begin" in broken(pen.header()).sentence


def test_a_number_left_out_breaks_the_chain_even_if_its_hashes_fit() -> None:
    pen = Pen()
    lines = [pen.header(), pen.line(kind="stop")]
    pen.seq += 1
    error = broken(*lines, pen.line(kind="stop"))
    assert (error.place.line, error.sentence) == (3, "record 4 stands where record 3 belongs")


def test_a_segment_that_names_another_before_it_breaks_the_chain() -> None:
    pen = Pen()
    lines = [pen.header()]
    pen.segment = "pod-000000000009.jsonl"
    assert "follows pod-000000000009.jsonl, not pod-000000000001.jsonl" in broken(*lines, pen.header()).sentence


def seal(torn: bytes, at: int, **changed: Any) -> dict[str, Any]:
    digest = sha256(torn).hexdigest()
    named = {"segment": "pod-000000000001.jsonl", "offset": at, "length": len(torn), "sha256": digest}
    return {"kind": "seal", **named, **changed}


@pytest.mark.parametrize("glued", [True, False])
def test_torn_bytes_are_passed_over_only_with_their_exact_seal(glued: bool) -> None:
    torn = b'{"seq":2,"at'
    for changed, good in (({}, True), ({"length": 11}, False), ({"offset": 0}, False), ({"sha256": "0" * 64}, False)):
        pen = Pen()
        first, second = pen.header(), pen.header()
        lines = [first, torn + second] if glued else [first, torn, second]
        lines += [pen.line(**seal(torn, len(first), **changed)), pen.line(kind="stop")]
        if good:
            assert walk(*lines) == ["segment", "segment", "seal", "stop"]
        else:
            assert broken(*lines).place.line == 2


def test_torn_bytes_without_a_seal_break_the_chain_at_their_place() -> None:
    pen = Pen()
    first, second = pen.header(), pen.header()
    assert broken(first, b"torn").place.line == 2
    assert broken(first, b"torn", second).place.line == 2
    assert broken(first, b"torn", second, pen.line(kind="stop")).place.line == 2


def test_a_record_between_torn_bytes_and_their_seal_breaks_the_chain() -> None:
    pen = Pen()
    first, second = pen.header(), pen.header()
    late = [pen.line(kind="stop"), pen.line(**seal(b"torn", len(first)))]
    assert broken(first, b"torn", second, *late).place.line == 2


def test_bytes_slipped_in_between_two_records_break_the_chain() -> None:
    pen = Pen()
    assert broken(pen.header(), b"slipped in\n", pen.line(kind="stop")).place.line == 2


def test_a_seal_of_bytes_that_are_gone_breaks_the_chain() -> None:
    pen = Pen()
    first, second = pen.header(), pen.header()
    assert "are missing" in broken(first, second, pen.line(**seal(b"torn", len(first)))).sentence


def test_a_damaged_first_record_of_a_file_is_named_rather_than_the_torn_tail_before_it() -> None:
    pen = Pen()
    first, second = pen.header(), pen.header()
    found = ChainWalk()
    found.take(Place("a", 1, 0), first)
    found.take(Place("a", 2, len(first)), b"torn")
    with pytest.raises(BrokenChainError) as caught:
        found.take(Place("b", 1, 0), second.replace(b"start", b"stars"))
    assert caught.value.place == Place("b", 1, 0)
