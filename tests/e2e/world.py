"""Who is there, which tools, and what policy says: the world of the tests through the running sidecar."""

from collections.abc import Mapping
from typing import Any

USERS = {
    "ada": {"name": "Ada Example", "tenant": "acme", "roles": ("buyer",)},
    "ben": {"name": "Ben Example", "tenant": "acme", "roles": ("buyer",)},
    "eve": {"name": "Eve Elsewhere", "tenant": "other", "roles": ("buyer",)},
}
REVIEWERS = {
    "rob": {"name": "Rob Example", "tenant": "acme", "roles": ("sourcing-leads", "operator")},
    "ada": {"name": "Ada Example", "tenant": "acme", "roles": ("sourcing-leads",)},
    "sam": {"name": "Sam Else", "tenant": "acme", "roles": ("other-group",)},
    "tom": {"name": "Tom Elsewhere", "tenant": "other", "roles": ("sourcing-leads", "operator")},
}

CATALOG: dict[str, Any] = {
    "systems": {
        "inventory": {"audience": "internal"},
        "suppliers": {"labels": ["supplier-terms"], "audience": "internal"},
        "pricing": {"labels": ["price-list"], "audience": "internal"},
        "desktop": {"audience": "internal"},
    },
    "upstreams": {
        "api": {"http": {"base_url": "http://127.0.0.1:{upstream}"}, "credential": "api", "owner": "platform-team"},
        "in-agent": {"caller": {}},
    },
    "resources": {"customer": {"upstream": "api", "path": "/facts/{id}", "tenant": "tenant", "owner": "owner"}},
    "tools": [],
}


def tool(name: str, system: str, effect: str, request: Mapping[str, Any] | None, **more: Any) -> dict[str, Any]:
    """A catalog entry with one string argument `sku`, unless `properties` says otherwise."""
    properties = more.pop("properties", {"sku": {"type": "string"}})
    schema = {"type": "object", "properties": properties, "required": list(properties)}
    entry: dict[str, Any] = {
        "name": name,
        "description": f"{name} of {system}",
        "system": system,
        "effect": effect,
        "risk": "low",
        "upstream": "api" if request else "in-agent",
        "versions": [{"version": "1", "arguments_schema": schema}],
        "timeout": "10s",
    }
    return entry | ({"request": dict(request)} if request else {}) | more


TOOLS = [
    tool("get_stock", "inventory", "read", {"method": "GET", "path": "/stock/{sku}"}),
    tool("get_terms", "suppliers", "read", {"method": "GET", "path": "/terms/{sku}"}),
    tool("get_price", "pricing", "read", {"method": "GET", "path": "/prices/{sku}"}),
    tool(
        "create_order",
        "suppliers",
        "write",
        {"method": "POST", "path": "/orders", "body": {"sku": "sku", "quantity": "quantity"}},
        properties={"sku": {"type": "string"}, "quantity": {"type": "number"}},
    ),
    tool(
        "get_customer",
        "inventory",
        "read",
        {"method": "GET", "path": "/customers/{id}"},
        properties={"id": {"type": "string"}},
        arguments={"id": {"role": "record", "resource": "customer"}},
    ),
    tool(
        "log_in",
        "inventory",
        "read",
        {"method": "POST", "path": "/login", "body": {"user": "user", "password": "password"}},
        properties={"user": {"type": "string"}, "password": {"type": "string"}},
        arguments={"password": {"role": "secret"}},
    ),
    tool("drop_all", "inventory", "admin", {"method": "POST", "path": "/drop", "body": {"sku": "sku"}}),
    tool("convert", "desktop", "read", None),
]

POLICY: dict[str, Any] = {
    "schema": 1,
    "policies": dict.fromkeys(("grants", "arguments", "ownership", "combination", "review"), "enforce"),
    "granting": ["grants"],
    "grants": {
        "tools": {},
        "systems": {
            "inventory": {"read": {"buyer": {}}, "admin": {"buyer": {}}},
            "suppliers": {"read": {"buyer": {}}, "write": {"buyer": {}}},
            "pricing": {"read": {"buyer": {}}},
            "desktop": {"read": {"buyer": {}}},
        },
    },
    "arguments": {"create_order": {"limits": {"quantity": {"buyer": 100}}}},
    "ownership": {"any_tenant": []},
    "combination": [
        {
            "name": "sourcing_triangle",
            "marks": ["system:inventory", "system:suppliers", "system:pricing"],
            "then": "review",
            "message": "inventory, suppliers and pricing together reveal the negotiating position",
            "approvers": ["sourcing-leads"],
        }
    ],
    "review": {"approvers": ["sourcing-leads"], "effects": {}, "risks": {}},
    "custom": {},
}
