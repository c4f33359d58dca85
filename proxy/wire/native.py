"""Native dialect: `{"id", "tool", "version"?, "arguments", "reason"?}`, closed (design section 5)."""

from collections.abc import Sequence
from typing import Any

import orjson

from proxy.core import strict_json
from proxy.model import Answer, Dialect, ToolCall, UnreadableCall
from proxy.wire import common
from proxy.wire.batch import Batch, Definition

DIALECT = Dialect.NATIVE
_KEYS = frozenset({"id", "tool", "version", "arguments", "reason"})


def recognizes(item: Any) -> bool:
    """Whether one item of a body has this dialect's shape."""
    return isinstance(item, dict) and "tool" in item


def parse(tree: Any) -> Batch | None:
    """One call or a list of calls; None if the body is of another shape."""
    items = tree if isinstance(tree, list) else [tree]
    if not items or not all(recognizes(item) for item in items):
        return None
    return Batch(dialect=DIALECT, items=tuple(_call(item) for item in items), many=isinstance(tree, list))


def render(answers: Sequence[Answer], batch: Batch) -> bytes:
    """`{"id", "status", "result" | "refusal" | "allowed", "call_id", "trace_id"}`, one or a list."""
    documents = [_document(answer) for answer in answers]
    return strict_json.write(documents if batch.many else documents[0])


def definitions(tools: Sequence[Definition]) -> bytes:
    """Definitions with version and schema."""
    return strict_json.write(
        [{"name": t.name, "version": t.version, "description": t.description, "arguments": t.schema} for t in tools]
    )


def _call(item: dict[str, Any]) -> ToolCall | UnreadableCall:
    unknown = item.keys() - _KEYS
    if unknown:
        why = common.invalid_call(f"unknown key {min(unknown)[:64]!r} in a tool call")
        return common.unreadable(DIALECT, item.get("id"), item.get("tool"), why)
    return common.call(
        DIALECT, item, keys=("id", "tool", "arguments"), version=item.get("version"), reason=item.get("reason")
    )


def _document(answer: Answer) -> dict[str, Any]:
    document: dict[str, Any] = {"id": answer.call.id, "status": answer.status}
    if answer.refusal is not None:
        document["refusal"] = common.refusal_document(answer)
    elif answer.result is not None:
        document["result"] = orjson.Fragment(answer.result.body)
    else:
        document["allowed"] = common.allowed_document(answer)
    return document | {"call_id": answer.call_id, "trace_id": answer.trace.trace_id}
