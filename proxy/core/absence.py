"""The absence sweep: a policy must not become more lenient because a fact is missing, null, empty or another one."""

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

Kind = Literal["null", "delete", "empty", "replace"]
_STRICTNESS = {"allow": 0, "review": 1, "deny": 2}


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    """An input with one place changed. `path` is dotted, list items by index."""

    path: str
    kind: Kind
    document: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pardon:
    """A more lenient mutant that is another statement of fact, and why. `sample` is a name, or * for all of the policy."""

    sample: str
    path: str
    kinds: frozenset[str]
    because: str

    def covers(self, sample: str, mutant: Mutant) -> bool:
        """Whether this mutant of this sample is meant."""
        return self.sample in ("*", sample) and self.path == mutant.path and mutant.kind in self.kinds


def mutants(document: Mapping[str, Any]) -> Iterator[Mutant]:
    """Every place of the document changed in every way; containers too, but they are not replaced."""
    for path, value in _places(document, ()):
        name = ".".join(str(part) for part in path)
        if value is not None:
            yield Mutant(path=name, kind="null", document=_changed(document, path, None))
        yield Mutant(path=name, kind="delete", document=_deleted(document, path))
        empty = _empty(value)
        if empty is not None and empty != value:
            yield Mutant(path=name, kind="empty", document=_changed(document, path, empty))
        if not isinstance(value, dict | list):
            yield Mutant(path=name, kind="replace", document=_changed(document, path, _other(value)))


def more_lenient(effect: str, than: str) -> bool:
    """Whether one effect lets through what the other would not. An effect nobody knows is a refusal."""
    return _STRICTNESS.get(effect, 2) < _STRICTNESS[than]


def _places(value: Any, path: tuple[str | int, ...]) -> Iterator[tuple[tuple[str | int, ...], Any]]:
    if path:
        yield path, value
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from _places(item, (*path, key))


def _changed(document: Mapping[str, Any], path: Sequence[str | int], value: Any) -> Mapping[str, Any]:
    changed, parent = _parent(document, path)
    parent[path[-1]] = value
    return changed


def _deleted(document: Mapping[str, Any], path: Sequence[str | int]) -> Mapping[str, Any]:
    changed, parent = _parent(document, path)
    del parent[path[-1]]
    return changed


def _parent(document: Mapping[str, Any], path: Sequence[str | int]) -> tuple[Mapping[str, Any], Any]:
    """A copy of what lies on the path, the rest shared, and the container that the path ends in."""
    changed = dict(document)
    parent: Any = changed
    for part in path[:-1]:
        parent[part] = copy.copy(parent[part])
        parent = parent[part]
    return changed, parent


def _empty(value: Any) -> Any:
    if isinstance(value, bool) or value is None:
        return None
    return type(value)()


def _other(value: Any) -> Any:
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1_000_000
    return "something-else"
