"""Records that a call names: which arguments, which type, which id."""

from collections.abc import Iterator
from typing import Any

from proxy.core import strict_json
from proxy.core.tool import CheckedCall
from proxy.errors import Code, Refusal
from proxy.model import Resource

MAX_RECORDS = 50


def named_records(checked: CheckedCall) -> tuple[Resource, ...]:
    """Every record that an argument of role `record` names, with nobody as its owner yet. Raises Refusal over 50."""
    found = [
        Resource(argument=argument.path, type=argument.resource or "", id=record_id)
        for argument in checked.tool.arguments
        if argument.role == "record"
        for record_id in _ids(_at(checked.arguments.tree, argument.path.split(".")))
    ]
    if len(found) > MAX_RECORDS:
        raise Refusal(
            Code.INVALID_ARGUMENTS,
            f"the call names {len(found)} records",
            fix=f"name at most {MAX_RECORDS} in one call",
        )
    return tuple(found)


def _at(tree: Any, path: list[str]) -> Any:
    for step in path:
        if isinstance(tree, list):
            tree = [item.get(step) for item in tree if isinstance(item, dict)]
        else:
            tree = tree.get(step) if isinstance(tree, dict) else None
    return tree


def _ids(value: Any) -> Iterator[str]:
    if isinstance(value, list):
        for item in value:
            yield from _ids(item)
    elif isinstance(value, str):
        yield value
    elif (token := strict_json.number_token(value)) is not None:
        yield token
