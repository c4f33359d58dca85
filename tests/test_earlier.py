"""Earlier calls: their JSON is what policy sees, and is no part of what they are."""

from dataclasses import replace

import orjson

from proxy.earlier import EarlierCall, Outcome

CALL = EarlierCall(seq=3, tool="get_price", system="pricing", effect="read", labels=("terms",), outcome=Outcome.DONE)
FACTS = {"seq": 3, "tool": "get_price", "system": "pricing", "effect": "read", "labels": ["terms"], "outcome": "done"}


def test_its_facts_are_the_call_as_json_and_follow_its_outcome() -> None:
    assert orjson.loads(orjson.dumps(CALL.facts)) == FACTS
    held = replace(CALL, outcome=Outcome.HELD)
    assert orjson.loads(orjson.dumps(held.facts)) == {**FACTS, "outcome": "held"}


def test_a_checkpoint_writes_the_call_without_them() -> None:
    assert orjson.loads(orjson.dumps(CALL)) == FACTS
    assert replace(CALL) == CALL
