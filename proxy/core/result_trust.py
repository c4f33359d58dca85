"""Whether a tool's result can carry text that somebody else wrote (design sections 6 and 7).

A path that the catalog trusts says nothing of the fields beside it. So a result is trusted only if its schema leaves no other
place for text: every string stands under a trusted path, and no unknown field may pass. Numbers, booleans and constants carry none.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from proxy.core.schema_shape import declared, local

WHOLE = "$"
_DEPTH = 32
_PLAIN = frozenset({"number", "integer", "boolean", "null"})


def holds_only_trusted_text(schema: Mapping[str, Any] | None, paths: Collection[str]) -> bool:
    """Paths are dotted, arrays looked through; `$` is the whole result. False wherever the schema leaves it open."""
    if WHOLE in paths:
        return True
    return bool(paths) and schema is not None and _trusted(schema, schema, "", frozenset(paths), _DEPTH)


def _trusted(root: Mapping[str, Any], schema: Any, path: str, paths: frozenset[str], depth: int) -> bool:
    """Whether nothing that `schema` lets pass at `path` carries text of somebody else's. What holds together only narrows, so one
    part that is sure will do; of alternatives each has to be."""
    if path in paths or schema is False:
        return True
    if depth <= 0 or not isinstance(schema, Mapping):
        return False
    parts = list(_together(root, schema, depth))
    types = _types(parts)
    sure = (_sure(root, part, types, path, paths, depth - 1) for part in parts)
    branches = [group for part in parts for group in _alternatives(part)]
    return any(sure) or any(all(_trusted(root, b, path, paths, depth - 1) for b in group) for group in branches)


def _sure(
    root: Mapping[str, Any],
    part: Mapping[str, Any],
    types: frozenset[str] | None,
    path: str,
    paths: frozenset[str],
    depth: int,
) -> bool:
    """By this part's own keywords, where only `types` may stand."""
    if "const" in part or "enum" in part:
        return True
    if types is None or "string" in types:
        return False
    if "object" in types:
        fields = _fields(root, part)
        if fields is None:
            return False
        inner = ((f"{path}.{name}" if path else name, subs) for name, subs in fields.items())
        if not all(_trusted(root, sub, at, paths, depth) for at, subs in inner for sub in subs):
            return False
    if "array" in types:
        items = (*part.get("prefixItems", ()), part.get("items", True))
        return all(_trusted(root, item, path, paths, depth) for item in items)
    return True


def _fields(root: Mapping[str, Any], part: Mapping[str, Any]) -> Mapping[str, Sequence[Any]] | None:
    """All fields that may pass, with what is said of each; None if others may pass, too."""
    if part.get("additionalProperties") is False and not part.get("patternProperties"):
        return {name: [sub] for name, sub in part.get("properties", {}).items()}
    if part.get("unevaluatedProperties") is not False:
        return None
    own = declared(root, part)  # what its branches name has been evaluated
    return None if own.open or not own.known else own.properties


def _together(root: Mapping[str, Any], schema: Any, depth: int) -> Iterator[Mapping[str, Any]]:
    """The schema and all that holds beside it: `allOf` and what `$ref` names."""
    if depth <= 0 or not isinstance(schema, Mapping):
        return
    yield schema
    for part in schema.get("allOf", ()):
        yield from _together(root, part, depth - 1)
    if "$ref" in schema:
        yield from _together(root, local(root, schema["$ref"]), depth - 1)


def _types(parts: Sequence[Mapping[str, Any]]) -> frozenset[str] | None:
    """What every part allows, without what carries no text; None if no part says so."""
    named = [{part["type"]} if isinstance(part["type"], str) else set(part["type"]) for part in parts if "type" in part]
    return frozenset(set.intersection(*named) - _PLAIN) if named else None


def _alternatives(part: Mapping[str, Any]) -> Iterator[Sequence[Any]]:
    """Groups of schemas of which one holds."""
    yield from (part[key] for key in ("anyOf", "oneOf") if part.get(key))
    if "if" in part and "then" in part and "else" in part:
        yield part["then"], part["else"]
