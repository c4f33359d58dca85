"""OpenAI Chat Completions: `tool_calls` of an assistant message in, `role: tool` messages out. Arguments are a JSON text."""

from collections.abc import Sequence
from typing import Any

from proxy.core import strict_json
from proxy.model import Answer, Dialect, ToolCall, UnreadableCall
from proxy.wire import common
from proxy.wire.batch import Batch, Definition

DIALECT = Dialect.OPENAI_CHAT


def recognizes(item: Any) -> bool:
    """Whether one item of a body is a chat tool call."""
    return isinstance(item, dict) and ("function" in item or common.type_of(item) == "custom")


def parse(tree: Any) -> Batch | None:
    """One tool call, a list of them, or a whole assistant message; None if the body is of another shape."""
    if _is_message(tree):
        calls, reason = tree.get("tool_calls") or [], tree.get("content")
    elif isinstance(tree, list) and tree and all(recognizes(item) for item in tree):
        calls, reason = tree, None
    elif recognizes(tree):
        return Batch(dialect=DIALECT, items=(_call(tree, None),), many=False)
    else:
        return None
    if not isinstance(calls, list):
        raise common.invalid_call("`tool_calls` must be a list")
    return Batch(dialect=DIALECT, items=tuple(_call(item, reason) for item in calls), many=True)


def render(answers: Sequence[Answer], batch: Batch) -> bytes:
    """Messages to append: `{"role": "tool", "tool_call_id", "content"}`, one or a list."""
    messages = [
        {"role": "tool", "tool_call_id": answer.call.id, "content": common.result_text(answer)} for answer in answers
    ]
    return strict_json.write(messages if batch.many else messages[0])


def definitions(tools: Sequence[Definition]) -> bytes:
    """The `tools` list of a Chat Completions request."""
    return strict_json.write(
        [
            {"type": "function", "function": {"name": t.name, "description": t.description, "parameters": t.schema}}
            for t in tools
        ]
    )


def _is_message(tree: Any) -> bool:
    if not isinstance(tree, dict) or tree.get("role") != "assistant":
        return False
    return "tool_calls" in tree or not isinstance(tree.get("content"), list)


def _call(item: Any, reason: Any) -> ToolCall | UnreadableCall:
    function = item.get("function") if isinstance(item, dict) else None
    if not isinstance(function, dict) or item.get("type", "function") != "function":
        why = common.invalid_call("only calls of type `function` can be decided")
        return common.unreadable(DIALECT, item.get("id") if isinstance(item, dict) else None, None, why)
    flat = {"id": item.get("id"), "name": function.get("name"), "arguments": function.get("arguments")}
    return common.call(DIALECT, flat, keys=("id", "name", "arguments"), reason=reason)
