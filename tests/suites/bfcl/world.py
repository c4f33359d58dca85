"""The data set's functions as catalog files, and the policy that grants them: one system, read, to the rig's buyers."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.e2e.rig import Rig
from tests.suites.bfcl.data import Function

SYSTEM = "bfcl"
UNMAPPED = "published_as_it_is"
_TOOLS_PER_FILE = 500  # a file of the catalog may have 4 MiB and 200,000 values


def furnish(rig: Rig, tools: Sequence[tuple[str, Function, Mapping[str, Any]]]) -> None:
    """Give a rig that has not started the tools `(name, function, translated schema)`, and `UNMAPPED`, whose schema has gone
    through no table (case F03)."""
    rig.settings["opa"] = {"deadline": "10s"}  # what is decided is measured here, not how fast on a busy machine
    rig.catalog = {
        "systems": {SYSTEM: {"audience": "internal"}},
        "upstreams": {"api": {"http": {"base_url": "http://127.0.0.1:{upstream}"}, "credential": "api"}},
        "tools": [entry(UNMAPPED, tools[0][1], tools[0][1].parameters)],
    }
    off = {"arguments": {}, "combination": [], "ownership": {"any_tenant": []}}
    rig.policy |= off | {"grants": {"tools": {}, "systems": {SYSTEM: {"read": {"buyer": {}}}}}}
    folder = rig.folder / "catalog"
    folder.mkdir()
    for n, part in enumerate(_parts(tools)):
        lines = ",\n".join(json.dumps(entry(*tool), ensure_ascii=False) for tool in part)
        _write(folder / f"bfcl-{n}.yaml", f'{{"tools": [\n{lines}\n]}}\n')


def entry(name: str, function: Function, schema: Mapping[str, Any]) -> dict[str, Any]:
    """One catalog entry: every argument travels in the body under its own name."""
    return {
        "name": name,
        "description": function.description,
        "system": SYSTEM,
        "effect": "read",
        "upstream": "api",
        "request": {"method": "POST", "path": f"/{name}", "body": {key: key for key in schema.get("properties", {})}},
        "versions": [{"version": "1", "arguments_schema": dict(schema)}],
        "timeout": "30s",
    }


def _parts(tools: Sequence[Any]) -> Iterator[Sequence[Any]]:
    for n in range(0, len(tools), _TOOLS_PER_FILE):
        yield tools[n : n + _TOOLS_PER_FILE]


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
