"""The tools and the policy of the benchmarks, and the bodies that call them."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

ARGUMENTS = {"sku": "SKU-17", "quantity": 40, "region": "eu-west", "currency": "EUR", "note": "n" * 300}


def tool(name: str, effect: str = "read") -> dict[str, Any]:
    """A catalog entry with the five arguments above, and a result schema."""
    return {
        "name": name,
        "description": "How many there are.",
        "system": "inventory",
        "effect": effect,
        "risk": "low",
        "upstream": "api",
        "request": {"method": "POST", "path": "/stock", "body": {name: name for name in ARGUMENTS}},
        "versions": [
            {
                "version": "1",
                "arguments_schema": {
                    "type": "object",
                    "properties": {
                        name: {"type": "integer" if isinstance(value, int) else "string"}
                        for name, value in ARGUMENTS.items()
                    },
                    "required": list(ARGUMENTS),
                },
                "result_schema": {
                    "type": "object",
                    "properties": {
                        "sku": {"type": "string"},
                        "on_hand": {"type": "integer"},
                        "note": {"type": "string"},
                    },
                    "required": ["sku", "on_hand"],
                },
            }
        ],
        "timeout": "5s",
    }


# The first is allowed, the second needs a person, the third nobody may use.
TOOLS = [tool("get_stock"), tool("ask_price"), tool("drop_all", "admin")]

GRANTS: Mapping[str, Any] = {
    "tools": {"ask_price": {"buyer": {"review": {"approvers": ["sourcing-leads"]}}}},
    "systems": {"inventory": {"read": {"buyer": {}}}},
}


def policy(document: dict[str, Any], *, grants: int = 0) -> None:
    """Change the tests' policy to the one above, with `grants` further cells of roles that nobody here has."""
    document["grants"] = json.loads(json.dumps(GRANTS))
    document["arguments"] = {}
    cells = {f"role-{n}": {"arguments": {"quantity": {"max": 1000 + n}}} for n in range(grants)}
    document["grants"]["tools"] |= {"get_stock": {"buyer": {}, **cells}} if grants else {}


def call(name: str, *, number: int | None = None) -> bytes:
    """The body of one native call; a number makes its arguments unlike others'."""
    arguments = ARGUMENTS if number is None else ARGUMENTS | {"quantity": number}
    return json.dumps({"id": "c", "tool": name, "arguments": arguments}).encode()


def request(path: str, body: bytes, *headers: str, method: str = "POST") -> bytes:
    """A whole HTTP/1.1 request."""
    lines = [
        f"{method} {path} HTTP/1.1",
        "host: 127.0.0.1",
        "content-type: application/json",
        f"content-length: {len(body)}",
        *headers,
    ]
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + body


def calls(name: str, handles: Sequence[str], *headers: str) -> list[bytes]:
    """The same call in each of these conversations."""
    body = call(name)
    return [request("/v1/tool-calls", body, f"x-sidegate-conversation: {handle}", *headers) for handle in handles]
