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
        for record_id in _ids(checked.arguments.tree, argument.path.split("."), argument.path)
    ]
    if len(found) > MAX_RECORDS:
        raise Refusal(
            Code.INVALID_ARGUMENTS,
            f"the call names {len(found)} records",
            fix=f"name at most {MAX_RECORDS} in one call",
        )
    return tuple(found)


def _ids(value: Any, path: list[str], argument: str) -> Iterator[str]:
    """Ids below `path`, lists looked through. What is neither there nor absent is refused: passed over, it would reach the
    upstream without anybody having asked whose it is."""
    if isinstance(value, list):
        for item in value:
            yield from _ids(item, path, argument)
    elif path and isinstance(value, dict):
        yield from _ids(value.get(path[0]), path[1:], argument)
    elif not path and isinstance(value, str):
        yield value
    elif not path and (token := strict_json.number_token(value)) is not None:
        yield token
    elif value is not None:
        raise Refusal(
            Code.INVALID_ARGUMENTS, f"{argument} names no record", fix="name each record by its id, a text or a number"
        )
