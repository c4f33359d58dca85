"""The one JSON reader: what two parsers could read differently is refused before anything else looks (RFC 8259, I-JSON RFC 7493).

Theory of operation. A text is read by two parsers of different authors: orjson (refuses NaN, trailing data, BOM, bad UTF-8,
lone surrogates) and the standard library's, whose hooks see duplicate keys and raw number tokens, which orjson does not. The
tree keeps each number as the token that was sent (`orjson.Fragment`), so that writing it again changes no digit. Everything
that is judged is read from the very bytes that are sent on: `write(tree)` -> bytes -> `read_values(bytes)`.
"""

import json
import math
import re
from collections.abc import Iterable
from typing import Any, NoReturn

import orjson

from proxy.errors import Code, Refusal

MAX_DEPTH = 64
MAX_NUMBER_LENGTH = 1024
MAX_VALUES = (
    100_000  # of which a text of 1 MiB could have half a million; to read so many stops everybody else for a second
)

_TOKENS = re.compile(rb'"(?:[^"\\]|\\.)*"|[\[{]|[\]}]')
_BEGINNINGS = re.compile(rb'"(?:[^"\\]|\\.)*"|[\[{,]')
# No double needs four digits, and where readers give up (OPA refuses 1e-99999999) differs from one to the next.
_WILD_EXPONENT = re.compile(r"[eE][+-]?[0-9]{4}")


def read_tree(text: bytes, what: str = "body") -> Any:
    """Read one JSON text strictly; numbers stay raw tokens. `what` names the text in errors. Raises Refusal invalid_json."""
    _check_depth(text, what)
    _check_values(text, what)
    try:
        orjson.loads(text)
    except orjson.JSONDecodeError as e:
        raise _invalid(what, _plain(e)) from None
    try:
        tree = _TREES.decode(text.decode())
    except Refusal as e:
        raise _invalid(what, e.message) from None
    except (ValueError, RecursionError) as e:
        raise _invalid(what, type(e).__name__) from None
    if b"\\u0000" in text and _has_nul(tree):
        raise _invalid(what, "a NUL character in a string")
    return tree


def write(tree: Any, *, sort_keys: bool = False) -> bytes:
    """Compact UTF-8 JSON; number tokens, key order and strings as they were read. Sorted by code point on demand."""
    return orjson.dumps(tree, option=orjson.OPT_SORT_KEYS if sort_keys else None)


def read_values(text: bytes) -> Any:
    """Plain Python values of a text that `write` made: integers exact at any size, fractions as the nearest double."""
    return _VALUES.decode(text.decode())


def number_token(value: Any) -> str | None:
    """The raw token if `value` is a number of a tree, else None."""
    return orjson.dumps(value).decode() if isinstance(value, orjson.Fragment) else None


def _number(token: str) -> orjson.Fragment:
    # A number that one reader takes for infinity and another for a big integer is two numbers.
    if len(token) > MAX_NUMBER_LENGTH or not math.isfinite(float(token)):
        raise _invalid("", "a number out of range")
    return orjson.Fragment(token)


def _fraction(token: str) -> orjson.Fragment:
    if _WILD_EXPONENT.search(token):
        raise _invalid("", "a number out of range")
    return _number(token)


def _constant(token: str) -> NoReturn:
    raise _invalid("", f"{token} is not a JSON number")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    tree = dict(pairs)
    # Some readers match keys without regard to case (Go's encoding/json, CVE-2026-27896): `Name` beside `name` is two calls.
    if len({key.casefold() for key in tree}) != len(pairs):
        raise _invalid("", "a key occurs twice in one object (upper and lower case count as the same)")
    return tree


def _check_depth(text: bytes, what: str) -> None:
    if text.count(b"[") + text.count(b"{") <= MAX_DEPTH:
        return
    depth = 0
    for token in _TOKENS.finditer(text):
        mark = text[token.start()]
        depth += (mark in b"[{") - (mark in b"]}")
        if depth > MAX_DEPTH:
            raise _invalid(what, f"nested deeper than {MAX_DEPTH} levels")


def _check_values(text: bytes, what: str) -> None:
    if text.count(b",") + text.count(b"[") + text.count(b"{") <= MAX_VALUES:
        return
    if sum(text[mark.start()] != ord('"') for mark in _BEGINNINGS.finditer(text)) > MAX_VALUES:
        raise _invalid(what, f"more than {MAX_VALUES} values")


def _has_nul(tree: Any) -> bool:
    pending: list[Any] = [tree]
    while pending:
        item = pending.pop()
        if isinstance(item, str) and "\0" in item:
            return True
        if isinstance(item, list):
            pending.extend(item)
        elif isinstance(item, dict):
            pending.extend(_flat(item.items()))
    return False


def _flat(pairs: Iterable[tuple[str, Any]]) -> Iterable[Any]:
    for key, value in pairs:
        yield key
        yield value


# Made once: a decoder costs as much to make as a small text to read.
_TREES = json.JSONDecoder(object_pairs_hook=_unique, parse_int=_number, parse_float=_fraction, parse_constant=_constant)
_VALUES = json.JSONDecoder()


def _plain(error: orjson.JSONDecodeError) -> str:
    return f"{error.msg.split(':')[0]} at offset {error.pos}"


def _invalid(what: str, why: str) -> Refusal:
    message = f"the {what} is not acceptable JSON: {why}" if what else why
    return Refusal(Code.INVALID_JSON, message, fix="send one complete JSON text, each key once, plain numbers, UTF-8")
