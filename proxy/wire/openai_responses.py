"""OpenAI Responses: `function_call` items in, `function_call_output` items out, matched by `call_id` (not the item's id)."""

from collections.abc import Sequence
from typing import Any

from proxy.core import strict_json
from proxy.model import Answer, Dialect, ToolCall, UnreadableCall
from proxy.wire import common
from proxy.wire.batch import Batch, Definition

DIALECT = Dialect.OPENAI_RESPONSES
_CALLS = frozenset({"function_call", "custom_tool_call"})
_ITEMS = _CALLS | {"message", "reasoning"}


def recognizes(item: Any) -> bool:
    """Whether one item of a body is an item of this API."""
    return common.type_of(item) in _ITEMS


def parse(tree: Any) -> Batch | None:
    """One function call, an output list, or a whole response object; None if the body is of another shape."""
    if common.type_of(tree) in _CALLS:
        return Batch(dialect=DIALECT, items=(_call(tree, None),), many=False)
    output = tree.get("output") if isinstance(tree, dict) and tree.get("object") == "response" else tree
    if not isinstance(output, list) or not output or not any(recognizes(item) for item in output):
        return None
    reason = _said(output)
    calls = tuple(_call(item, reason) for item in output if common.type_of(item) in _CALLS)
    return Batch(dialect=DIALECT, items=calls, many=True)


def render(answers: Sequence[Answer], batch: Batch) -> bytes:
    """Items to append: `{"type": "function_call_output", "call_id", "output"}`, one or a list."""
    items = [
        {"type": "function_call_output", "call_id": answer.call.id, "output": common.result_text(answer)}
        for answer in answers
    ]
    return strict_json.write(items if batch.many else items[0])


def definitions(tools: Sequence[Definition]) -> bytes:
    """The `tools` list of a Responses request."""
    return strict_json.write(
        [
            {"type": "function", "name": t.name, "description": t.description, "parameters": t.schema, "strict": False}
            for t in tools
        ]
    )


def _call(item: dict[str, Any], reason: Any) -> ToolCall | UnreadableCall:
    if item.get("type") != "function_call":
        why = common.invalid_call("only calls of type `function_call` can be decided")
        return common.unreadable(DIALECT, item.get("call_id"), item.get("name"), why)
    return common.call(DIALECT, item, keys=("call_id", "name", "arguments"), reason=reason)


def _said(output: list[Any]) -> str:
    contents = [item.get("content") for item in output if common.type_of(item) == "message"]
    blocks = [
        block for content in contents if isinstance(content, list) for block in content if isinstance(block, dict)
    ]
    return "\n".join(block["text"] for block in blocks if isinstance(block.get("text"), str))
