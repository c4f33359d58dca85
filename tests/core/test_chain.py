"""The hash chain over lines, and following it."""

import hashlib
import subprocess

import orjson
import pytest

from proxy.core.chain import GENESIS, Problem, check_line, parse_line, seal_line, segment_name, stated_hash


def test_a_sealed_line_is_json_whose_last_key_is_its_hash() -> None:
    line, digest = seal_line(GENESIS, b'{"seq":1,"kind":"stop"}')
    assert line == b'{"seq":1,"kind":"stop","hash":"' + digest.encode() + b'"}\n'
    assert list(orjson.loads(line)) == ["seq", "kind", "hash"]
    assert digest == hashlib.sha256(GENESIS.encode() + b'{"seq":1,"kind":"stop"').hexdigest()


def test_a_line_can_be_checked_with_sha256sum_alone() -> None:
    line, digest = seal_line(GENESIS, b'{"seq":1,"kind":"stop"}')
    body = line[: line.rindex(b',"hash"')]
    done = subprocess.run(["sha256sum"], input=GENESIS.encode() + body, capture_output=True, check=True)
    assert done.stdout.decode().split()[0] == digest


def test_a_line_follows_only_the_hash_it_was_sealed_with() -> None:
    first, one = seal_line(GENESIS, b'{"seq":1,"kind":"stop"}')
    second, two = seal_line(one, b'{"seq":2,"kind":"stop"}')
    assert check_line(GENESIS, first) == one
    assert check_line(one, second) == two
    assert isinstance(check_line(GENESIS, second), Problem)
    assert isinstance(check_line(two, second), Problem)


def test_every_flipped_bit_is_a_problem() -> None:
    line, _ = seal_line(GENESIS, b'{"seq":1,"kind":"stop","by":"a b"}')
    for index in range(len(line)):
        for bit in range(8):
            changed = bytearray(line)
            changed[index] ^= 1 << bit
            assert isinstance(check_line(GENESIS, bytes(changed)), Problem), (index, bit)


def test_an_unfinished_line_is_called_that() -> None:
    line, _ = seal_line(GENESIS, b'{"seq":1,"kind":"stop"}')
    assert check_line(GENESIS, line[:-1]) == Problem("the line is not finished")
    assert check_line(GENESIS, b"junk\n") == Problem("the line does not end with its hash")


@pytest.mark.parametrize("cut", range(1, 80))
def test_a_cut_line_is_a_problem(cut: int) -> None:
    line, _ = seal_line(GENESIS, b'{"seq":1,"kind":"stop"}')
    assert isinstance(check_line(GENESIS, line[:-cut]), Problem)
    assert stated_hash(line[:-cut]) is None


@pytest.mark.parametrize(
    "body", [b'{"seq":1}', b'{"kind":"stop"}', b'{"seq":"1","kind":"x"}', b'{"seq":true,"kind":"x"}', b"[1]"]
)
def test_a_whole_line_without_number_or_kind_is_no_record(body: bytes) -> None:
    assert parse_line(seal_line(GENESIS, body)[0]) is None


def test_segment_names_sort_as_their_numbers() -> None:
    assert segment_name("pod-1", 42) == "pod-1-000000000042.jsonl"
