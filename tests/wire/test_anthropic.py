"""Anthropic Messages, with the SDK's own types as judge of what we read and write."""

import json
from typing import Any

from anthropic.types import Message, MessageParam, ToolParam
from pydantic import TypeAdapter

from proxy.errors import Code, Refusal
from proxy.model import Dialect
from proxy.wire import anthropic, dialects
from proxy.wire.batch import Definition
from tests.wire.shapes import anthropic as shape
from tests.wire.shapes import done, readable, refused


def message(*blocks: dict[str, Any]) -> bytes:
    """An assistant message as the SDK dumps it."""
    made = Message.model_validate(
        {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "model": "m",
            "content": list(blocks),
            "stop_reason": "tool_use",
            "usage": {"input_tokens": 1, "output_tokens": 1},
        }
    )
    return json.dumps(made.model_dump(exclude_none=True)).encode()


def test_a_whole_message() -> None:
    """Its calls in order; its text is the stated reason."""
    batch = dialects.parse(message({"type": "text", "text": "because"}, shape({"a": 1}), shape({"a": 2}, "c2")))
    assert [readable(item).arguments.raw for item in batch.items] == [b'{"a":1}', b'{"a":2}']
    assert readable(batch.items[0]).reason == "because"


def test_a_list_of_blocks() -> None:
    """The content alone will do."""
    batch = dialects.parse(json.dumps([{"type": "thinking", "thinking": "hm", "signature": "s"}, shape({})]).encode())
    assert [item.id for item in batch.items] == ["c1"]


def test_a_message_without_calls_answers_nothing() -> None:
    """So that a loop may pass every message."""
    batch = dialects.parse(message({"type": "text", "text": "done"}))
    assert anthropic.render([], batch) == b"[]"


def test_rendered_as_the_sdk_types_it() -> None:
    """One user message with all results; a refusal is an error result."""
    batch = dialects.parse(message(shape({}), shape({}, "c2")))
    refusal = refused(Dialect.ANTHROPIC, Refusal(Code.DENIED, "no"), "c2")
    messages = json.loads(anthropic.render([done(Dialect.ANTHROPIC), refusal], batch))
    assert TypeAdapter(list[MessageParam]).validate_python(messages) is not None
    (only,) = messages
    assert only["role"] == "user"
    assert [(b["type"], b["tool_use_id"], b["is_error"]) for b in only["content"]] == [
        ("tool_result", "c1", False),
        ("tool_result", "c2", True),
    ]


def test_definitions_as_the_sdk_types_them() -> None:
    """Ready for the `tools` of a request."""
    tools = json.loads(
        anthropic.definitions([Definition(name="t", description="d", version="1", schema={"type": "object"})])
    )
    assert TypeAdapter(list[ToolParam]).validate_python(tools) == tools
