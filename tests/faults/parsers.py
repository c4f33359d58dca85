"""What other JSON readers make of a text: the standard library's, orjson, and node where it is installed.

Equal means: the same structure, keys and strings, and numbers with the same nearest double, -0 being 0 (the standard library
reads `-0` as the integer 0, node as the double -0, and every comparison takes them for one). A narrower equality would be
unfair to readers that have only doubles; digits are compared apart (`number_tokens`), between a text and its copy.
"""

import base64
import contextlib
import json
import re
import shutil
import struct
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import orjson

REFUSED = "refused"
_STRINGS = re.compile(rb'"(?:[^"\\]|\\.)*"')
_NUMBERS = re.compile(rb"-?[0-9][0-9.eE+-]*")


def plain(value: Any) -> Any:
    """A tree in the form that parsers.js answers in."""
    if isinstance(value, bool) or value is None or isinstance(value, str):
        return value
    if isinstance(value, int | float):
        return {"n": struct.pack(">d", float(value) + 0.0).hex()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return {"o": [[key, plain(value[key])] for key in sorted(value, key=lambda key: key.encode("utf-16-be"))]}


def written(text: bytes, reader: Any) -> str:
    """What a Python reader makes of a text, as one line; `refused` if it does not take it."""
    try:
        return json.dumps(plain(reader(text)), ensure_ascii=True)
    except (ValueError, RecursionError, OverflowError):
        return REFUSED


def by_standard_library(text: bytes) -> str:
    """The standard library's reader with its defaults."""
    return written(text, json.loads)


def by_orjson(text: bytes) -> str:
    """orjson's reader."""
    return written(text, orjson.loads)


def number_tokens(text: bytes) -> list[bytes]:
    """The numbers of a JSON text, digit for digit, in order."""
    return _NUMBERS.findall(_STRINGS.sub(b'""', text))


class Node:
    """One node process for all texts."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            ["node", str(Path(__file__).with_name("parsers.js"))], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    def read(self, texts: Sequence[bytes]) -> list[str]:
        """What node makes of each, in the form of `written`. Not more than a pipe holds at a time."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        answers = []
        for start in range(0, len(texts), 16):
            part = texts[start : start + 16]
            self._process.stdin.write(b"".join(base64.b64encode(text) + b"\n" for text in part))
            self._process.stdin.flush()
            answers += [self._process.stdout.readline().decode().rstrip("\n") for _ in part]
        return [answer if answer == REFUSED else json.dumps(json.loads(answer)) for answer in answers]

    def close(self) -> None:
        """End it."""
        self._process.communicate(timeout=10)


@contextlib.contextmanager
def node() -> Iterator[Node | None]:
    """A running node; None where it is not installed."""
    if shutil.which("node") is None:
        yield None
        return
    one = Node()
    try:
        yield one
    finally:
        one.close()
