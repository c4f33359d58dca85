"""The demo's agent: the usual loop over the OpenAI and the Anthropic SDK. What Sidegate adds is two lines in each."""

from typing import Any

import requests
from anthropic import Anthropic
from openai import OpenAI


class Agent:
    """One conversation with the model. `sidegate` is an HTTP session that brings the conversation's handle."""

    def __init__(self, model: str, sidegate: requests.Session, url: str) -> None:
        self.openai = OpenAI(base_url=f"{model}/v1", api_key="scripted")
        self.anthropic = Anthropic(base_url=model, api_key="scripted")
        self.sidegate = sidegate
        self.url = url

    def ask_openai(self, text: str) -> dict[str, Any]:
        """One user turn over Chat Completions; returns the message that the model reads as the tool's result."""
        tools = self.sidegate.get(f"{self.url}/v1/tools?dialect=openai_chat").json()
        messages: list[Any] = [{"role": "user", "content": text}]
        message = (
            self.openai.chat.completions.create(model="scripted", messages=messages, tools=tools).choices[0].message
        )
        messages.append(message.model_dump(exclude_none=True))
        answer = self.sidegate.post(f"{self.url}/v1/tool-calls", json=message.model_dump(exclude_none=True))
        messages += answer.json()
        self.openai.chat.completions.create(model="scripted", messages=messages, tools=tools)
        return dict(messages[-1])

    def ask_anthropic(self, text: str) -> dict[str, Any]:
        """One user turn over Messages; returns the tool_result block that the model reads."""
        tools = self.sidegate.get(f"{self.url}/v1/tools?dialect=anthropic").json()
        messages: list[Any] = [{"role": "user", "content": text}]
        message = self.anthropic.messages.create(model="scripted", max_tokens=100, messages=messages, tools=tools)
        messages.append({"role": "assistant", "content": message.model_dump(exclude_none=True)["content"]})
        answer = self.sidegate.post(f"{self.url}/v1/tool-calls", json=message.model_dump(exclude_none=True))
        messages += answer.json()
        self.anthropic.messages.create(model="scripted", max_tokens=100, messages=messages, tools=tools)
        return dict(messages[-1]["content"][0])
