"""The four shapes of a call on the wire, written by hand from the vendors' formats, and what their answers say."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tests.suites.bfcl.calls import Call, backwards, write

# Anthropic's calls are sent with their keys backwards: another order is the same call, and arrives as it was sent.
SHAPES = ("native", "openai_chat", "openai_responses", "anthropic")


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What the agent is told of one call: a refusal's code and message, or what the upstream says it received."""

    code: str | None = None
    message: str = ""
    target: str = ""
    body: str = ""


def sent(shape: str, call: Call) -> dict[str, Any]:
    """The arguments of a call as this shape sends them."""
    arguments: dict[str, Any] = backwards(call.arguments) if shape == "anthropic" else call.arguments
    return arguments


def request(shape: str, calls: Sequence[Call]) -> bytes:
    """One call as the bare item; several as the list or whole message in which this shape has parallel calls."""
    items = [_item(shape, call) for call in calls]
    if len(items) == 1:
        return items[0].encode()
    listed = "[" + ", ".join(items) + "]"
    around = {
        "native": "%s",
        "openai_chat": '{"role": "assistant", "content": null, "tool_calls": %s}',
        "openai_responses": '{"id": "resp_1", "object": "response", "output": %s}',
        "anthropic": '{"role": "assistant", "content": %s}',
    }
    return (around[shape] % listed).encode()


def answers(shape: str, document: Any) -> dict[str, Said]:
    """Call id -> what was said, from the answer to `request`."""
    listed = document if isinstance(document, list) else [document]
    if shape == "anthropic":
        listed = [block for message in listed for block in message["content"]]
    return dict(_answer(shape, item) for item in listed)


def shown(shape: str, document: Any) -> dict[str, Any]:
    """Tool name -> JSON Schema of its arguments, from the definitions of this shape."""
    if shape == "openai_chat":
        document = [one["function"] for one in document if one["type"] == "function"]
    key = {"native": "arguments", "anthropic": "input_schema"}.get(shape, "parameters")
    return {one["name"]: one[key] for one in document}


def _item(shape: str, call: Call) -> str:
    arguments = sent(shape, call)
    name, call_id = json.dumps(call.tool), json.dumps(call.id)
    if shape == "native":
        return f'{{"id": {call_id}, "tool": {name}, "arguments": {write(arguments)}}}'
    if shape == "anthropic":
        return f'{{"type": "tool_use", "id": {call_id}, "name": {name}, "input": {write(arguments, spaced=True)}}}'
    text = json.dumps(write(arguments, spaced=True))
    if shape == "openai_chat":
        return f'{{"id": {call_id}, "type": "function", "function": {{"name": {name}, "arguments": {text}}}}}'
    return f'{{"type": "function_call", "id": "fc_1", "call_id": {call_id}, "name": {name}, "arguments": {text}}}'


_KEYS = {
    "openai_chat": ("tool_call_id", "content"),
    "openai_responses": ("call_id", "output"),
    "anthropic": ("tool_use_id", "content"),
}


def _answer(shape: str, item: dict[str, Any]) -> tuple[str, Said]:
    if shape == "native":
        return item["id"], _said(item.get("refusal"), item.get("result"))
    id_key, text_key = _KEYS[shape]
    document = json.loads(item[text_key])
    refused = document.get("refused")
    if shape == "anthropic" and item["is_error"] != (refused is not None):
        raise AssertionError(f"is_error of {item[id_key]} contradicts its content")
    return item[id_key], _said(refused, document)


def _said(refused: Any, result: Any) -> Said:
    if refused is not None:
        return Said(code=refused["code"], message=refused["message"])
    return Said(target=result["target"], body=result["body"])
