"""Closing schemas against unknown properties, and finding what they declare."""

from typing import Any

import pytest

from proxy.core.schema_shape import at_path, close_schema, declared, local, pointer, printable, types_of
from proxy.core.schemas import compile_schema

ADDRESS = {"properties": {"city": True}}
NODE = {
    "$defs": {"n": {"properties": {"kids": {"items": {"$ref": "#/$defs/n"}}}}},
    "properties": {"root": {"$ref": "#/$defs/n"}},
}
BRANCHES = {"allOf": [{"properties": {"a": True}}, {"properties": {"b": True}}], "properties": {"c": True}}

# (what it is about, schema, a value that closing must keep valid, a value that only closing refuses)
CLOSING: list[tuple[str, Any, Any, Any]] = [
    ("no arguments at all", {"type": "object"}, {}, {"x": 1}),
    ("the top level", ADDRESS, {"city": 1}, {"city": 1, "x": 1}),
    ("a nested object", {"properties": {"to": ADDRESS}}, {"to": {"city": 1}}, {"to": {"x": 1}}),
    ("items", {"properties": {"l": {"items": ADDRESS}}}, {"l": [{"city": 1}]}, {"l": [{"x": 1}]}),
    ("prefixItems", {"properties": {"l": {"prefixItems": [ADDRESS]}}}, {"l": [{"city": 1}]}, {"l": [{"x": 1}]}),
    ("patternProperties", {"patternProperties": {"^p": ADDRESS}}, {"p1": {"city": 1}}, {"p1": {"x": 1}}),
    ("additionalProperties", {"additionalProperties": ADDRESS}, {"any": {"city": 1}}, {"any": {"x": 1}}),
    ("allOf beside properties", BRANCHES, {"a": 1, "b": 1, "c": 1}, {"d": 1}),
    ("a reference", {"$defs": {"a": ADDRESS}, "$ref": "#/$defs/a"}, {"city": 1}, {"x": 1}),
    (
        "a nested reference",
        {"$defs": {"a": ADDRESS}, "properties": {"to": {"$ref": "#/$defs/a"}}},
        *({"to": {"city": 1}}, {"to": {"x": 1}}),
    ),
    ("recursion", NODE, {"root": {"kids": [{"kids": []}]}}, {"root": {"kids": [{"x": 1}]}}),
    ("a branch of anyOf", {"anyOf": [ADDRESS, {"properties": {"zip": True}}]}, {"zip": 1}, {"x": 1}),
    (
        "then",
        {"if": {"required": ["k"]}, "then": {"properties": {"k": True, "v": True}}},
        {"k": 1, "v": 1},
        {"k": 1, "x": 1},
    ),
    ("below a branch", {"allOf": [{"properties": {"to": ADDRESS}}]}, {"to": {"city": 1}}, {"to": {"x": 1}}),
    ("a property called properties", {"properties": {"properties": ADDRESS}}, {"properties": {"city": 1}}, {"city": 1}),
]


@pytest.mark.parametrize(("schema", "good", "unknown"), [c[1:] for c in CLOSING], ids=[c[0] for c in CLOSING])
def test_a_closed_schema_refuses_what_it_does_not_declare(schema: Any, good: Any, unknown: Any) -> None:
    assert compile_schema(schema).problems(unknown) == []
    closed = compile_schema(close_schema(schema))
    assert closed.problems(good) == []
    assert closed.problems(unknown) != []


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"properties": {"a": True}, "additionalProperties": True}, {"x": 1}),
        ({"properties": {"a": True}, "additionalProperties": {"type": "integer"}}, {"x": 1}),
        ({"properties": {"a": True}, "unevaluatedProperties": True}, {"x": 1}),
        ({"properties": {"free": {"type": "object"}}}, {"free": {"x": 1}}),
        ({"properties": {"free": {"properties": {"a": True}, "additionalProperties": True}}}, {"free": {"x": 1}}),
        ({"$defs": {"f": {"type": "object"}}, "properties": {"free": {"$ref": "#/$defs/f"}}}, {"free": {"x": 1}}),
        ({"allOf": [{"additionalProperties": True}]}, {"x": 1}),
    ],
)
def test_a_schema_that_says_otherwise_stays_open(schema: Any, value: Any) -> None:
    assert compile_schema(close_schema(schema)).problems(value) == []


def test_conditions_are_left_alone_because_a_stricter_condition_lets_more_through() -> None:
    condition = {
        "properties": {"to": {"properties": {"city": {"const": "x"}}, "required": ["city"]}},
        "required": ["to"],
    }
    schema = {"properties": {"to": {"additionalProperties": True}}, "not": condition}
    forbidden = {"to": {"city": "x", "more": 1}}
    assert compile_schema(schema).problems(forbidden) != []
    assert compile_schema(close_schema(schema)).problems(forbidden) != []


def test_closing_leaves_the_schema_as_it_was() -> None:
    schema: dict[str, Any] = {"properties": {"to": {"properties": {}}}}
    close_schema(schema)
    assert schema == {"properties": {"to": {"properties": {}}}}


def test_what_a_schema_declares_comes_from_every_branch_and_reference() -> None:
    schema = {
        "$defs": {"d": {"properties": {"d": {"type": "integer"}}}},
        "properties": {"a": True, "d": {"minimum": 1}},
        "allOf": [{"properties": {"b": True}}, {"anyOf": [{"properties": {"c": True}}]}],
        "$ref": "#/$defs/d",
        "not": {"properties": {"never": True}},
    }
    said = declared(schema, schema)
    assert set(said.properties) == {"a", "b", "c", "d"}
    assert said.properties["d"] == ({"minimum": 1}, {"type": "integer"})
    assert said.known


@pytest.mark.parametrize(
    ("schema", "is_open"),
    [
        ({}, True),
        ({"additionalProperties": False}, False),
        ({"unevaluatedProperties": False, "allOf": [{}]}, False),
        ({"additionalProperties": {"type": "integer"}}, True),
        ({"additionalProperties": False, "patternProperties": {"^x": True}}, True),
        ({"unevaluatedProperties": False, "allOf": [{"additionalProperties": True}]}, True),
    ],
)
def test_a_schema_is_open_where_undeclared_properties_may_pass(schema: Any, is_open: bool) -> None:
    assert declared(schema, schema).open is is_open


@pytest.mark.parametrize("reference", ["#anchor", "other.json", "#/$defs/none", "#/allOf/7"])
def test_a_reference_that_cannot_be_followed_is_known_to_be_unknown(reference: str) -> None:
    schema = {"$ref": reference, "allOf": [True]}
    assert not declared(schema, schema).known


def test_references_are_unescaped_and_followed_through_lists() -> None:
    root = {"$defs": {"a/b~c%": {"x": 1}}, "allOf": [{"y": 1}]}
    assert local(root, "#/$defs/a~1b~0c%25") == {"x": 1}
    assert local(root, "#/allOf/0") == {"y": 1}
    assert local(root, "#") is root


def test_a_dotted_path_looks_through_arrays_references_and_branches() -> None:
    schema = {
        "$defs": {"mail": {"properties": {"address": {"type": "string"}}}},
        "properties": {
            "to": {"type": "array", "items": {"$ref": "#/$defs/mail"}},
            "cc": {"prefixItems": [{"$ref": "#/$defs/mail"}]},
        },
        "allOf": [{"properties": {"secret": {"properties": {"pin": {"type": "integer"}}}}}],
    }
    assert at_path(schema, "to.address") == [{"type": "string"}]
    assert at_path(schema, "cc.address") == [{"type": "string"}]
    assert at_path(schema, "secret.pin") == [{"type": "integer"}]
    assert at_path(schema, "to.adress") == at_path(schema, "pin") == at_path(schema, "") == []


def test_a_path_in_a_schema_that_refers_to_itself_ends() -> None:
    schema = {"properties": {"next": {"$ref": "#"}}, "allOf": [{"$ref": "#"}]}
    assert at_path(schema, "next.next.next") == [{"$ref": "#"}]
    assert at_path(schema, "next.none") == []


def test_types_are_those_of_the_schema_and_its_references() -> None:
    root = {"$defs": {"s": {"type": ["string", "null"]}}}
    assert types_of(root, {"$ref": "#/$defs/s"}) == {"string", "null"}
    assert types_of(root, {"type": "integer"}) == {"integer"}
    assert types_of(root, True) == set()


def test_pointers_are_escaped_and_capped() -> None:
    assert pointer(["a/b", 0, "c~d"]) == "/a~1b/0/c~0d"
    assert len(pointer(["k" * 60] * 50)) == 240


def test_text_for_a_sentence_is_capped_and_printable() -> None:
    assert printable("a\x00\u200bé") == "a\\u0000\\u200bé"
    assert printable("x" * 100) == "x" * 61 + "..."
