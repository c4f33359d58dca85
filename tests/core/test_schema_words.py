"""Sentences about faults: what was wanted, the type that came, never the value."""

from typing import Any

import pytest

from proxy.core.schema_words import MAX_SENTENCE, json_type
from proxy.core.schemas import compile_schema

CANARY = "sk-canary-5f1e"
LIMITS = {"minLength": 50, "pattern": "^x", "format": "date"}

SENTENCES: list[tuple[Any, Any, list[tuple[str, str]]]] = [
    ({"type": "integer"}, CANARY, [("", "must be integer, got string")]),
    ({"type": ["integer", "null"]}, CANARY, [("", "must be null or integer, got string")]),
    ({"type": "integer"}, True, [("", "must be integer, got boolean")]),
    ({"type": "integer"}, 1.5, [("", "must be integer, got number")]),
    ({"type": "string"}, None, [("", "must be string, got null")]),
    ({"type": "string"}, [CANARY], [("", "must be string, got array")]),
    ({"type": "string"}, {"a": CANARY}, [("", "must be string, got object")]),
    ({"required": ["a"]}, {}, [("", "argument 'a' is missing")]),
    ({"dependentRequired": {"a": ["b"]}}, {"a": CANARY}, [("", "argument 'b' is missing")]),
    ({"enum": ["a", 1, None]}, CANARY, [("", 'must be one of "a", 1, null')]),
    ({"enum": list(range(12))}, CANARY, [("", "must be one of 0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 2 more")]),
    ({"const": "a"}, CANARY, [("", 'must be "a"')]),
    ({"anyOf": [{"type": "integer"}, {"type": "null"}]}, CANARY, [("", "fits none of the allowed forms, got string")]),
    ({"oneOf": [True, True]}, CANARY, [("", "must fit exactly one of the allowed forms, got string")]),
    ({"not": {}}, CANARY, [("", "has a form that is not allowed")]),
    ({"contains": {"type": "integer"}}, [CANARY], [("", "does not hold the items that it must hold")]),
    ({"uniqueItems": True}, [CANARY, CANARY], [("", "must not hold an item twice")]),
    ({"propertyNames": {"pattern": "^a"}}, {"b": CANARY}, [("", "holds a name that is not allowed")]),
    ({"properties": {"a": False}}, {"a": CANARY}, [("/a", "is not allowed")]),
    ({"minimum": 5}, 4, [("", "must be at least 5")]),
    ({"maximum": 5}, 6, [("", "must be at most 5")]),
    ({"exclusiveMinimum": 5}, 5, [("", "must be more than 5")]),
    ({"exclusiveMaximum": 5}, 5, [("", "must be less than 5")]),
    ({"multipleOf": 2.5}, 3, [("", "must be a multiple of 2.5")]),
    ({"maxLength": 3}, CANARY, [("", "must have at most 3 characters")]),
    ({"minItems": 2}, [CANARY], [("", "must have at least 2 items")]),
    ({"maxItems": 0}, [CANARY], [("", "must have at most 0 items")]),
    ({"minProperties": 2}, {"a": CANARY}, [("", "must have at least 2 properties")]),
    ({"maxProperties": 0}, {"a": CANARY}, [("", "must have at most 0 properties")]),
    ({"additionalProperties": False}, {"a": CANARY}, [("", "unknown argument 'a'")]),
    ({"items": False}, [CANARY], [("/0", "is not allowed")]),
]


@pytest.mark.parametrize(("schema", "value", "wanted"), SENTENCES, ids=[str(s[0])[:60] for s in SENTENCES])
def test_each_kind_of_fault_has_its_sentence_without_the_value(
    schema: Any, value: Any, wanted: list[tuple[str, str]]
) -> None:
    problems = compile_schema(schema, noun="argument").problems(value)
    assert problems == wanted
    assert CANARY not in str(problems)


def test_all_faults_are_said_at_once() -> None:
    problems = compile_schema(LIMITS).problems(CANARY)
    assert sorted(what for _, what in problems) == [
        "must be a valid date",
        "must have at least 50 characters",
        "must match the pattern ^x",
    ]


CLOSED = {"properties": {"supplier_id": True, "week": True}, "additionalProperties": False}


@pytest.mark.parametrize(
    ("schema", "value", "where", "name", "hint"),
    [
        (CLOSED, {"suplier_id": 1}, "", "suplier_id", "supplier_id"),
        (CLOSED, {"SUPPLIER_ID": 1}, "", "SUPPLIER_ID", "supplier_id"),
        (CLOSED, {"colour": 1}, "", "colour", None),
        ({"properties": {"at": CLOSED}}, {"at": {"weak": 1}}, "/at", "weak", "week"),
        (
            {"$defs": {"d": {"properties": {"limit": True}}}, "$ref": "#/$defs/d", "unevaluatedProperties": False},
            *({"limt": 1}, "", "limt", "limit"),
        ),
    ],
)
def test_an_unknown_argument_is_named_and_a_close_one_suggested(
    schema: Any, value: Any, where: str, name: str, hint: str | None
) -> None:
    said = f"; did you mean '{hint}'?" if hint else ""
    problems = compile_schema(schema, noun="argument").problems(value)
    assert problems == [(where, f"unknown argument '{name}'{said}")]


def test_names_that_came_are_capped_and_show_no_control_or_bidi_characters() -> None:
    problems = compile_schema({"additionalProperties": False}, noun="argument").problems(
        {"a\n\u202eb" + "c" * 10_000: 1}
    )
    assert problems == [("", "unknown argument 'a\\u000a\\u202eb" + "c" * 57 + "...'")]


def test_pointers_and_sentences_have_a_limit() -> None:
    deep: Any = "x"
    schema: Any = {"type": "integer", "enum": ["y" * 1000] * 10 + ["z"]}
    for _ in range(40):
        deep, schema = {"k" * 100: deep}, {"additionalProperties": schema}
    problems = compile_schema(schema).problems(deep)
    assert len(problems) == 2
    assert all(len(where) <= 240 and len(what) <= MAX_SENTENCE for where, what in problems)


def test_many_unknown_names_make_few_sentences() -> None:
    problems = compile_schema({"additionalProperties": False}).problems({f"k{n}": 1 for n in range(500)})
    assert len(problems) == 21
    assert problems[-1] == ("", "more is wrong than is listed here")


@pytest.mark.parametrize(
    ("value", "name"),
    [(True, "boolean"), (1, "integer"), (1.0, "number"), ("", "string"), ([], "array"), ({}, "object"), (None, "null")],
)
def test_types_have_their_json_names(value: Any, name: str) -> None:
    assert json_type(value) == name
