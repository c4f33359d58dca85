"""One and the same call in every dialect, for tests of all of them."""

import json
from typing import Any

from proxy.errors import Refusal
from proxy.model import Answer, Arguments, Dialect, Result, SpanContext, ToolCall, UnreadableCall

TRACE = SpanContext(trace_id="a" * 32, span_id="b" * 16)


def native(arguments: Any, call_id: str = "c1") -> dict[str, Any]:
    return {"id": call_id, "tool": "get_stock", "arguments": arguments}


def openai_chat(arguments: Any, call_id: str = "c1") -> dict[str, Any]:
    text = arguments if isinstance(arguments, str) else json.dumps(arguments)
    return {"id": call_id, "type": "function", "function": {"name": "get_stock", "arguments": text}}


def openai_responses(arguments: Any, call_id: str = "c1") -> dict[str, Any]:
    text = arguments if isinstance(arguments, str) else json.dumps(arguments)
    return {"type": "function_call", "id": "fc_1", "call_id": call_id, "name": "get_stock", "arguments": text}


def anthropic(arguments: Any, call_id: str = "c1") -> dict[str, Any]:
    return {"type": "tool_use", "id": call_id, "name": "get_stock", "input": arguments}


SHAPES = {
    Dialect.NATIVE: native,
    Dialect.OPENAI_CHAT: openai_chat,
    Dialect.OPENAI_RESPONSES: openai_responses,
    Dialect.ANTHROPIC: anthropic,
}


def call(dialect: Dialect, call_id: str = "c1") -> ToolCall:
    arguments = Arguments(raw=b"{}", tree={}, value={})
    return ToolCall(id=call_id, tool="get_stock", arguments=arguments, dialect=dialect)


def done(dialect: Dialect, body: bytes = b'{"on_hand":7}', call_id: str = "c1") -> Answer:
    result = Result(body=body, size=len(body), digest="d")
    return Answer(call=call(dialect, call_id), call_id="s1", trace=TRACE, result=result)


def refused(dialect: Dialect, refusal: Refusal, call_id: str = "c1") -> Answer:
    return Answer(call=call(dialect, call_id), call_id="s1", trace=TRACE, refusal=refusal)


def handed_over(dialect: Dialect) -> Answer:
    return Answer(call=call(dialect), call_id="s1", trace=TRACE, handle="h1")


def unreadable(item: ToolCall | UnreadableCall) -> UnreadableCall:
    assert isinstance(item, UnreadableCall)
    return item


def readable(item: ToolCall | UnreadableCall) -> ToolCall:
    assert isinstance(item, ToolCall), item
    return item
