"""Anthropic Messages: `tool_use` blocks in, one `user` message of `tool_result` blocks out, all results in it."""

from collections.abc import Sequence
from typing import Any

from proxy.core import strict_json
from proxy.model import Answer, Dialect
from proxy.wire import common
from proxy.wire.batch import Batch, Definition

DIALECT = Dialect.ANTHROPIC
_BLOCKS = frozenset({"tool_use", "text", "thinking", "redacted_thinking"})


def recognizes(item: Any) -> bool:
    """Whether one item of a body is a content block of this API."""
    return common.type_of(item) in _BLOCKS


def parse(tree: Any) -> Batch | None:
    """One `tool_use` block, a list of blocks, or a whole assistant message; None if the body is of another shape."""
    if common.type_of(tree) == "tool_use":
        blocks, many = [tree], False
    elif _is_message(tree):
        blocks, many = tree["content"], True
    elif isinstance(tree, list) and any(recognizes(item) for item in tree):
        blocks, many = tree, True
    else:
        return None
    reason = "\n".join(b["text"] for b in blocks if common.type_of(b) == "text" and isinstance(b.get("text"), str))
    items = tuple(
        common.call(DIALECT, block, keys=("id", "name", "input"), reason=reason)
        for block in blocks
        if common.type_of(block) == "tool_use"
    )
    return Batch(dialect=DIALECT, items=items, many=many)


def render(answers: Sequence[Answer], batch: Batch) -> bytes:
    """The message to append; for a list or a whole message a list of it, empty if nothing was called."""
    results = [
        {
            "type": "tool_result",
            "tool_use_id": answer.call.id,
            "content": common.result_text(answer),
            "is_error": answer.refusal is not None,
        }
        for answer in answers
    ]
    message = {"role": "user", "content": results}
    if not batch.many:
        return strict_json.write(message)
    return strict_json.write([message] if results else [])


def definitions(tools: Sequence[Definition]) -> bytes:
    """The `tools` list of a Messages request."""
    return strict_json.write([{"name": t.name, "description": t.description, "input_schema": t.schema} for t in tools])


def _is_message(tree: Any) -> bool:
    if not isinstance(tree, dict) or tree.get("role") != "assistant" or "tool_calls" in tree:
        return False
    return isinstance(tree.get("content"), list)
