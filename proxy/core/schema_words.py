"""Faults of the JSON Schema library in our own sentences: what was wanted (from the schema) and the type that came."""

import difflib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import jsonschema_rs

from proxy.core.schema_shape import declared, pointer, printable

MAX_SENTENCE = 240
_MAX_NAMES = 25


def sentences(
    error: jsonschema_rs.ValidationError, value: Any, schema: Mapping[str, Any], noun: str
) -> list[tuple[str, str]]:
    """`(JSON pointer, sentence)` for one fault of `value`; several where it names several unknown properties."""
    where = pointer(error.instance_path)
    if unknown := _unknown(error, value, schema):
        known = _known(schema, error.schema_path[:-1])
        return [(where, _cut(_unknown_property(name, known, noun))) for name in unknown[:_MAX_NAMES]]
    return [(where, _cut(_sentence(error, noun)))]


def json_type(value: Any) -> str:
    """The JSON type of a Python value; `integer` and `number` are told apart by how Python read them."""
    for kind, name in _TYPES:
        if isinstance(value, kind):
            return name
    return "null" if value is None else "number"


_TYPES: tuple[tuple[type, str], ...] = (
    (bool, "boolean"),
    (int, "integer"),
    (str, "string"),
    (list, "array"),
    (dict, "object"),
)


def _unknown(error: jsonschema_rs.ValidationError, value: Any, schema: Mapping[str, Any]) -> list[str]:
    if error.kind.name in ("additionalProperties", "unevaluatedProperties"):
        return list(getattr(error.kind, "unexpected", ()))
    # With no property declared beside it the library says only that `additionalProperties: false` allows nothing.
    if error.kind.name == "falseSchema" and error.schema_path[-1:] == ["additionalProperties"]:
        place = _at(value, error.instance_path)
        known = _known(schema, error.schema_path[:-1])
        return [name for name in place if name not in known] if isinstance(place, dict) else []
    return []


def _known(schema: Mapping[str, Any], path: Sequence[str | int]) -> list[str]:
    return list(declared(schema, _at(schema, path)).properties)


def _at(tree: Any, path: Sequence[str | int]) -> Any:
    for step in path:
        if isinstance(tree, dict):
            tree = tree.get(step)
        elif isinstance(tree, list) and isinstance(step, int):
            tree = tree[step]
    return tree


def _unknown_property(name: str, known: list[str], noun: str) -> str:
    close = difflib.get_close_matches(name[:64].lower(), [k.lower() for k in known], n=1)
    hint = next((f"; did you mean '{printable(k)}'?" for k in known if [k.lower()] == close), "")
    return f"unknown {noun} '{printable(name)}'{hint}"


def _sentence(error: jsonschema_rs.ValidationError, noun: str) -> str:
    name = error.kind.name
    if name not in _SENTENCES:
        return f"breaks the rule '{printable(name)}'"
    field, sentence = _SENTENCES[name]
    wanted = _wanted(field, getattr(error.kind, field)) if field else ""
    return sentence.format(wanted=wanted, noun=noun, got=json_type(error.instance))


def _wanted(field: str, value: Any) -> str:
    if field == "types":
        return " or ".join(value)
    if field == "options":
        return _options(value)
    return printable(value) if field in ("property", "pattern", "format") else _said(value)


def _said(value: Any) -> str:
    return printable(json.dumps(value, ensure_ascii=False, default=str), 60)


def _options(options: Sequence[Any]) -> str:
    shown = ", ".join(_said(o) for o in options[:10])
    return shown + (f" and {len(options) - 10} more" if len(options) > 10 else "")


def _cut(sentence: str) -> str:
    return sentence if len(sentence) <= MAX_SENTENCE else sentence[: MAX_SENTENCE - 3] + "..."


# The library's name of a fault -> the attribute that says what was wanted, and the sentence.
_SENTENCES: Mapping[str, tuple[str, str]] = {
    "type": ("types", "must be {wanted}, got {got}"),
    "required": ("property", "{noun} '{wanted}' is missing"),
    "enum": ("options", "must be one of {wanted}"),
    "const": ("expected_value", "must be {wanted}"),
    "anyOf": ("", "fits none of the allowed forms, got {got}"),
    "oneOf": ("", "must fit exactly one of the allowed forms, got {got}"),
    "not": ("", "has a form that is not allowed"),
    "contains": ("", "does not hold the items that it must hold"),
    "uniqueItems": ("", "must not hold an item twice"),
    "propertyNames": ("", "holds a name that is not allowed"),
    "falseSchema": ("", "is not allowed"),
    "minimum": ("limit", "must be at least {wanted}"),
    "maximum": ("limit", "must be at most {wanted}"),
    "exclusiveMinimum": ("limit", "must be more than {wanted}"),
    "exclusiveMaximum": ("limit", "must be less than {wanted}"),
    "multipleOf": ("multiple_of", "must be a multiple of {wanted}"),
    "minLength": ("limit", "must have at least {wanted} characters"),
    "maxLength": ("limit", "must have at most {wanted} characters"),
    "minItems": ("limit", "must have at least {wanted} items"),
    "maxItems": ("limit", "must have at most {wanted} items"),
    "minProperties": ("limit", "must have at least {wanted} properties"),
    "maxProperties": ("limit", "must have at most {wanted} properties"),
    "pattern": ("pattern", "must match the pattern {wanted}"),
    "format": ("format", "must be a valid {wanted}"),
}
