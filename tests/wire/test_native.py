"""The native dialect: closed, and answered with a status."""

import json

from proxy.errors import Code, Refusal
from proxy.model import Dialect
from proxy.wire import native
from proxy.wire.batch import Batch, Definition
from tests.wire.shapes import call, done, handed_over, readable, refused, unreadable

ONE = Batch(dialect=Dialect.NATIVE, items=(call(Dialect.NATIVE),), many=False)


def parse(**item: object) -> object:
    batch = native.parse({"id": "c1", "tool": "t", **item})
    assert batch is not None
    return batch.items[0]


def test_version_and_reason() -> None:
    """A version may be asked for; the reason is the agent's claim, cut to its bound."""
    item = readable(parse(version="2", reason="x" * 5000))  # type: ignore[arg-type]  # an item of a batch
    assert (item.version, len(item.reason or "")) == ("2", 1000)


def test_unknown_keys_are_refused() -> None:
    """What an upstream might read and we ignore is not let through."""
    item = unreadable(parse(argumnets={}))  # type: ignore[arg-type]  # an item of a batch
    assert item.refusal.code is Code.INVALID_CALL
    assert "argumnets" in item.refusal.message


def test_rendered() -> None:
    """Result as JSON, refusal as a document, a hold and an own tool as pending."""
    result = json.loads(native.render([done(Dialect.NATIVE)], ONE))
    assert (result["status"], result["result"]) == ("done", {"on_hand": 7})
    denied = json.loads(native.render([refused(Dialect.NATIVE, Refusal(Code.DENIED, "no"))], ONE))
    assert (denied["status"], denied["refusal"]["code"]) == ("refused", "denied")
    held = json.loads(native.render([refused(Dialect.NATIVE, Refusal(Code.REVIEW_PENDING, "wait"))], ONE))
    assert held["status"] == "pending"
    assert json.loads(native.render([handed_over(Dialect.NATIVE)], ONE))["status"] == "pending"


def test_the_result_is_passed_on_byte_for_byte() -> None:
    """Big integers and number tokens of a result are not read and written again."""
    assert b'"result":{"n":18446744073709551617,"d":1.10}' in native.render(
        [done(Dialect.NATIVE, b'{"n":18446744073709551617,"d":1.10}')], ONE
    )


def test_a_list_answers_a_list() -> None:
    """In the order of the calls."""
    batch = Batch(dialect=Dialect.NATIVE, items=(call(Dialect.NATIVE, "a"), call(Dialect.NATIVE, "b")), many=True)
    answers = [done(Dialect.NATIVE, call_id="a"), done(Dialect.NATIVE, call_id="b")]
    assert [answer["id"] for answer in json.loads(native.render(answers, batch))] == ["a", "b"]


def test_definitions() -> None:
    """Name, version, description and schema."""
    definition = Definition(name="t", description="d", version="1", schema={"type": "object"})
    assert json.loads(native.definitions([definition])) == [
        {"name": "t", "version": "1", "description": "d", "arguments": {"type": "object"}}
    ]
