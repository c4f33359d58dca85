"""Which keys of which journal records carry state."""

from collections.abc import Mapping
from typing import Any

from proxy.earlier import Outcome
from proxy.errors import Code, Ran

# Keys without which a record cannot be applied. The writer looks before it appends, since what is written is applied.
REQUIRED: Mapping[str, tuple[str, ...]] = {
    "intent": (
        "call",
        "conversation",
        "principal",
        "number",
        "tool",
        "system",
        "effect",
        "labels",
        "marks",
        "untrusted",
        "digest",
        "review",
        "counters",
        "day",
    ),
    "terminal": ("call", "conversation", "number", "outcome", "ok", "code", "digest", "counters"),
    "registered": ("conversation", "handle_hash", "principal", "agent", "registration"),
    "review_requested": ("review", "number", "system", "effect", "labels", "baseline"),
    "review_attached": ("review", "call"),
    "review_resolved": ("review", "status", "by", "comment", "resolved_at"),
    "stop": ("scope", "name", "standing", "by"),
}


def missing_keys(record: Mapping[str, Any]) -> list[str]:
    """Keys that the record lacks to be applied."""
    return [key for key in REQUIRED[record["kind"]] if key not in record]


def recovered_record(call: str, running: Mapping[str, Any]) -> dict[str, Any]:
    """The end of a call that was executing when its process died: nobody knows what came of it."""
    return {
        "kind": "terminal",
        "call": call,
        "conversation": running["conversation"],
        "principal": {"id": running["principal"]},
        "number": running["number"],
        "tool": running["tool"],
        "digest": running["digest"],
        "outcome": Outcome.UNKNOWN.value,
        "ok": False,
        "code": Code.OUTCOME_UNKNOWN.value,
        "ran": Ran.UNKNOWN.value,
        "rows": None,
        "counters": {},
        "recovered": True,
    }
