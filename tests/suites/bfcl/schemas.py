"""The one table from the data set's type names to JSON Schema, and the rule for names. What has no row is refused."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from tests.suites.bfcl.data import Function

# Each row says all that its type says: `long` keeps its range, `char` its length. `any` is said aloud, since JSON Schema would
# take a missing `type` for it. JSON has one kind of number, so `float` and `double` are `number`. `tuple` has no fixed length
# in the data set (its `items` is one schema), so it is an array. Names are matched as written; there is no row for "".
TYPES: Mapping[str, Mapping[str, Any]] = {
    "string": {"type": "string"},
    "integer": {"type": "integer"},
    "boolean": {"type": "boolean"},
    "array": {"type": "array"},
    "dict": {"type": "object"},
    "float": {"type": "number"},
    "tuple": {"type": "array"},
    "any": {"type": ["null", "boolean", "integer", "number", "string", "array", "object"]},
    # Java and JavaScript
    "String": {"type": "string"},
    "Boolean": {"type": "boolean"},
    "Array": {"type": "array"},
    "ArrayList": {"type": "array"},
    "HashMap": {"type": "object"},
    "double": {"type": "number"},
    "long": {"type": "integer", "minimum": -(2**63), "maximum": 2**63 - 1},
    "char": {"type": "string", "minLength": 1, "maxLength": 1},
}
_KEPT = frozenset({"description", "default", "required", "enum", "format", "maximum", "minItems", "maxItems"})
# Says once more what `required` leaves out. It never makes a required argument optional.
_DROPPED = frozenset({"optional"})


class UntranslatableError(ValueError):
    """A schema that the table cannot express."""


def translate(schema: Any, where: str = "") -> dict[str, Any]:
    """The published schema as JSON Schema 2020-12. Raises UntranslatableError for a type without a row, a keyword that a
    validator would pass over, or two that contradict."""
    if not isinstance(schema, dict):
        raise UntranslatableError(f"{where or '/'}: not a schema")
    row = TYPES.get(schema["type"]) if isinstance(schema.get("type"), str) else None
    if row is None:
        raise UntranslatableError(f"{where or '/'}: no row for type {schema.get('type')!r}")
    translated: dict[str, Any] = dict(row)
    for key, value in schema.items():
        if key in row.keys() - {"type"}:
            raise UntranslatableError(f"{where or '/'}: {key} is said twice")
        if key == "properties" and isinstance(value, dict):
            translated[key] = {name: translate(sub, f"{where}/{name}") for name, sub in value.items()}
        elif key == "items":
            translated[key] = translate(value, f"{where}/[]")
        elif key in _KEPT:
            translated[key] = value
        elif key not in _DROPPED and key != "type":
            raise UntranslatableError(f"{where or '/'}: unknown keyword {key!r}")
    return translated


def tool_names(functions: Iterable[Function]) -> dict[str, str]:
    """Function key -> tool name: what is not A-Z a-z 0-9 _ - becomes `_`, cut at 64; who comes to a name that is taken, upper
    and lower case alike, gets `-2`, `-3`, ... in its place."""
    names: dict[str, str] = {}
    taken: set[str] = set()
    for function in functions:
        plain = re.sub(r"[^A-Za-z0-9_-]", "_", function.name)
        name, n = plain[:64], 1
        while name.casefold() in taken:
            n += 1
            name = plain[: 64 - len(f"-{n}")] + f"-{n}"
        taken.add(name.casefold())
        names[function.key] = name
    return names
