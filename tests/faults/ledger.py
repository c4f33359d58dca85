"""What the clients of one run were told: the side of the story that the journal has to agree with."""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

NOTHING_RAN = frozenset({"audit_unavailable", "state_unavailable"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One answer to one call: its code (empty for a result) and when it came, seconds of the harness."""

    call: str
    code: str
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Talk:
    """A registered conversation."""

    name: str
    handle: str
    user: str


@dataclass(slots=True)
class Ledger:
    """All that was acknowledged. `handed` are calls that the agent was told to run itself."""

    talks: dict[str, Talk] = field(default_factory=dict)
    answers: list[Seen] = field(default_factory=list)
    handed: dict[str, str] = field(default_factory=dict)  # call -> handle
    approved: dict[str, dict[str, Any]] = field(default_factory=dict)  # review -> as it was shown
    rejected: set[str] = field(default_factory=set)
    stopped: set[str] = field(default_factory=set)  # conversations
    read: dict[str, set[str]] = field(default_factory=dict)  # conversation -> systems that gave a result
    problems: list[str] = field(default_factory=list)
    acts: Counter[str] = field(default_factory=Counter)
    codes: Counter[str] = field(default_factory=Counter)
    no_answer: Counter[str] = field(default_factory=Counter)

    def answered(self, at: float, headers: Mapping[str, str], body: bytes) -> list[str]:
        """Take down one answer of the agent port, in whatever dialect; returns its codes."""
        calls = [call for call in headers.get("x-sidegate-call-id", "").split(",") if call]
        document = json.loads(body)
        items = list(_items(document))
        if not calls:
            self.codes[f"(no call) {code_of(document) if isinstance(document, dict) else 'none in it'}"] += 1
            return []
        if len(items) != len(calls):
            self.problems.append(f"{len(calls)} calls, {len(items)} answers: {body[:300]!r}")
            return []
        codes = []
        for call, item in zip(calls, items, strict=True):
            handle = handle_of(item)
            code = "handed_over" if handle else code_of(item)
            if handle:
                self.handed[call] = handle
            else:
                self.answers.append(Seen(call=call, code=code, at=at))
            self.codes[code or "done"] += 1
            codes.append(code)
        return codes


def _items(document: Any) -> Any:
    """One by one, whatever the dialect wraps them in."""
    if isinstance(document, list) and document and document[0].get("role") == "user":
        return document[0]["content"]
    if isinstance(document, list):
        return document
    return document["content"] if document.get("role") == "user" else [document]


def _said(item: dict[str, Any]) -> dict[str, Any]:
    """The document inside, which model dialects carry as text."""
    for key in ("content", "output"):
        if isinstance(item.get(key), str):
            found = json.loads(item[key])
            return {"refusal": found["refused"]} if "refused" in found else found
    return item


def code_of(item: dict[str, Any]) -> str:
    """The refusal's code, empty for a result."""
    return str(_said(item).get("refusal", {}).get("code", ""))


def handle_of(item: dict[str, Any]) -> str:
    """The handle under which the agent reports a result; empty if the call is not handed over."""
    return str(_said(item).get("allowed", {}).get("result_handle", ""))
