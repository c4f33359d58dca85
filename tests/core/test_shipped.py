"""Lines as log shippers deliver them."""

import json
from collections.abc import Callable, Iterator

import pytest

from proxy.core import shipped
from proxy.core.chain import GENESIS, seal_line
from proxy.core.shipped import beginnings, unwrapped

RECORD = seal_line(
    GENESIS, b'{"seq":1,"at":"2026-11-25T10:00:00Z","kind":"intent","reason":"a \\"b\\" ' + b"x" * 50 + b'"}'
)[0]
TEXT = RECORD.rstrip(b"\n")
OWN = b'{"time":"t","level":"info","logger":"sidegate","message":"{\\"seq\\":1,\\"at\\":\\"x\\"}"}\n'
STAMP = b"2026-11-25T10:00:00.123456789Z"


def docker(text: bytes, stream: str = "stdout", **more: object) -> bytes:
    return json.dumps({"log": text.decode(), "stream": stream, "time": STAMP.decode(), **more}).encode() + b"\n"


def halves(wrap: Callable[[bytes, bool], bytes]) -> list[bytes]:
    return [wrap(TEXT[:30], False), wrap(TEXT[30:70], False), wrap(TEXT[70:], True)]


SHIPPED = {
    "as it is": [RECORD],
    "CRI": [STAMP + b" stdout F " + RECORD],
    "CRI with more tags": [STAMP + b" stdout F:x " + RECORD],
    "CRI in parts": halves(lambda text, last: STAMP + b" stdout " + (b"F " if last else b"P ") + text + b"\n"),
    "Docker": [docker(RECORD)],
    "Docker in parts": halves(lambda text, last: docker(text + (b"\n" if last else b""))),
    "Fluent Bit without a newline": [docker(TEXT, logtag="F", kubernetes={"pod_name": "a"})],
    "a text without a tag or a newline": [docker(TEXT)],
    "JSON of a shipper": [json.dumps({"message": TEXT.decode(), "host": "h"}).encode() + b"\n"],
    "Loki": [json.dumps({"labels": {}, "line": TEXT.decode(), "timestamp": "t"}).encode() + b"\n"],
}


@pytest.mark.parametrize("form", SHIPPED)
def test_a_record_comes_out_as_it_was_written_to_the_byte(form: str) -> None:
    """Its hash is over those bytes. Lines of others are in between."""
    lines = [OWN, b"plain text\n", *SHIPPED[form], b"\n", b"{}\n", b"{broken\n"]
    assert [line for line in unwrapped(lines) if beginnings(line)] == [RECORD]


def test_parts_are_joined_by_stream_and_by_pod() -> None:
    """Two streams of one container, and two containers, interleave."""
    cri = [
        STAMP + b" stdout P " + TEXT[:40] + b"\n",
        STAMP + b" stderr P " + b"another" + b"\n",
        STAMP + b" stdout F " + TEXT[40:] + b"\n",
        STAMP + b" stderr F " + b" line" + b"\n",
    ]
    assert list(unwrapped(cri)) == [RECORD, b"another line\n"]
    pods = [
        docker(part, logtag=tag, kubernetes={"pod": pod})
        for tag, part in (("P", TEXT[:40]), ("F", TEXT[40:]))
        for pod in "ab"
    ]
    assert list(unwrapped(pods)) == [RECORD, RECORD]


def test_a_part_whose_end_never_comes_is_bounded_and_not_lost() -> None:
    """What is cut off is still there to be announced as unreadable."""
    endless: Iterator[bytes] = (STAMP + b" stdout P " + b"x" * 100_000 + b"\n" for _ in range(400))
    assert max(len(line) for line in unwrapped(endless)) <= shipped.MAX_TEXT + 100_001
    assert list(unwrapped([STAMP + b" stdout P " + TEXT[:30] + b"\n"])) == [TEXT[:30]]


def test_text_in_our_own_log_is_no_record() -> None:
    """A model can have a record's text put into a message; only what stands on standard output by itself is one."""
    (line,) = unwrapped([OWN.replace(b"x", b"y")])
    assert not line.startswith(b'{"seq"')
    assert beginnings(b'{"a":{"seq":1,"tool":"t"}}') == []
    assert beginnings(b"pod/a " + RECORD) == [6]
    assert beginnings(TEXT[:20] + RECORD) == [0, 20]
