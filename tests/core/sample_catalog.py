"""A small catalog that loads, and ways to break it in one place."""

import copy
from collections.abc import Sequence
from datetime import date
from typing import Any

from proxy.core.catalog import CatalogError, build_catalog
from proxy.core.tool import Catalog, Tool

TODAY = date(2026, 11, 25)

TEXT = {"type": "string"}
COUNT = {"type": "integer", "minimum": 1}

CAPACITY: dict[str, Any] = {
    "name": "get_capacity",
    "description": "Weekly capacity of one supplier.",
    "system": "suppliers",
    "effect": "read",
    "labels": ["terms"],
    "risk": "low",
    "upstream": "suppliers-api",
    "request": {"method": "GET", "path": "/suppliers/{supplier_id}/capacity", "query": {"week": "week"}},
    "arguments": {"supplier_id": {"role": "record", "resource": "supplier"}},
    "result": {
        "trusted_paths": ["weekly_capacity"],
        "max_bytes": 1024,
        "failure_when": {"path": "ok", "equals": False},
    },
    "versions": [
        {
            "version": "2",
            "arguments_schema": {
                "type": "object",
                "properties": {"supplier_id": TEXT, "week": COUNT},
                "required": ["supplier_id"],
            },
            "result_schema": {"type": "object", "properties": {"weekly_capacity": {"type": "integer"}}},
        },
        {
            "version": "1",
            "supported_until": "2027-03-01",
            "upgrade": {"rename": {"vendor": "supplier_id"}, "drop": ["verbose"], "default": {"week": 1}},
            "arguments_schema": {
                "type": "object",
                "properties": {"vendor": TEXT, "verbose": {"type": "boolean"}},
                "required": ["vendor"],
            },
        },
    ],
    "timeout": "250ms",
    "idempotent": True,
    "retries": 2,
}

ORDER: dict[str, Any] = {
    "name": "place_order",
    "upstream": "suppliers-api",
    "request": {"method": "POST", "path": "/orders", "body": {"sku": "sku", "qty": "quantity", "auth": "auth"}},
    "arguments": {"auth.pin": {"role": "secret"}},
    "versions": [
        {
            "version": "2026-01",
            "arguments_schema": {
                "type": "object",
                "properties": {
                    "sku": TEXT,
                    "quantity": COUNT,
                    "auth": {"type": "object", "properties": {"pin": TEXT}},
                },
                "required": ["sku", "quantity"],
            },
        }
    ],
}

OWN: dict[str, Any] = {
    "name": "draw_chart",
    "system": "charts",
    "upstream": "in-agent",
    "versions": [{"version": "1", "arguments_schema": {"type": "object", "properties": {"title": TEXT}}}],
}

DOCUMENT: dict[str, Any] = {
    "systems": {"suppliers": {"labels": ["confidential"], "audience": "internal"}, "charts": {}},
    "upstreams": {
        "suppliers-api": {
            "http": {"base_url": "http://suppliers.internal:8080/v2/"},
            "credential": "suppliers-read",
            "owner": "sourcing-team",
        },
        "in-agent": {"caller": {}},
    },
    "resources": {
        "supplier": {"upstream": "suppliers-api", "path": "/suppliers/{id}", "owner": "owner_id", "tenant": "tenant"}
    },
    "tools": [CAPACITY, ORDER, OWN],
}


def document(*changes: tuple[str, Any]) -> dict[str, Any]:
    """The document with `("tools/0/timeout", "9s")` and the like done to it; the value `...` removes."""
    changed = copy.deepcopy(DOCUMENT)
    for path, value in changes:
        *steps, last = [int(s) if s.isdecimal() else s for s in path.split("/")]
        place: Any = changed
        for step in steps:
            place = place[step]
        if value is ...:
            del place[last]
        else:
            place[last] = value
    return changed


def load(*documents: Any, today: date = TODAY) -> Catalog:
    """A catalog of documents called `0.yaml`, `1.yaml` and so on; of the sample if there are none."""
    named = [(f"{n}.yaml", d) for n, d in enumerate(documents or (document(),))]
    return build_catalog(named, today=today)


def problems(*documents: Any) -> Sequence[str]:
    """What is wrong with them; nothing if they load."""
    try:
        load(*documents)
    except CatalogError as e:
        return e.problems
    return ()


def tool(name: str = "get_capacity", *changes: tuple[str, Any]) -> Tool:
    """A tool of the sample, changed."""
    return load(document(*changes)).tools[name]
