"""The hash chain over the journal's lines: pure, so that writer and reader cannot disagree (design section 15).

A line is one compact JSON object whose last key is `hash`, then a newline. The hash is SHA-256, in hex, over the hash
before (64 hex digits) and the line's bytes up to `,"hash":`; so one line can be checked with `printf` and `sha256sum`.
"""

import re
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import orjson

GENESIS = "0" * 64
_KEY = b',"hash":"'
_END = b'"}\n'
_HASH_BYTES = 64
_TAIL_BYTES = len(_KEY) + _HASH_BYTES + len(_END)
_HEX = re.compile(rb"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a line is not the next one of its chain, as a sentence."""

    sentence: str


def segment_name(chain: str, first: int) -> str:
    """File name of the segment whose first record has sequence number `first`."""
    return f"{chain}-{first:012d}.jsonl"


def seal_line(previous: str, body: bytes) -> tuple[bytes, str]:
    """The line (newline included) of a non-empty compact JSON object, and its hash. `previous` is the hash before, in hex."""
    open_body = body[:-1]
    digest = sha256(previous.encode() + open_body).hexdigest()
    return b'%b%b%b"}\n' % (open_body, _KEY, digest.encode()), digest


def stated_hash(line: bytes) -> str | None:
    """The hash that a line says it has; None if the line is not whole. Says nothing about whether it is true."""
    tail = line[-_TAIL_BYTES:]
    digest = tail[len(_KEY) : -len(_END)]
    if not tail.startswith(_KEY) or not tail.endswith(_END) or not _HEX.fullmatch(digest):
        return None
    return digest.decode()


def check_line(previous: str, line: bytes) -> str | Problem:
    """The line's hash if it follows `previous`, else what is wrong with it."""
    if not line.endswith(b"\n"):
        return Problem("the line is not finished")
    stated = stated_hash(line)
    if stated is None:
        return Problem("the line does not end with its hash")
    digest = sha256(previous.encode() + line[:-_TAIL_BYTES]).hexdigest()
    if digest != stated:
        return Problem("the line's hash does not follow from the line before it and its own bytes")
    return digest


def parse_line(line: bytes) -> dict[str, Any] | None:
    """The record of a whole line: an object with an integer `seq` and a string `kind`; None if it is none."""
    if stated_hash(line) is None:
        return None
    try:
        record = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(record, dict) or not isinstance(record.get("kind"), str) or type(record.get("seq")) is not int:
        return None
    return record
