"""OPA's trace as OPA writes it: tests/adapters/test_policy_eval.py has it from the real one."""

from typing import Any

import pytest

from proxy.core.opa_trace import Fired, fired

PLACE = {"file": "bundle/sidegate/policies/mine/mine.rego", "row": 7, "col": 1}


def text(value: str) -> dict[str, Any]:
    return {"type": "string", "value": value}


def event(**changes: Any) -> dict[str, Any]:
    key = {"type": "object", "value": [[text("code"), text("c")], [text("of"), {"type": "var", "value": "x"}]]}
    node = {"head": {"name": "deny", "key": key}, "annotations": [{"scope": "rule", "title": "A rule"}]}
    local = [{"name": "x", "type": "set", "value": [{"type": "number", "value": 1.5}, {"type": "null"}]}]
    return {"Op": "Exit", "Node": node, "Location": PLACE, "Locals": local, **changes}


def test_a_rule_that_said_something_is_found_with_what_it_said() -> None:
    """Variables have their values."""
    assert list(fired([event()])) == [
        Fired(
            policy="mine",
            says="deny",
            member="sidegate/policies/mine/mine.rego",
            row=7,
            title="A rule",
            reason={"code": "c", "of": [1.5, None]},
        )
    ]


@pytest.mark.parametrize(
    "other",
    [
        {"Op": "Enter"},
        {"Location": None},
        {"Location": {**PLACE, "file": "bundle/sidegate/decision/decision.rego"}},
        {"Node": {"terms": []}},
        {"Node": {"head": {"name": "_private", "key": text("c")}}},
        {"Node": {"head": {"name": "deny", "value": text("c")}}},
    ],
)
def test_other_events_are_passed_over(other: dict[str, Any]) -> None:
    assert list(fired([event(**other)])) == []


def test_without_a_title_or_a_value_the_place_is_still_known() -> None:
    node = {"head": {"name": "review", "key": {"type": "var", "value": "gone"}}}
    (found,) = fired([event(Node=node, Locals=None)])
    assert (found.says, found.row, found.title, found.reason) == ("review", 7, "", None)
