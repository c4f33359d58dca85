"""What a JSON Schema document says about its own form: where subschemas are, which properties it declares, and closing it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

MAX_POINTER = 240
DIALECT = "https://json-schema.org/draft/2020-12/schema"

# Keywords by what their subschemas apply to: the same value, a part of it, or nothing by themselves.
_IN_PLACE_LISTS = ("allOf", "anyOf", "oneOf")
_IN_PLACE_MAPS = ("dependentSchemas",)
_IN_PLACE_ONE = ("then", "else")
_PART_MAPS = ("properties", "patternProperties")
_PART_ONE = ("items", "additionalProperties", "unevaluatedItems", "unevaluatedProperties")
_PART_LISTS = ("prefixItems",)
_DEFINITIONS = ("$defs", "definitions")
# Never closed: a stricter condition here would let more through, not less.
_CONDITIONS = ("not", "if", "contains", "propertyNames")
_COMPOSE = (*_IN_PLACE_LISTS, *_IN_PLACE_MAPS, "if", "$ref", "$dynamicRef")
_SAYS = ("additionalProperties", "unevaluatedProperties")


@dataclass(frozen=True, slots=True, kw_only=True)
class Declared:
    """Properties that a schema declares for its own level, and whether others may pass as well."""

    properties: Mapping[str, tuple[Any, ...]]  # name -> its subschemas, from every branch that applies in place
    open: bool
    known: bool  # whether every reference on the way could be followed


def declared(root: Mapping[str, Any], schema: Any) -> Declared:
    """What `schema`, a part of `root`, declares by itself and through `allOf`, `anyOf`, `$ref` and the like."""
    properties: dict[str, tuple[Any, ...]] = {}
    branches = [b for b in _in_place(root, schema, set()) if isinstance(b, dict)]
    for branch in branches:
        for name, sub in branch.get("properties", {}).items():
            properties[name] = (*properties.get(name, ()), sub)
    says = [branch[key] for branch in branches for key in _SAYS if key in branch]
    loose = not any(s is False for s in says) or any(s is not False for s in says)
    loose = loose or any(branch.get("patternProperties") for branch in branches)
    unknown = any("$dynamicRef" in b or ("$ref" in b and local(root, b["$ref"]) is None) for b in branches)
    return Declared(properties=properties, open=loose, known=not unknown)


def at_path(root: Mapping[str, Any], path: str) -> list[Any]:
    """All subschemas that a dotted path names; arrays on the way are looked through. Empty if there is none."""
    found: list[Any] = [root]
    for name in path.split("."):
        found = [sub for schema in found for sub in _children(root, schema, name)]
    return found


def types_of(root: Mapping[str, Any], schema: Any) -> frozenset[str]:
    """The JSON types that `schema` names for its value; empty if it names none."""
    named: set[str] = set()
    for branch in _in_place(root, schema, set()):
        value = branch.get("type", ()) if isinstance(branch, dict) else ()
        named.update([value] if isinstance(value, str) else value)
    return frozenset(named)


def close_schema(schema: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of a valid schema that refuses unknown properties at the top level, and in every nested object schema that
    declares properties, unless it says otherwise: `additionalProperties: false`, or `unevaluatedProperties: false` where it
    composes."""
    closed: dict[str, Any] = _closed(schema, schema, top=True, own=True)
    return closed


def shape_problems(schema: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What we do not take although the meta-schema does: other dialects (they read the same words otherwise), embedded `$id`."""
    faults = []
    for where, part in _walk(schema, ""):
        if part.get("$schema", DIALECT) not in (DIALECT, DIALECT + "#"):
            faults.append((f"{where}/$schema", "only JSON Schema 2020-12 is understood"))
        if where and "$id" in part:
            faults.append((f"{where}/$id", "a schema embedded under its own $id is not supported"))
    return faults


def in_place(root: Mapping[str, Any], schema: Any) -> list[Mapping[str, Any]]:
    """The schema and every subschema that applies to the same value."""
    return list(_in_place(root, schema, set()))


def local(root: Mapping[str, Any], reference: Any) -> Any:
    """What a `#/...` reference names in the same document; None if it is of another kind or leads nowhere (RFC 6901)."""
    if reference == "#":
        return root
    if not isinstance(reference, str) or not reference.startswith("#/"):
        return None
    place: Any = root
    for step in reference[2:].split("/"):
        key = unquote(step).replace("~1", "/").replace("~0", "~")
        if isinstance(place, dict) and key in place:
            place = place[key]
        elif isinstance(place, list) and key.isdecimal() and int(key) < len(place):
            place = place[int(key)]
        else:
            return None
    return place


def pointer(path: list[str | int]) -> str:
    """A JSON pointer (RFC 6901) for a sentence: free of control characters, capped in its steps and as a whole."""
    whole = "".join("/" + printable(str(step)).replace("~", "~0").replace("/", "~1") for step in path)
    return whole if len(whole) <= MAX_POINTER else whole[: MAX_POINTER - 3] + "..."


def printable(text: str, limit: int = 64) -> str:
    """`text` for a sentence: at most `limit` characters, what does not print as an escape."""
    cut = text if len(text) <= limit else text[: limit - 3] + "..."
    return "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in cut)


def _in_place(root: Mapping[str, Any], schema: Any, seen: set[int]) -> Iterator[Any]:
    """The schema and every subschema that applies to the same value; each once, so recursion ends."""
    if not isinstance(schema, dict) or id(schema) in seen:
        return
    seen.add(id(schema))
    yield schema
    for sub in _branches(schema):
        yield from _in_place(root, sub, seen)
    if "$ref" in schema:
        yield from _in_place(root, local(root, schema["$ref"]), seen)


def _branches(schema: Mapping[str, Any]) -> Iterator[Any]:
    for key in _IN_PLACE_LISTS:
        yield from schema.get(key, ())
    for key in _IN_PLACE_MAPS:
        yield from schema.get(key, {}).values()
    yield from (schema[key] for key in ("if", *_IN_PLACE_ONE) if key in schema)


def _children(root: Mapping[str, Any], schema: Any, name: str) -> list[Any]:
    found: list[Any] = []
    pending, seen = [schema], set[int]()
    while pending:
        for branch in _in_place(root, pending.pop(), seen):
            found += [branch["properties"][name]] if name in branch.get("properties", {}) else []
            pending += [branch["items"]] if "items" in branch else []
            pending += branch.get("prefixItems", [])
    return found


def _closed(root: Mapping[str, Any], schema: Any, *, top: bool = False, own: bool = False) -> Any:
    """`own`: whether this level may be closed itself. A branch may not: its siblings declare properties too."""
    if not isinstance(schema, dict):
        return schema
    closed = {key: _closed_part(root, key, part) for key, part in schema.items()}
    if own and not any(key in schema for key in _SAYS) and (top or _declares(root, schema)):
        composed = any(key in schema for key in _COMPOSE)
        closed["unevaluatedProperties" if composed else "additionalProperties"] = False
    return closed


def _closed_part(root: Mapping[str, Any], key: str, part: Any) -> Any:
    own = key in (*_PART_MAPS, *_PART_LISTS, *_PART_ONE)
    if key in (*_PART_MAPS, *_IN_PLACE_MAPS, *_DEFINITIONS):
        return {name: _closed(root, sub, own=own) for name, sub in part.items()}
    if key in (*_IN_PLACE_LISTS, *_PART_LISTS):
        return [_closed(root, sub, own=own) for sub in part]
    return _closed(root, part, own=own) if key in (*_IN_PLACE_ONE, *_PART_ONE) else part


def _declares(root: Mapping[str, Any], schema: Mapping[str, Any]) -> bool:
    said = declared(root, schema)
    return bool(said.properties) or not said.known


def _walk(schema: Any, where: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    if not isinstance(schema, dict):
        return
    yield where, schema
    for key in (*_PART_ONE, *_IN_PLACE_ONE, *_CONDITIONS):
        yield from _walk(schema.get(key), f"{where}/{key}")
    for key in (*_PART_MAPS, *_IN_PLACE_MAPS, *_DEFINITIONS):
        named = schema.get(key)
        for name, sub in named.items() if isinstance(named, dict) else ():
            yield from _walk(sub, f"{where}/{key}{pointer([name])}")
    for key in (*_IN_PLACE_LISTS, *_PART_LISTS):
        listed = schema.get(key)
        for n, sub in enumerate(listed if isinstance(listed, list) else ()):
            yield from _walk(sub, f"{where}/{key}/{n}")
