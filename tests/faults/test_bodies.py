"""No body breaks the reader of tool calls, and none is taken that another reader reads differently."""

import json
import random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proxy.wire import dialects
from tests.faults import mutants
from tests.faults.bodies import Findings, bodies, compare, judge, texts_taken
from tests.faults.parsers import REFUSED, by_orjson, by_standard_library, node, number_tokens
from tests.wire.shapes import SHAPES, readable

COUNT = 15_000
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=12,
)


def found(*texts: bytes) -> Findings:
    """What comes of these bodies."""
    return judge(texts)


@pytest.mark.slow
def test_mutants_of_valid_bodies_break_nothing_and_are_read_alike() -> None:
    """By structure and by byte, from a fixed seed; a million with `python -m tests.faults.bodies --count 1000000`."""
    findings = judge(bodies(7, COUNT))
    assert findings.faults == []
    assert findings.read == COUNT
    assert min(findings.taken[dialect] for dialect in SHAPES) > COUNT / 50
    assert min(findings.refused[code] for code in ("invalid_json", "invalid_call", "invalid_arguments")) > COUNT / 500


@given(text=st.binary(max_size=300))
def test_no_bytes_break_the_reader(text: bytes) -> None:
    """Anything at all."""
    findings = Findings()
    texts_taken(text, findings)
    assert findings.faults == []


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(tree=VALUES, keys=st.lists(st.sampled_from(mutants.KEYS), min_size=1, max_size=6, unique=True))
def test_no_shape_breaks_the_dialects(tree: Any, keys: list[str]) -> None:
    """Any value under the names that the dialects look for."""
    findings = Findings()
    shape = {key: tree for key in keys if key != "A"}
    for body in (shape, [shape], {"role": "assistant", "content": [shape]}, {"object": "response", "output": [shape]}):
        texts_taken(json.dumps(body).encode(), findings)
    assert findings.faults == []


@pytest.mark.parametrize("dialect", SHAPES)
@given(arguments=st.dictionaries(TEXTS, VALUES, max_size=4))
def test_what_is_taken_is_what_was_meant(dialect: Any, arguments: dict[str, Any]) -> None:
    """The arguments that are sent on read as those that came in, in every dialect, with every digit."""
    text = json.dumps(arguments).encode()
    body = json.dumps(SHAPES[dialect](arguments)).encode()
    findings = Findings()
    taken = texts_taken(body, findings)
    assert findings.faults == []
    if len({key.casefold() for key in _keys(arguments)}) == len(_keys(arguments)):
        raw = readable(dialects.parse(body).items[0]).arguments.raw
        assert taken == [body, raw]
        assert by_standard_library(raw) == by_standard_library(text)
        assert number_tokens(raw) == number_tokens(text)


def _keys(tree: Any) -> list[str]:
    """Every key of a tree, at whatever depth."""
    return [key for container, key in mutants.places(tree) if isinstance(container, dict)]


@pytest.mark.parametrize("odd", [{}, {"x": 1}, [], ["tool_use"], 1.5, 2**70, None, True])
def test_a_type_that_is_no_text_is_no_type(odd: Any) -> None:
    """Found by the mutants: a `type` or `content` that cannot be looked up broke three dialects."""
    texts = [json.dumps(shape({}) | {"type": odd, "content": odd}).encode() for shape in SHAPES.values()]
    message = {"object": "response", "output": [{"type": "message", "content": odd}, {"type": odd}]}
    assert found(*texts, json.dumps(message).encode()).faults == []


def test_the_other_readers_do_differ() -> None:
    """The comparison can fail: node and orjson are asked about texts that readers are known to differ on."""
    with node() as other:
        if other is None:
            pytest.skip("node is not installed")
        theirs = other.read([b'{"a":1,"a":2}', b"[NaN]", b"[1e400]", b'["\xff"]', b'{"b":1.10,"a":"\xc5\xbf"}'])
        assert theirs[1] == theirs[3] == REFUSED
        assert by_standard_library(b"[NaN]") != REFUSED == by_orjson(b"[NaN]")
        assert theirs[4] == by_standard_library(b'{"b":1.10,"a":"\xc5\xbf"}') == by_orjson(b'{"b":1.10,"a":"\xc5\xbf"}')
        assert by_standard_library(b"[-0]") == by_orjson(b"[-0]") == other.read([b"[-0]"])[0]
        findings = Findings()
        compare([b"[NaN]"], other, findings)
        assert [fault.split(" ")[0] for fault in findings.faults] == ["orjson", "node"]


def test_a_seed_gives_the_same_bodies() -> None:
    """So that a finding can be repeated."""
    assert list(bodies(3, 50)) == list(bodies(3, 50))
    assert list(bodies(3, 50)) != list(bodies(4, 50))
    assert mutants.body(random.Random(3)) == next(bodies(3, 1))
