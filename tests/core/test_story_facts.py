"""Facts of records, read tolerantly."""

from typing import Any

import orjson

from proxy.core.chain import GENESIS, seal_line
from proxy.core.story import headline
from proxy.core.story_facts import clean, codes, facts, field

PRINCIPAL = {"id": "https://idp#jane", "name": "Jane Doe"}
HELD = {
    "id": "r1",
    "call_id": "c2",
    "conversation": "k1",
    "tool": "get_price",
    "trace_id": "t2",
    "principal": PRINCIPAL,
}


def line(**record: Any) -> bytes:
    return seal_line(GENESIS, orjson.dumps({"seq": 7, "at": "2027-01-15T08:00:00.123456Z", **record}))[0]


def test_long_text_is_cut_and_says_so() -> None:
    assert clean("x" * 2500).endswith("... (500 more characters)")


def test_a_held_calls_fields_are_found_inside_its_review() -> None:
    record = {
        "kind": "review_requested",
        "review": HELD | {"reasons": {"combination": [{"code": "three_systems"}]}, "arguments": '{"a":1}'},
    }
    assert field(record, "call") == "c2"
    assert codes(record) == {"three_systems"}
    assert dict(facts(record, line(**record)))["arguments"] == '{"a":1}'
    assert "[Jane Doe (https://idp#jane)]" in headline(line(**record))


NOTED = {
    "weekend": {"deny": [{"code": "closed"}], "review": [], "warn": [{"code": "late"}]},
    "odd": 7,
    "none": {"deny": 7},
}


def test_what_was_noted_and_not_enforced_is_found_and_told() -> None:
    """Of mode warn with the decision, of mode shadow in a record of its own; a fault of a trial is no code."""
    warned = {"kind": "intent", "decision": {"effect": "allow", "reasons": [], "warn": NOTED}}
    tried = {"kind": "trial", "call": "c1", "said": NOTED | {"fault": "policy_unavailable"}}
    for record in (warned, tried):
        assert codes(record) == {"closed", "late"}
        assert dict(facts(record, line(**record)))["noted only"] == "weekend: closed, weekend: late"
    assert codes({"kind": "terminal", "said": NOTED, "decision": {"effect": "allow", "warn": {}}}) == set()


def test_what_is_not_printable_is_escaped_and_nothing_else() -> None:
    assert clean("caf\u00e9 \u4f60 \x1b[0m\n\u202e\U000e0041") == "caf\u00e9 \u4f60 \\x1b[0m\\x0a\\u202e\\U000e0041"
