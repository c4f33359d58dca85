"""From a reference answer to one call: which of the acceptable values, and its bytes."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tests.suites.bfcl.data import Reference, Token


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One call to send: a tree whose numbers are Tokens."""

    id: str
    tool: str
    arguments: dict[str, Any]


def chosen(reference: Reference) -> dict[str, Any]:
    """The arguments of a reference call. The first acceptable value of each, in the answer's order; "" in the first place is
    the data set's sign for "may be left out", and is left out where the published schema does not require it. Inside an object
    each property has a list of acceptable values again, and the same rule holds; a value there that is no list is itself."""
    return _object(reference.answer, reference.function.parameters)


def write(tree: Any, *, spaced: bool = False) -> str:
    """JSON text, number tokens as they are; compact, or with a blank after comma and colon as models write it."""
    comma, colon = (", ", ": ") if spaced else (",", ":")
    if isinstance(tree, Token):
        return tree.text
    if isinstance(tree, dict):
        pairs = (json.dumps(k, ensure_ascii=False) + colon + write(v, spaced=spaced) for k, v in tree.items())
        return "{" + comma.join(pairs) + "}"
    if isinstance(tree, list):
        return "[" + comma.join(write(item, spaced=spaced) for item in tree) + "]"
    return json.dumps(tree, ensure_ascii=False)


def backwards(tree: Any) -> Any:
    """The same with the keys of every object in reverse order."""
    if isinstance(tree, dict):
        return {key: backwards(tree[key]) for key in reversed(tree)}
    return [backwards(item) for item in tree] if isinstance(tree, list) else tree


def _object(options: Mapping[str, Any], schema: Mapping[str, Any]) -> dict[str, Any]:
    properties, required = schema.get("properties", {}), schema.get("required", ())
    tree = {}
    for name, acceptable in options.items():
        value = acceptable[0] if isinstance(acceptable, list) and acceptable else acceptable
        if value == "" and name not in required:
            continue
        tree[name] = _value(value, properties.get(name, {}))
    return tree


def _value(value: Any, schema: Mapping[str, Any]) -> Any:
    if isinstance(value, dict):
        return _object(value, schema)
    if isinstance(value, list):
        return [_value(item, schema.get("items", {})) for item in value]
    return value
