"""OpenAI Chat Completions, with the SDK's own types as judge of what we read and write."""

import json
from typing import Any

from openai.types.chat import ChatCompletionFunctionToolParam, ChatCompletionMessage, ChatCompletionToolMessageParam
from pydantic import TypeAdapter

from proxy.errors import Code, Refusal
from proxy.model import Dialect
from proxy.wire import dialects, openai_chat
from proxy.wire.batch import Definition
from tests.wire.shapes import done, readable, refused, unreadable
from tests.wire.shapes import openai_chat as shape


def message(*calls: dict[str, Any], content: str | None = None) -> bytes:
    """An assistant message as the SDK dumps it."""
    made = ChatCompletionMessage.model_validate({"role": "assistant", "content": content, "tool_calls": list(calls)})
    return json.dumps(made.model_dump(exclude_none=True)).encode()


def test_a_whole_message() -> None:
    """Its calls in order; its text is the stated reason."""
    batch = dialects.parse(message(shape({"a": 1}), shape({"a": 2}, "c2"), content="because"))
    assert batch.many
    assert [readable(item).arguments.raw for item in batch.items] == [b'{"a":1}', b'{"a":2}']
    assert {readable(item).reason for item in batch.items} == {"because"}


def test_a_message_without_calls_answers_nothing() -> None:
    """So that a loop may pass every message."""
    batch = dialects.parse(b'{"role":"assistant","content":"done"}')
    assert openai_chat.render([], batch) == b"[]"


def test_free_text_tools_fail_alone() -> None:
    """A custom tool's input is no object that could be judged; its sibling runs."""
    custom = {"id": "c2", "type": "custom", "custom": {"name": "shell", "input": "ls"}}
    good, bad = dialects.parse(json.dumps([shape({}), custom]).encode()).items
    assert readable(good).tool == "get_stock"
    assert unreadable(bad).refusal.code is Code.INVALID_CALL


def test_rendered_as_the_sdk_types_it() -> None:
    """`role: tool` messages, one for each call, result and refusal alike."""
    batch = dialects.parse(message(shape({}), shape({}, "c2")))
    answers = [done(Dialect.OPENAI_CHAT), refused(Dialect.OPENAI_CHAT, Refusal(Code.DENIED, "no"), "c2")]
    messages = json.loads(openai_chat.render(answers, batch))
    assert TypeAdapter(list[ChatCompletionToolMessageParam]).validate_python(messages) == messages
    assert [m["tool_call_id"] for m in messages] == ["c1", "c2"]
    assert json.loads(messages[1]["content"])["refused"]["code"] == "denied"


def test_definitions_as_the_sdk_types_them() -> None:
    """Ready for the `tools` of a request."""
    tools = json.loads(
        openai_chat.definitions([Definition(name="t", description="d", version="1", schema={"type": "object"})])
    )
    assert TypeAdapter(list[ChatCompletionFunctionToolParam]).validate_python(tools) == tools
