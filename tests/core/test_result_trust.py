"""Whether a result can carry somebody else's text, by its schema and the paths that the catalog trusts."""

from typing import Any

import pytest

from proxy.core.result_trust import holds_only_trusted_text

TEXT = {"type": "string"}
NUMBER = {"type": ["number", "null"]}


def closed(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "additionalProperties": False}


LOOP = {"$ref": "#/$defs/node", "$defs": {"node": closed(next={"$ref": "#/$defs/node"}, name=TEXT)}}

TRUSTED = {
    "a trusted field beside numbers": (closed(a=TEXT, n=NUMBER, b={"type": "boolean"}), ["a"]),
    "a trusted object, whatever is in it": (closed(a={"type": "object"}), ["a"]),
    "fields of the items of a list": (closed(rows={"type": "array", "items": closed(id=TEXT, n=NUMBER)}), ["rows.id"]),
    "a list at the top": ({"type": "array", "items": closed(id=TEXT)}, ["id"]),
    "constants": (closed(a=TEXT, kind={"enum": ["x", "y"]}, v={"const": "1"}), ["a"]),
    "closed by all that composes it": (
        {"allOf": [{"type": "object", "properties": {"a": TEXT}}], "unevaluatedProperties": False},
        ["a"],
    ),
    "alternatives that are all sure": (closed(a=TEXT, b={"anyOf": [{"const": "x"}, {"type": "integer"}]}), ["a"]),
    "a condition with both its ends": (
        closed(a=TEXT, b={"if": {"type": "integer"}, "then": {"type": "integer"}, "else": {"const": "none"}}),
        ["a"],
    ),
    "first items and none after them": (
        closed(a=TEXT, rows={"type": "array", "prefixItems": [NUMBER], "items": False}),
        ["a"],
    ),
    "all of it": (None, ["$"]),
}
UNTRUSTED = {
    "nothing is trusted": (closed(n=NUMBER), []),
    "no schema": (None, ["a"]),
    "text beside the trusted field": (closed(a=TEXT, note=TEXT), ["a"]),
    "text below": (closed(a=TEXT, more=closed(note=TEXT)), ["a"]),
    "unknown fields may pass": ({"type": "object", "properties": {"a": TEXT}}, ["a"]),
    "named patterns may pass": ({**closed(a=TEXT), "patternProperties": {"^x": TEXT}}, ["a"]),
    "a field without a type": (closed(a=TEXT, any={}), ["a"]),
    "no type at the top": ({"properties": {"a": TEXT}, "additionalProperties": False}, ["a"]),
    "a list without items": (closed(a=TEXT, rows={"type": "array"}), ["a"]),
    "text among the first items": (
        closed(a=TEXT, rows={"type": "array", "prefixItems": [TEXT], "items": NUMBER}),
        ["a"],
    ),
    "text in one branch": (closed(a=TEXT, b={"anyOf": [{"type": "integer"}, TEXT]}), ["a"]),
    "a constant in one branch and text in another": (closed(a=TEXT, b={"anyOf": [{"const": "x"}, TEXT]}), ["a"]),
    "a branch without a type": (closed(a=TEXT, b={"oneOf": [{"type": "integer"}, {"minLength": 1}]}), ["a"]),
    "a branch that is open": (closed(a=TEXT, b={"anyOf": [closed(n=NUMBER), {"type": "object"}]}), ["a"]),
    "a condition without its other end": (closed(a=TEXT, b={"if": {"const": 1}, "then": {"const": 1}}), ["a"]),
    "items after the first": (closed(a=TEXT, rows={"type": "array", "prefixItems": [NUMBER]}), ["a"]),
    "text in what composes it": (
        {"allOf": [{"type": "object", "properties": {"a": TEXT, "note": TEXT}}], "unevaluatedProperties": False},
        ["a"],
    ),
    "a schema without end": (LOOP, ["other"]),
    "a reference that leads nowhere": (closed(a=TEXT, b={"type": "object", "$ref": "#/$defs/none"}), ["a"]),
}


@pytest.mark.parametrize("name", TRUSTED)
def test_no_other_text_has_a_place(name: str) -> None:
    assert holds_only_trusted_text(*TRUSTED[name])


@pytest.mark.parametrize("name", UNTRUSTED)
def test_other_text_may_come(name: str) -> None:
    assert not holds_only_trusted_text(*UNTRUSTED[name])


def test_a_schema_that_leads_into_itself_is_followed_only_so_far() -> None:
    """Beyond that nobody has looked, so it counts as untrusted."""
    assert not holds_only_trusted_text(LOOP, ["name"])
