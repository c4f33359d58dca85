"""A valid allow, every way to break it, and an oracle that says which of them are still a typed allow."""

import copy
import json
from collections.abc import Callable, Iterator
from typing import Any

REASON: dict[str, Any] = {
    "code": "granted",
    "message": "may read",
    "fix": "nothing",
    "details": {"role": "buyer", "limit": 5},
    "approvers": ["leads"],
    "scope": "once",
    "severity": "low",
}


ALLOW: dict[str, Any] = {
    "schema": 1,
    "effect": "allow",
    "guards": [],
    "deny": {},
    "review": {},
    "allow": {"grants": [REASON]},
    "obligations": {},
    "warn": {"budgets": {"deny": [{"code": "x"}], "review": []}},
    "revision": "r1",
}


OF_EACH_TYPE: tuple[Any, ...] = (
    None,
    True,
    False,
    0,
    1,
    1.0,
    -1,
    2**70,
    "",
    "x",
    "allow",
    [],
    [1],
    ["x"],
    [{}],
    {},
    {"x": 1},
)


DETAILS = ("result", "allow", "grants", 0, "details")


Path = tuple[str | int, ...]


def paths(tree: Any, at: Path = ()) -> Iterator[Path]:
    yield at
    members: Any = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, child in members:
        yield from paths(child, (*at, key))


def edited(tree: Any, at: Path, edit: Callable[[Any, Any], None]) -> Any:
    tree = copy.deepcopy(tree)
    parent = tree
    for key in at[:-1]:
        parent = parent[key]
    edit(parent, at[-1])
    return tree


def set_to(value: Any) -> Callable[[Any, Any], None]:
    def edit(parent: Any, key: Any) -> None:
        parent[key] = value

    return edit


def delete(parent: Any, key: Any) -> None:
    del parent[key]


def add_extra(parent: Any, key: Any) -> None:
    child = parent[key]
    if isinstance(child, dict):
        child["surplus"] = 1
    if isinstance(child, list):
        child.append(1)


def breakable() -> Iterator[Path]:
    for at in paths({"result": ALLOW}):
        # Free form below these: no type to break.
        if at and at[: len(DETAILS)] != DETAILS and at[:2] != ("result", "warn"):
            yield at


def mutants(at: Path) -> Iterator[Any]:
    for edit in (delete, add_extra, *map(set_to, OF_EACH_TYPE)):
        yield edited({"result": ALLOW}, at, edit)


def same_json(left: Any, right: Any) -> bool:
    return json.dumps(left, sort_keys=True) == json.dumps(right, sort_keys=True)


def typed(result: Any) -> bool:
    """An oracle of its own for mutants of ALLOW: which of them are still decisions of the promised types that allow."""
    if set(result) != set(ALLOW) or any(not isinstance(result[k], type(ALLOW[k])) for k in ALLOW):
        return False
    keeps = ("schema", "effect", "guards", "deny", "review", "obligations")
    if not all(same_json(result[k], ALLOW[k]) for k in keeps) or not result["revision"]:
        return False
    reasons = result["allow"].get("grants")
    return len(result["allow"]) == 1 and isinstance(reasons, list) and bool(reasons) and all(map(typed_reason, reasons))


def typed_reason(reason: Any) -> bool:
    if not isinstance(reason, dict) or not set(reason) <= set(REASON) or not reason.get("code"):
        return False
    names = reason.get("approvers", [])
    return (
        all(isinstance(reason.get(k, ""), str) for k in ("code", "message", "fix", "severity"))
        and reason.get("severity") != ""
        and reason.get("scope", "once") in ("once", "conversation")
        and isinstance(names, list)
        and all(isinstance(n, str) and n for n in names)
    )
