"""Whether a tool's result can carry text that somebody else wrote (design sections 6 and 7).

A path that the catalog trusts says nothing of the fields beside it. So a result is trusted only if its schema leaves no other
place for text: every string stands under a trusted path, and no unknown field may pass. Numbers, booleans and constants carry none.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from proxy.core.schema_shape import declared, in_place, types_of

WHOLE = "$"
_DEPTH = 32
_PLAIN = frozenset({"number", "integer", "boolean", "null"})


def holds_only_trusted_text(schema: Mapping[str, Any] | None, paths: Collection[str]) -> bool:
    """Paths are dotted, arrays looked through; `$` is the whole result. False wherever the schema leaves it open."""
    if WHOLE in paths:
        return True
    return bool(paths) and schema is not None and _trusted(schema, [schema], "", frozenset(paths), _DEPTH)


def _trusted(root: Mapping[str, Any], schemas: Sequence[Any], path: str, paths: frozenset[str], depth: int) -> bool:
    if path in paths:
        return True
    return depth > 0 and all(_one(root, schema, path, paths, depth - 1) for schema in schemas)


def _one(root: Mapping[str, Any], schema: Any, path: str, paths: frozenset[str], depth: int) -> bool:
    if any("const" in branch or "enum" in branch for branch in in_place(root, schema)):
        return True
    types = types_of(root, schema) - _PLAIN
    if not types_of(root, schema) or "string" in types:
        return False
    if "object" in types:
        own = declared(root, schema)
        inner = {f"{path}.{name}" if path else name: subs for name, subs in own.properties.items()}
        if own.open or not own.known or not all(_trusted(root, s, p, paths, depth) for p, s in inner.items()):
            return False
    if "array" in types:
        items = list(_items(root, schema))
        return bool(items) and _trusted(root, items, path, paths, depth)
    return True


def _items(root: Mapping[str, Any], schema: Any) -> Iterator[Any]:
    """Of every branch: those that are listed, and those after them."""
    for branch in in_place(root, schema):
        yield from branch.get("prefixItems", ())
        if "items" in branch:
            yield branch["items"]
