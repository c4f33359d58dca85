"""The closed JSON Schema of one catalog file (design section 6). Tools' own schemas inside it are checked tool by tool.

It takes what works. Keys and roles of the design that do nothing yet are refused, and told from those that are misspelt.
"""

from collections.abc import Mapping
from typing import Any

NAME = {"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"}
_TEXT = {"type": "string", "minLength": 1, "maxLength": 4096}
_LINE = {"type": "string", "minLength": 1, "maxLength": 1024, "pattern": "^[^\\u0000-\\u001f\\u007f]*$"}
_LABELS = {"type": "array", "items": NAME, "uniqueItems": True, "maxItems": 32}
_PATHS = {"type": "array", "items": _LINE, "uniqueItems": True, "maxItems": 256}
_PLACES = {"type": "object", "propertyNames": _LINE, "additionalProperties": _LINE}


def _closed(properties: Mapping[str, Any], *required: str) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(required),
        "additionalProperties": False,
    }


def _named(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "object", "propertyNames": NAME, "additionalProperties": entry}


_SYSTEM = _closed({"description": _TEXT, "labels": _LABELS, "audience": {"enum": ["internal", "external"]}})

_UPSTREAM = _closed(
    {
        "http": _closed({"base_url": _LINE}, "base_url"),
        "mcp": _closed({"url": _LINE}, "url"),
        "caller": _closed({}),
        "credential": NAME,
        "owner": _LINE,
    }
)

_RESOURCE = _closed({"upstream": NAME, "path": _LINE, "owner": _LINE, "tenant": _LINE}, "upstream", "path")

_RESULT = _closed(
    {
        "trusted_paths": _PATHS,
        "max_bytes": {"type": "integer", "minimum": 1, "maximum": 16 << 20},
        "failure_when": _closed({"path": _LINE, "equals": True}, "path", "equals"),
        "media_type": {"type": "string", "pattern": "^(application/([a-z0-9.+-]*\\+)?json|text/[a-z0-9.+-]+)$"},
        "pass_invalid": {"type": "boolean"},
    }
)

_REQUEST = _closed(
    {
        "method": {"enum": ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]},
        "path": _LINE,
        "query": _PLACES,
        "body": _PLACES,
    },
    *("method", "path"),
)

_UPGRADE = _closed(
    {
        "rename": {"type": "object", "additionalProperties": _LINE},
        "drop": _PATHS,
        "default": {"type": "object"},
    }
)

_VERSION = _closed(
    {
        "version": {"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9._-]{0,31}$"},
        "arguments_schema": {"type": "object"},
        "result_schema": {"type": "object"},
        "supported_until": {"type": "string", "format": "date", "pattern": "^[1-9]"},  # Python has no year 0
        "upgrade": _UPGRADE,
    },
    *("version", "arguments_schema"),
)

_ARGUMENT = _closed({"role": {"enum": ["target", "record", "secret"]}, "resource": NAME}, "role")

_TOOL = _closed(
    {
        "name": {"type": "string", "pattern": "^[A-Za-z0-9_-]{1,64}$"},
        "description": _TEXT,
        "system": NAME,
        "effect": {"enum": ["read", "fetch", "write", "send", "admin"]},
        "labels": _LABELS,
        "risk": {"enum": ["low", "medium", "high"]},
        "upstream": NAME,
        "request": _REQUEST,
        "arguments": {"type": "object", "additionalProperties": _ARGUMENT},
        "result": _RESULT,
        "versions": {"type": "array", "items": _VERSION, "minItems": 1, "maxItems": 16},
        "timeout": {"type": "string", "pattern": "^[0-9]{1,6}(\\.[0-9]{1,3})?(ms|s|m)$"},
        "idempotent": {"type": "boolean"},
        "retries": {"type": "integer", "minimum": 0, "maximum": 5},
    },
    *("name", "upstream", "versions"),
)

NOT_YET_KEYS = frozenset({"headers_forwarded", "wire_name", "keep", "records"})
NOT_YET_ROLES = frozenset({"name", "body"})

CATALOG_SCHEMA: Mapping[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    **_closed(
        {
            "systems": _named(_SYSTEM),
            "upstreams": _named(_UPSTREAM),
            "resources": _named(_RESOURCE),
            "tools": {"type": "array", "items": _TOOL, "maxItems": 10_000},
        }
    ),
}
