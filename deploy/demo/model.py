"""A scripted model endpoint on loopback: the OpenAI and Anthropic SDKs speak to it as to the real ones.

A user message `[3] ...` makes it call the tool of step 3; with the tool's result in hand it answers in words.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from aiohttp import web


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One turn of the story. `arguments` is what the model writes: a JSON text."""

    asks: str
    says: str
    tool: str
    arguments: str
    sdk: str = "openai"


def application(steps: Sequence[Step]) -> web.Application:
    """`POST /v1/chat/completions` and `POST /v1/messages`."""

    async def chat(request: web.Request) -> web.Response:
        messages = (await request.json())["messages"]
        message: dict[str, Any] = {"role": "assistant", "content": "I have what I need."}
        if messages[-1]["role"] == "user":
            number = _step(messages[-1]["content"])
            step = steps[number]
            function = {"name": step.tool, "arguments": step.arguments}
            message = {
                "role": "assistant",
                "content": step.says,
                "tool_calls": [{"id": f"call_{number}", "type": "function", "function": function}],
            }
        choice = {"index": 0, "message": message, "finish_reason": "tool_calls" if "tool_calls" in message else "stop"}
        return web.json_response(
            {"id": "chat-1", "object": "chat.completion", "created": 0, "model": "scripted", "choices": [choice]}
        )

    async def messages(request: web.Request) -> web.Response:
        last = (await request.json())["messages"][-1]["content"]
        content: list[dict[str, Any]] = [{"type": "text", "text": "I have what I need."}]
        if isinstance(last, str):
            number = _step(last)
            step = steps[number]
            content = [
                {"type": "text", "text": step.says},
                {"type": "tool_use", "id": f"toolu_{number}", "name": step.tool, "input": json.loads(step.arguments)},
            ]
        return web.json_response(
            {
                "id": "msg_1",
                "type": "message",
                "role": "assistant",
                "model": "scripted",
                "content": content,
                "stop_reason": "tool_use" if len(content) > 1 else "end_turn",
                "stop_sequence": None,
                "usage": {"input_tokens": 1, "output_tokens": 1},
            }
        )

    app = web.Application()
    app.router.add_post("/v1/chat/completions", chat)
    app.router.add_post("/v1/messages", messages)
    return app


def _step(text: str) -> int:
    found = re.match(r"\[(\d+)\]", text)
    if found is None:
        raise web.HTTPBadRequest(text="the script has no such step")
    return int(found[1])
