"""What every dialect shares: arguments, ids, and the document that a refusal is."""

import json
from typing import Any

import pytest

from proxy.errors import Code, Refusal
from proxy.model import Dialect
from proxy.wire import common, dialects
from tests.wire.shapes import SHAPES, handed_over, readable, refused, unreadable

ALL = list(SHAPES)
WITH_TEXT = [Dialect.OPENAI_CHAT, Dialect.OPENAI_RESPONSES]


def parse(dialect: Dialect, arguments: Any) -> Any:
    return dialects.parse(json.dumps(SHAPES[dialect](arguments)).encode()).items[0]


@pytest.mark.parametrize("dialect", ALL)
def test_arguments_are_the_same_in_every_dialect(dialect: Dialect) -> None:
    """The bytes to send do not depend on the shape they came in."""
    assert readable(parse(dialect, {"b": 1, "a": "é"})).arguments.raw == '{"b":1,"a":"é"}'.encode()


@pytest.mark.parametrize("dialect", WITH_TEXT)
@pytest.mark.parametrize("text", ["", "  ", "{}", "null"])
def test_no_arguments_in_any_spelling(dialect: Dialect, text: str) -> None:
    """Blank, null and empty are the call without arguments (C008)."""
    assert readable(parse(dialect, text)).arguments.raw == b"{}"


@pytest.mark.parametrize(
    ("token", "taken"),
    [
        ("1.00000000000000000001", False),
        ("1e-400", False),
        ("9007199254740993.5", False),
        ("1.10", True),
        ("3.000000000000000000", True),
    ],
)
def test_a_fraction_that_a_double_loses(token: str, taken: bool) -> None:
    """It would be judged whole and sent as it is (C049)."""
    item = dialects.parse(f'{{"id":"c1","tool":"t","arguments":{{"a":[{token}]}}}}'.encode()).items[0]
    if taken:
        assert readable(item).arguments.raw == f'{{"a":[{token}]}}'.encode()
    else:
        assert unreadable(item).refusal.code is Code.INVALID_ARGUMENTS


@pytest.mark.parametrize("dialect", ALL)
def test_missing_arguments_are_none(dialect: Dialect) -> None:
    """A call that leaves them out has none."""
    shape = SHAPES[dialect]({})
    for holder in (shape, shape.get("function", {})):
        holder.pop("arguments", None)
        holder.pop("input", None)
    assert readable(dialects.parse(json.dumps(shape).encode()).items[0]).arguments.raw == b"{}"


@pytest.mark.parametrize("dialect", ALL)
@pytest.mark.parametrize("arguments", [[], 5, True])
def test_arguments_that_are_no_object(dialect: Dialect, arguments: Any) -> None:
    """A list, a number, a boolean is refused, and its kind is said (C008)."""
    refusal = unreadable(parse(dialect, arguments)).refusal
    assert refusal.code is Code.INVALID_ARGUMENTS
    assert "must be an object, got" in refusal.message


@pytest.mark.parametrize("dialect", WITH_TEXT)
@pytest.mark.parametrize(
    "text",
    [
        r'{"range": \n[10,20]\n}',
        r'{"pattern":"\d{4}"}',
        '{"lat": 48.2, "lon":',
        '{"q":"a"}{"q":"b"}',
        '"5"',
        '{"a":1} ok',
    ],
)
def test_argument_text_that_is_no_object(dialect: Dialect, text: str) -> None:
    """A broken argument text fails with the place of the fault, and is never mended (C001, C002, C007)."""
    item = unreadable(parse(dialect, text))
    assert item.id == "c1"
    assert item.refusal.code in (Code.INVALID_JSON, Code.INVALID_ARGUMENTS)


@pytest.mark.parametrize("dialect", ALL)
@pytest.mark.parametrize("bad", ["", "a b", "x" * 129, "é", None, 5, ["a"]])
def test_ids_of_another_form(dialect: Dialect, bad: Any) -> None:
    """An id that is not 1 to 128 plain characters fails alone, and is not repeated."""
    shape = SHAPES[dialect]({})
    key = "call_id" if dialect is Dialect.OPENAI_RESPONSES else "id"
    shape[key] = bad
    item = unreadable(dialects.parse(json.dumps(shape).encode()).items[0])
    assert (item.id, item.refusal.code) == ("", Code.INVALID_CALL)


@pytest.mark.parametrize("dialect", ALL)
def test_two_calls_of_one_id(dialect: Dialect) -> None:
    """The second of two calls with one id is refused: two answers could not be told apart."""
    body = json.dumps([SHAPES[dialect]({"a": 1}), SHAPES[dialect]({"a": 2})]).encode()
    first, second = dialects.parse(body).items
    assert readable(first).arguments.raw == b'{"a":1}'
    assert "twice" in unreadable(second).refusal.message


def test_a_refusal_says_all_that_a_model_needs() -> None:
    """What was refused, whether it ran, whether to retry, what to change, whom to ask, and where to look it up."""
    refusal = Refusal(
        Code.DENIED,
        "over your limit of 100",
        fix="order less",
        reasons=(("arguments", "over_limit"),),
        approvers=("leads",),
    )
    assert common.refusal_document(refused(Dialect.NATIVE, refusal)) == {
        "code": "denied",
        "message": "over your limit of 100",
        "tool": "get_stock",
        "ran": "no",
        "retry": "never",
        "fix": "order less",
        "reasons": [{"policy": "arguments", "code": "over_limit"}],
        "approvers": ["leads"],
        "call_id": "s1",
        "trace_id": "a" * 32,
    }


def test_details_are_not_shown() -> None:
    """What is for reviewers and the audit stays there."""
    refusal = Refusal(Code.POLICY_INVALID, "m", details={"secret": "x"})
    assert "secret" not in common.result_text(refused(Dialect.NATIVE, refusal))


def test_a_tool_of_the_agents_own() -> None:
    """The agent is told to run it and where to report."""
    assert json.loads(common.result_text(handed_over(Dialect.OPENAI_CHAT)))["allowed"]["result_handle"] == "h1"
