"""Which dialect a body is in."""

import json
from typing import Any

import pytest

from proxy.errors import Code, Refusal
from proxy.model import Dialect
from proxy.wire import dialects
from tests.wire.shapes import SHAPES


@pytest.mark.parametrize("dialect", SHAPES)
@pytest.mark.parametrize("many", [False, True])
def test_told_by_shape(dialect: Dialect, many: bool) -> None:
    """One call or a list of calls names its dialect by its shape."""
    shape = SHAPES[dialect]({})
    batch = dialects.parse(json.dumps([shape] if many else shape).encode())
    assert (batch.dialect, batch.many, len(batch.items)) == (dialect, many, 1)


@pytest.mark.parametrize(
    "body", [{}, [], 5, "x", None, {"a": 1}, [1], {"role": "user", "content": "x"}, [{"tool": "a"}, {"b": 1}]]
)
def test_of_no_known_shape(body: Any) -> None:
    """Anything else is refused, and the shapes are named."""
    with pytest.raises(Refusal) as refused:
        dialects.parse(json.dumps(body).encode())
    assert refused.value.code is Code.INVALID_CALL
    assert "OpenAI or Anthropic" in str(refused.value.fix)


def test_lists_of_two_dialects() -> None:
    """A list with items of two dialects is of neither."""
    body = json.dumps([SHAPES[Dialect.NATIVE]({}), SHAPES[Dialect.ANTHROPIC]({}, "c2")])
    with pytest.raises(Refusal):
        dialects.parse(body.encode(), "native")


@pytest.mark.parametrize("body", [{"tool": "a", "function": {"name": "b"}}, {"type": "tool_use", "tool": "a"}])
def test_a_body_in_the_shape_of_two_dialects(body: Any) -> None:
    """Whoever chose between them could run another call than was decided."""
    with pytest.raises(Refusal, match="the shape of two dialects"):
        dialects.parse(json.dumps(body).encode())


def test_forced() -> None:
    """`?dialect=` says how to read; another shape is then refused."""
    body = json.dumps(SHAPES[Dialect.ANTHROPIC]({})).encode()
    assert dialects.parse(body, "anthropic").dialect is Dialect.ANTHROPIC
    with pytest.raises(Refusal, match="no known shape"):
        dialects.parse(body, "native")
    with pytest.raises(Refusal, match="unknown dialect"):
        dialects.parse(body, "morse")


def test_at_most_128_calls() -> None:
    """A longer list is refused whole."""
    calls = [SHAPES[Dialect.NATIVE]({}, f"c{n}") for n in range(129)]
    with pytest.raises(Refusal, match="more than 128 calls"):
        dialects.parse(json.dumps(calls).encode())
    assert len(dialects.parse(json.dumps(calls[:128]).encode()).items) == 128


def test_masses_are_refused_before_any_item_is_read() -> None:
    """Whatever the list is of, and wherever it stands."""
    for body in ([{"tool": 1}] * 513, {"role": "assistant", "content": [{"type": "text", "text": "x"}] * 513}):
        with pytest.raises(Refusal, match="more than 512 items"):
            dialects.parse(json.dumps(body).encode())
