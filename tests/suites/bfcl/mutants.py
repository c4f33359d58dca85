"""Mechanical mutants of a valid call, each breaking its published schema in one place."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any, Literal

from tests.suites.bfcl.data import Token

Kind = Literal["unknown argument", "missing required", "wrong type", "outside enum"]
Path = tuple[str | int, ...]
KINDS: Sequence[Kind] = ("unknown argument", "missing required", "wrong type", "outside enum")
STRANGER = "no_such_argument"

# What models send instead (case C044) and what a lax reader would turn into the right thing.
WRONG: Mapping[str, Sequence[Any]] = {
    "string": (Token("7"), True, None, ["x"], {}),
    "integer": ("5", Token("1.5"), True, None, [Token("5")]),
    "number": ("1.5", True, None, [Token("1.5")]),
    "boolean": ("true", Token("1"), "", None),
    "array": ("[]", {}, None, Token("0")),
    "object": ("{}", [], None, False),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    """`names` is what the refusal must speak of: the stranger, the missing argument, or the pointer to the wrong value."""

    kind: Kind
    names: str
    arguments: dict[str, Any]


def mutants(arguments: dict[str, Any], schema: Mapping[str, Any], turn: Iterator[int] | None = None) -> list[Mutant]:
    """All mutants of a call that is valid against the translated `schema`. `turn` says which wrong value is next."""
    turn = turn or count()
    return [*_of_object(arguments, schema, (), arguments, turn)]


def _of_object(
    value: dict[str, Any], schema: Mapping[str, Any], path: Path, whole: dict[str, Any], turn: Iterator[int]
) -> Iterator[Mutant]:
    properties = schema.get("properties", {})
    if properties or not path:  # an object that declares nothing is open below the top
        changed = _with(whole, path, {**value, STRANGER: "x"})
        yield Mutant(kind="unknown argument", names=STRANGER, arguments=changed)
    for name in schema.get("required", ()):
        if name in value:
            left = {key: item for key, item in value.items() if key != name}
            yield Mutant(kind="missing required", names=name, arguments=_with(whole, path, left))
    for name, item in value.items():
        if name in properties:
            yield from _of_value(item, properties[name], (*path, name), whole, turn)


def _of_value(
    value: Any, schema: Mapping[str, Any], path: Path, whole: dict[str, Any], turn: Iterator[int]
) -> Iterator[Mutant]:
    named = schema["type"]
    where = "".join(f"/{step}".replace("~", "~0") for step in path)
    if isinstance(named, str):
        wrong = WRONG[named][next(turn) % len(WRONG[named])]
        yield Mutant(kind="wrong type", names=where, arguments=_with(whole, path, wrong))
    if "enum" in schema:
        yield Mutant(kind="outside enum", names=where, arguments=_with(whole, path, _outside(value)))
    if isinstance(value, dict):
        yield from _of_object(value, schema, path, whole, turn)
    elif isinstance(value, list) and value and "items" in schema:
        yield from _of_value(value[0], schema["items"], (*path, 0), whole, turn)


def _outside(value: Any) -> Any:
    """Of the same type as `value`, and in no list of allowed ones."""
    if isinstance(value, Token):
        return Token("987654321")
    return [*value, "none of these"] if isinstance(value, list) else "none of these"


def _with(tree: Any, path: Path, new: Any) -> Any:
    """A copy of `tree` with `new` at `path`."""
    if not path:
        return new
    step, rest = path[0], path[1:]
    if isinstance(tree, list):
        return [_with(item, rest, new) if n == step else item for n, item in enumerate(tree)]
    return {key: _with(item, rest, new) if key == step else item for key, item in tree.items()}
