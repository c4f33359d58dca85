"""OpenAI Responses, with the SDK's own types as judge of what we read and write."""

import json
from typing import Any

from openai.types.responses import FunctionToolParam, ResponseFunctionToolCall, ResponseOutputMessage
from openai.types.responses.response_input_param import FunctionCallOutput
from pydantic import TypeAdapter

from proxy.errors import Code, Refusal
from proxy.model import Dialect
from proxy.wire import dialects, openai_responses
from proxy.wire.batch import Definition
from tests.wire.shapes import done, readable, refused, unreadable
from tests.wire.shapes import openai_responses as shape


def output() -> list[dict[str, Any]]:
    """An output list as the SDK dumps it: some words, then a call."""
    text = {"type": "output_text", "text": "because", "annotations": []}
    said = ResponseOutputMessage.model_validate(
        {"type": "message", "id": "m1", "role": "assistant", "status": "completed", "content": [text]}
    )
    call = ResponseFunctionToolCall.model_validate(shape({"a": 1}))
    return [said.model_dump(exclude_none=True), call.model_dump(exclude_none=True)]


def test_an_output_list_and_a_whole_response() -> None:
    """Calls are matched by `call_id`; the words beside them are the stated reason."""
    for body in (output(), {"object": "response", "output": output()}):
        batch = dialects.parse(json.dumps(body).encode())
        item = readable(batch.items[0])
        assert (batch.many, item.id, item.reason) == (True, "c1", "because")


def test_an_output_without_calls_answers_nothing() -> None:
    """So that a loop may pass every output."""
    batch = dialects.parse(json.dumps(output()[:1]).encode())
    assert openai_responses.render([], batch) == b"[]"


def test_free_text_tools_fail_alone() -> None:
    """A custom tool's input is no object that could be judged."""
    item = {"type": "custom_tool_call", "call_id": "c2", "name": "shell", "input": "ls"}
    assert unreadable(dialects.parse(json.dumps(item).encode()).items[0]).refusal.code is Code.INVALID_CALL


def test_rendered_as_the_sdk_types_it() -> None:
    """`function_call_output` items, result and refusal alike."""
    batch = dialects.parse(json.dumps([shape({}), shape({}, "c2")]).encode())
    refusal = refused(Dialect.OPENAI_RESPONSES, Refusal(Code.DENIED, "no"), "c2")
    items = json.loads(openai_responses.render([done(Dialect.OPENAI_RESPONSES), refusal], batch))
    assert TypeAdapter(list[FunctionCallOutput]).validate_python(items) == items
    assert [item["call_id"] for item in items] == ["c1", "c2"]


def test_definitions_as_the_sdk_types_them() -> None:
    """Ready for the `tools` of a request."""
    definition = Definition(name="t", description="d", version="1", schema={"type": "object"})
    tools = json.loads(openai_responses.definitions([definition]))
    assert TypeAdapter(list[FunctionToolParam]).validate_python(tools) == tools
