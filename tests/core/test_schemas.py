"""Compiled JSON Schemas: the library against its oracle, and that a fault is a bounded sentence and never an exception."""

import math
import re
import time
from typing import Any

import jsonschema  # type: ignore[import-untyped]  # its stubs are not among our tools
import pytest

from proxy.core.schemas import MAX_PROBLEMS, CompiledSchema, SchemaError, compile_schema

TREE = {
    "$defs": {"node": {"properties": {"next": {"$ref": "#/$defs/node"}, "id": {"type": "integer"}}}},
    "$ref": "#/$defs/node",
}
COMPOSED = {"allOf": [{"properties": {"a": True}}], "properties": {"b": True}, "unevaluatedProperties": False}
DYNAMIC = {"$dynamicAnchor": "n", "properties": {"k": {"$dynamicRef": "#n"}, "v": {"type": "integer"}}}
SIBLING = {"$defs": {"s": {"type": "string"}}, "$ref": "#/$defs/s", "maxLength": 2}

# (what it is about, schema, a value, whether it is valid by the specification)
EDGES: list[tuple[str, Any, Any, bool]] = [
    ("prefixItems", {"prefixItems": [{"type": "integer"}]}, ["x"], False),
    ("items after prefixItems", {"prefixItems": [True], "items": False}, [1, 2], False),
    ("unevaluatedProperties", COMPOSED, {"c": 1}, False),
    ("unevaluatedProperties of a branch", COMPOSED, {"a": 1, "b": 2}, True),
    ("unevaluatedItems", {"prefixItems": [True], "unevaluatedItems": False}, [1, 2], False),
    ("dependentRequired", {"dependentRequired": {"a": ["b"]}}, {"a": 1}, False),
    ("dependentSchemas", {"dependentSchemas": {"a": {"required": ["b"]}}}, {"a": 1}, False),
    ("$ref beside siblings", SIBLING, "long", False),
    ("minContains", {"contains": {"type": "integer"}, "minContains": 2}, [1, "x"], False),
    ("$dynamicRef", DYNAMIC, {"k": {"v": "x"}}, False),
    ("recursion", TREE, {"next": {"next": {"id": "x"}}}, False),
    ("true is not an integer", {"type": "integer"}, True, False),
    ("5.0 is an integer", {"type": "integer"}, 5.0, True),
    ("5.5 is not", {"type": "integer"}, 5.5, False),
    ("an integer beyond 2^64", {"type": "integer"}, 2**64 + 1, True),
    ("const tells 1 from true", {"const": 1}, True, False),
    ("enum tells 0 from false", {"enum": [0]}, False, False),
    ("1 and true are not the same item", {"uniqueItems": True}, [1, True], True),
    ("1 and 1.0 are the same item", {"uniqueItems": True}, [1, 1.0], False),
    ("multipleOf on a double", {"multipleOf": 0.5}, 1e308, True),
    ("a maximum against an integer of 400 digits", {"maximum": 10}, 10**399, False),
    ("if and else", {"if": {"required": ["a"]}, "else": {"required": ["b"]}}, {}, False),
    ("a pattern is searched, not matched", {"pattern": "b"}, "abc", True),
    ("length in code points", {"maxLength": 1}, "\U0001f600", True),
]


@pytest.mark.parametrize(("schema", "value", "valid"), [e[1:] for e in EDGES], ids=[e[0] for e in EDGES])
def test_the_library_agrees_with_the_oracle_and_the_specification(schema: Any, value: Any, valid: bool) -> None:
    assert jsonschema.Draft202012Validator(schema).is_valid(value) is valid
    assert (compile_schema(schema).problems(value) == []) is valid


@pytest.mark.parametrize(("pattern", "value"), [("^a$", "a\n"), ("^\\d$", "\u0663")])
def test_patterns_are_ecma_262_where_the_oracle_has_pythons(pattern: str, value: str) -> None:
    assert jsonschema.Draft202012Validator({"pattern": pattern}).is_valid(value)
    assert compile_schema({"pattern": pattern}).problems(value) == [("", f"must match the pattern {pattern}")]


def test_multiple_of_is_judged_in_decimals() -> None:
    assert compile_schema({"multipleOf": 0.01}).problems(19.99) == []
    assert compile_schema({"multipleOf": 0.1}).problems(10.1) == []
    assert compile_schema({"multipleOf": 0.1}).problems(10.15) == [("", "must be a multiple of 0.1")]


def test_not_a_number_is_never_a_number() -> None:
    assert compile_schema({"type": "number"}).problems(math.nan) != []


def test_format_is_asserted() -> None:
    date = compile_schema({"format": "date"})
    assert date.problems("2027-02-30") == [("", "must be a valid date")]
    assert date.problems("2027-02-28") == []


@pytest.mark.parametrize(
    ("value", "kind"),
    [("\ud800", "UnicodeEncodeError"), ({1: 2}, "ValueError"), (object(), "ValueError"), ({"a": {1, 2}}, "ValueError")],
)
def test_a_value_that_the_library_cannot_read_is_one_problem(value: Any, kind: str) -> None:
    schema = {"type": ["string", "object"], "properties": {"a": {"type": "string"}}}
    assert compile_schema(schema).problems(value) == [("", f"cannot be checked ({kind})")]


class RustPanicError(BaseException):
    """As the library's own `PanicException`: not an `Exception`."""


class Breaking:
    """A library that fails in the middle of its work."""

    def __init__(self, how: BaseException) -> None:
        self.how = how

    def is_valid(self, value: Any) -> bool:
        raise self.how


def breaking(how: BaseException) -> CompiledSchema:
    library: Any = Breaking(how)
    return CompiledSchema(library, {}, "property")


def test_a_panic_in_the_library_is_a_problem_and_an_interrupt_is_not() -> None:
    assert breaking(RustPanicError()).problems(1) == [("", "cannot be checked (RustPanicError)")]
    assert breaking(MemoryError()).problems(1) == [("", "cannot be checked (MemoryError)")]
    with pytest.raises(KeyboardInterrupt):
        breaking(KeyboardInterrupt()).problems(1)


def test_problems_are_capped_in_number_and_the_rest_is_announced() -> None:
    problems = compile_schema({"items": {"type": "integer"}}).problems(["x"] * 100)
    assert problems[:2] == [("/0", "must be integer, got string"), ("/1", "must be integer, got string")]
    assert problems[MAX_PROBLEMS:] == [("", "more is wrong than is listed here")]


def test_a_large_value_with_a_fault_in_every_item_costs_little() -> None:
    value = ["x"] * 200_000
    began = time.process_time()
    problems = compile_schema({"items": {"type": "integer"}}).problems(value)
    assert time.process_time() - began < 0.5  # all faults took seconds
    assert problems == [("/0", "must be integer, got string"), ("", "more may be wrong, the value is large")]


def test_a_pattern_that_explodes_does_not_match_in_bounded_time() -> None:
    evil = "^(a|aa)+\\1b$"
    began = time.process_time()
    assert compile_schema({"pattern": evil}).problems("a" * 5000) != []
    assert compile_schema({"not": {"pattern": evil}}).problems("a" * 5000) != []
    assert time.process_time() - began < 1.0


UNUSABLE: list[tuple[Any, str, str]] = [
    ([], "", "a schema must be an object"),
    ({"type": "strin"}, "/type", "is not valid under any"),
    ({"properties": {"a": {"minimum": "x"}}}, "/properties/a/minimum", 'is not of type "number"'),
    ({"properties": {"a": {"pattern": "("}}}, "/properties/a/pattern", "regex"),
    ({"$ref": "#/$defs/Widget"}, "", "does not exist"),
    ({"$ref": "other.json"}, "", "No base URI"),
    ({"$ref": "http://127.0.0.1:9/x.json"}, "", "Retrieval is disabled"),
    ({"$ref": "file:///etc/passwd"}, "", "Retrieval is disabled"),
    ({"$schema": "http://json-schema.org/draft-07/schema#"}, "/$schema", "only JSON Schema 2020-12"),
    ({"properties": {"a": {"$schema": "http://x/y"}}}, "/properties/a/$schema", "only JSON Schema 2020-12"),
    ({"items": {"$id": "http://x/y"}}, "/items/$id", "not supported"),
]


@pytest.mark.parametrize(("schema", "where", "what"), UNUSABLE, ids=[str(u[0])[:50] for u in UNUSABLE])
def test_an_unusable_schema_is_refused_with_its_place(schema: Any, where: str, what: str) -> None:
    with pytest.raises(SchemaError, match=re.escape(what)) as caught:
        compile_schema(schema)
    assert [w for w, _ in caught.value.problems] == [where]


def test_every_fault_of_a_schema_is_listed() -> None:
    with pytest.raises(SchemaError) as caught:
        compile_schema({"type": 1, "properties": {"a": {"minimum": "x"}, "b": {"required": True}}})
    assert sorted(w for w, _ in caught.value.problems) == ["/properties/a/minimum", "/properties/b/required", "/type"]


def test_a_schema_nested_beyond_reason_is_refused() -> None:
    schema: dict[str, Any] = {}
    for _ in range(5000):
        schema = {"not": schema}
    with pytest.raises(SchemaError):
        compile_schema(schema)


def test_a_schema_that_refers_to_itself_in_place_gets_an_answer() -> None:
    assert compile_schema({"allOf": [{"$ref": "#"}]}).problems(1) == []
    assert compile_schema({"not": {"$ref": "#"}}).problems(1) != []


def test_the_specifications_own_schema_may_be_referred_to_without_a_network() -> None:
    assert compile_schema({"$ref": "https://json-schema.org/draft/2020-12/schema"}).problems({"type": 1}) != []
