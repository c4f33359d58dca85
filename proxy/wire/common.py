"""What every dialect shares: reading arguments, ids and names from a strict tree, and the one document that a refusal is."""

import re
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

from proxy.core import strict_json
from proxy.errors import Code, Refusal
from proxy.model import Answer, Arguments, Dialect, ToolCall, UnreadableCall

MAX_CALLS = 128
MAX_ITEMS = 512  # calls, and the texts and thoughts beside them
MAX_REASON = 1000
MAX_NAME = 256

_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
# A double tells 15 digits apart always and is zero below 5e-324: only beyond that can a fraction be lost.
_LONG_FRACTION = re.compile(rb"[0-9.]{17}|[0-9][eE]-[0-9]{3}")


def call(
    dialect: Dialect,
    item: Mapping[str, Any],
    *,
    keys: tuple[str, str, str],
    version: Any = None,
    reason: Any = None,
) -> ToolCall | UnreadableCall:
    """One item as a tool call; `keys` name its id, tool and arguments. What cannot be read becomes an UnreadableCall."""
    call_id, name, arguments = (item.get(key) for key in keys)
    try:
        return ToolCall(
            id=_identifier(call_id, keys[0]),
            tool=_text(name, keys[1]),
            version=None if version is None else _text(version, "version"),
            arguments=read_arguments(arguments, text_allowed=dialect in TEXT_ARGUMENTS),
            dialect=dialect,
            reason=reason[:MAX_REASON] if isinstance(reason, str) and reason else None,
        )
    except Refusal as refusal:
        return unreadable(dialect, call_id, name, refusal)


TEXT_ARGUMENTS = frozenset({Dialect.OPENAI_CHAT, Dialect.OPENAI_RESPONSES})


def unreadable(dialect: Dialect, call_id: Any, name: Any, refusal: Refusal) -> UnreadableCall:
    """An item that fails alone, with as much of its id and name as is fit to repeat."""
    fit = isinstance(call_id, str) and _ID.fullmatch(call_id)
    tool = name[:MAX_NAME] if isinstance(name, str) else ""
    return UnreadableCall(id=call_id if fit else "", tool=tool, dialect=dialect, refusal=refusal)


def read_arguments(given: Any, *, text_allowed: bool) -> Arguments:
    """Arguments from an object of the tree or, where the dialect has it, from a JSON text.

    Missing, null and blank text are the call without arguments, `{}`: clients differ in how they write it.
    """
    if text_allowed and isinstance(given, str):
        given = (
            strict_json.read_tree(given.encode("utf-8", "surrogatepass"), "arguments text") if given.strip() else None
        )
    if given is None:
        given = {}
    if not isinstance(given, dict):
        raise Refusal(
            Code.INVALID_ARGUMENTS, f"arguments must be an object, got {_kind(given)}", fix="send a JSON object"
        )
    raw = strict_json.write(given)
    if (b"." in raw or b"e-" in raw or b"E-" in raw) and _LONG_FRACTION.search(raw):
        _refuse_lost_fractions(given)
    return Arguments(raw=raw, tree=given, value=strict_json.read_values(raw))


def type_of(item: Any) -> str:
    """The `type` of one item of a body; empty if it has none, or one that is not a text."""
    kind = item.get("type") if isinstance(item, dict) else None
    return kind if isinstance(kind, str) else ""


def _refuse_lost_fractions(given: Mapping[str, Any]) -> None:
    """Numbers are judged as doubles and sent as they were written: one must not be judged whole that is not."""
    pending: list[Any] = [given]
    while pending:
        item = pending.pop()
        if isinstance(item, dict | list):
            pending.extend(item.values() if isinstance(item, dict) else item)
            continue
        token = strict_json.number_token(item)
        if token is None or not float(token).is_integer():
            continue
        if not _whole(token):
            raise Refusal(
                Code.INVALID_ARGUMENTS,
                "a number has more digits than can be told apart",
                fix="round it to 15 significant digits, or send it as a text if the tool takes one",
            )


def _whole(token: str) -> bool:
    exact = Decimal(token)
    return exact == exact.to_integral_value()


def refuse_repeated_ids(items: Iterable[ToolCall | UnreadableCall]) -> tuple[ToolCall | UnreadableCall, ...]:
    """Of two items with one id only the first stands: two answers could not be told apart."""
    seen: set[str] = set()
    kept: list[ToolCall | UnreadableCall] = []
    for item in items:
        if item.id and item.id in seen:
            why = Refusal(Code.INVALID_CALL, "this id stands in the list twice", fix="give each call an id of its own")
            kept.append(unreadable(item.dialect, item.id, item.tool, why))
        else:
            kept.append(item)
        seen.add(item.id)
    return tuple(kept)


def refusal_document(answer: Answer) -> dict[str, Any]:
    """What a refusal says, in every dialect: what was refused, whether it ran, whether to retry, what to change, whom to ask."""
    refusal = answer.refusal
    if refusal is None:
        raise ValueError("the answer is no refusal")
    document: dict[str, Any] = {
        "code": refusal.code,
        "message": refusal.message,
        "tool": answer.call.tool[:MAX_NAME],
        "ran": refusal.ran,
        "retry": refusal.retry,
    }
    optional = {
        "fix": refusal.fix,
        "reasons": [{"policy": policy, "code": code} for policy, code in refusal.reasons],
        "approvers": list(refusal.approvers),
        "review": refusal.review_id,
        "retry_after": refusal.retry_after,
    }
    document.update({key: value for key, value in optional.items() if value})
    document |= {"call_id": answer.call_id, "trace_id": answer.trace.trace_id}
    return document


def result_text(answer: Answer) -> str:
    """What a model reads as the tool's result: the result's JSON, or the refusal's document as JSON."""
    if answer.refusal is not None:
        return strict_json.write({"refused": refusal_document(answer)}).decode()
    if answer.result is not None:
        return answer.result.body.decode()
    return strict_json.write({"allowed": allowed_document(answer)}).decode()


def allowed_document(answer: Answer) -> dict[str, Any]:
    """What the agent needs to run a tool itself and to report the result: a single-use handle."""
    return {
        "tool": answer.call.tool,
        "call_id": answer.call_id,
        "result_handle": answer.handle,
        "trace_id": answer.trace.trace_id,
        "next": f"run the tool, then POST its result to /v1/tool-calls/{answer.call_id}/result with this handle",
    }


def invalid_call(message: str) -> Refusal:
    """A body or item of no known shape."""
    return Refusal(
        Code.INVALID_CALL,
        message,
        fix="send one tool call, a list of tool calls or a whole assistant message (native, OpenAI or Anthropic shape)",
    )


def _identifier(given: Any, key: str) -> str:
    if not isinstance(given, str) or not _ID.fullmatch(given):
        raise invalid_call(f"`{key}` must be 1 to 128 of A-Z a-z 0-9 . _ -")
    return given


def _text(given: Any, key: str) -> str:
    if not isinstance(given, str):
        raise invalid_call(f"`{key}` must be a string")
    return given


def _kind(value: Any) -> str:
    kinds = {str: "a string", list: "a list", bool: "true or false"}
    return kinds.get(type(value), "a number")
