"""Bodies of tool calls, valid and broken, made from a seed: by structure, by byte, and by what parsers are known to differ on."""

import copy
import json
import random
from typing import Any

from tests.wire.shapes import SHAPES

# Texts on which JSON readers differ, or that have broken one (RFC 8259 section 9, CVE-2017-12635, CVE-2026-27896).
HAZARDS = (
    b"NaN", b"Infinity", b"-Infinity", b"1e999", b"-0", b"-0.0", b"9007199254740993", b"18446744073709551616", b"1.10",
    b"1E400", b"0.1e1", b"01", b"+1", b".5", b"1.", b"0x10", b"\xef\xbb\xbf", b"\xff\xfe", b"\x00", b"\xc0\xaf",
    b"\xed\xa0\x80", b"\\ud800", b"\\udc00\\ud800", b"\\u0000", b"\\u0061", b"\\/", b"//", b"/**/", b",", b":", b"[", b"]",
    b"{", b"}", b'"', b"'", b"{} {}", b"null", b"true", b'"a":1,"a":2,', b'"A":1,"a":2,', b'"\\u0061":1,"a":2,',
    b'"__proto__":{"x":1},', b'"tool":"drop_all",', b'"name":"drop_all",', b'"\xc5\xbfku":1,', b"\n", b"\r", b"\t", b"\x0b",
    b"\xe2\x80\xa8", b"\xc2\xa0", b"\\n", b"\\", b"1" * 400, b"[" * 70, b"0." + b"1" * 1100, b"1e-999", b"4.9e-324",
)  # fmt: skip
LEAVES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1.5, 2**53 + 1, 2**64, -(2**70), 1e308, "", "x", "get_stock", "tool_use", "function", "\u017f", "K",
    "\u2028", "😀", "a" * 200, [], {}, [[]], {"type": []}, [1, "x"], {"a": {"b": [None]}}, ["tool_use"], {"": ""},
)  # fmt: skip
KEYS = (
    "id",
    "tool",
    "arguments",
    "type",
    "name",
    "input",
    "function",
    "role",
    "content",
    "output",
    "a",
    "A",
    "",
    "__proto__",
)


def value(rng: random.Random, depth: int = 3) -> Any:
    """Any JSON value."""
    if depth == 0 or rng.random() < 0.5:
        return copy.deepcopy(rng.choice(LEAVES))
    if rng.random() < 0.5:
        return [value(rng, depth - 1) for _ in range(rng.randrange(4))]
    return {rng.choice(KEYS): value(rng, depth - 1) for _ in range(rng.randrange(4))}


def message(rng: random.Random) -> Any:
    """What a model may produce: one call, a list, or a whole message, in one of the dialects."""
    shape = rng.choice(list(SHAPES.values()))
    items = [shape({"sku": value(rng), "n": value(rng, 1)}, f"c{n}") for n in range(rng.choice((1, 1, 1, 2, 5)))]
    whole = rng.random()
    if whole < 0.5:
        return items[0]
    if whole < 0.75:
        return items
    return rng.choice(
        (
            {"role": "assistant", "content": [{"type": "text", "text": "why"}, *items]},
            {"role": "assistant", "content": "why", "tool_calls": items},
            {"object": "response", "output": [{"type": "message", "content": [{"text": "why"}]}, *items]},
        )
    )


def places(tree: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) of a tree."""
    found, pending = list[tuple[Any, Any]](), [tree]
    while pending:
        one = pending.pop()
        keys = range(len(one)) if isinstance(one, list) else list(one) if isinstance(one, dict) else ()
        for key in keys:
            found.append((one, key))
            pending.append(one[key])
    return found


def other_structure(rng: random.Random, tree: Any) -> Any:
    """One value replaced, dropped or moved."""
    found = places(tree)
    if not found or rng.random() < 0.05:
        return value(rng)
    container, key = rng.choice(found)
    if rng.random() < 0.2:
        del container[key]
    elif rng.random() < 0.2 and isinstance(container, dict):
        container[rng.choice(KEYS)] = container.pop(key)
    else:
        container[key] = value(rng)
    return tree


def other_bytes(rng: random.Random, body: bytes) -> bytes:
    """One change that no JSON writer makes."""
    at = rng.randrange(len(body) + 1)
    end = min(len(body), at + rng.randrange(1, 20))
    kind = rng.randrange(6)
    if kind == 0:
        return body[:at] + rng.choice(HAZARDS) + body[at:]
    if kind == 1:
        return body[:at] + rng.choice(HAZARDS) + body[end:]
    if kind == 2:
        return body[:at] + bytes([rng.randrange(256)]) + body[at + 1 :]
    if kind == 3:
        return body[:at] + body[end:]
    if kind == 4:
        return body[:end] + body[at:]
    return body[:at]


def body(rng: random.Random) -> bytes:
    """One body: a valid message, changed up to three times."""
    tree = message(rng)
    for _ in range(rng.choice((0, 0, 1, 1, 2))):
        tree = other_structure(rng, tree)
    text = json.dumps(tree, ensure_ascii=rng.random() < 0.5).encode("utf-8", "surrogatepass")
    for _ in range(rng.choice((0, 0, 0, 1, 1, 2, 3))):
        text = other_bytes(rng, text)
    return text
