"""Recorded decisions without a sidecar: the shipped samples' base input, the bundle that decides it, and journal lines."""

import asyncio
import copy
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from proxy.adapters.bundle import Sources, write
from proxy.adapters.bundle_proof import sample_bundle
from proxy.core.chain import GENESIS, seal_line
from tests.contracts.opa_server import opa_binary

REGO = Path(__file__).parents[2] / "rego"
INPUT: Mapping[str, Any] = json.loads((REGO / "samples" / "input.json").read_bytes())
GRANTED = {"effect": "allow", "reasons": [{"policy": "grants", "code": "granted"}]}


def bundle_in(folder: Path) -> Path:
    """The shipped policies with the settings of their samples; OPA where commands without settings find it."""
    assembled = asyncio.run(sample_bundle(opa_binary(), Sources(shipped=REGO)))
    path = folder / "policy.tar.gz"
    write(assembled, path)
    return path


def recorded(
    seq: int, call: str, decision: Mapping[str, Any] | None = None, *, kind: str = "terminal", **changes: Any
) -> bytes:
    """The record of a call that was decided about the base input, changed at dotted paths (`__`)."""
    document = copy.deepcopy(dict(INPUT))
    document["conversation"]["calls"] = None
    for path, value in changes.items():
        *parents, key = path.split("__")
        place = document
        for parent in parents:
            place = place[parent]
        place[key] = value
    record = {
        "seq": seq,
        "at": f"2026-11-25T10:00:0{seq}.000000Z",
        "kind": kind,
        "call": call,
        "trace": f"t-{call}",
        "conversation": "conv-1",
        "number": seq,
        "tool": "get_price",
        "outcome": "refused",
        "code": "denied",
        "ran": "no",
        "principal": {"id": "https://login.example#u-1", "name": "Ada Example"},
        "system": "pricing",
        "effect": "read",
        "labels": [],
        "input": document,
        **({} if decision is None else {"decision": {**decision, "policy": "p" * 64}}),
    }
    return seal_line(GENESIS, json.dumps(record, separators=(",", ":")).encode())[0]
