"""What a dialect reads from a body, and what it is told of a tool."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from proxy.model import Dialect, ToolCall, UnreadableCall


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """The calls of one request body, in order. `many`: a list or a whole assistant message, so that the answer is a list."""

    dialect: Dialect
    items: tuple[ToolCall | UnreadableCall, ...]
    many: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Definition:
    """What a model is told of one tool. `schema` is the JSON Schema of its arguments."""

    name: str
    description: str
    version: str
    schema: Mapping[str, Any]
