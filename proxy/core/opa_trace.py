"""OPA's trace of one decision (`opa eval --explain full --format json`): which rule of which policy said what. Pure."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_POLICY = re.compile(r"(?:.*/)?(sidegate/policies/([A-Za-z0-9_-]+)/[^/]+)")
_SAYING = ("deny", "review", "allow", "warn")


@dataclass(frozen=True, slots=True, kw_only=True)
class Fired:
    """A rule that said something: `member` is its file in the bundle, `reason` what it said, as plain JSON."""

    policy: str
    says: str
    member: str
    row: int
    title: str
    reason: Any


def fired(events: Sequence[Mapping[str, Any]]) -> Iterator[Fired]:
    """Each rule named deny, review, allow or warn that came to its end, once for each thing it said."""
    for event in events:
        node, place = event.get("Node"), event.get("Location") or {}
        found = _POLICY.fullmatch(str(place.get("file", "")))
        if event.get("Op") != "Exit" or found is None or not isinstance(node, dict) or "head" not in node:
            continue
        head = node["head"]
        if head.get("name") in _SAYING and "key" in head:
            yield Fired(
                policy=found[2],
                says=head["name"],
                member=found[1],
                row=int(place["row"]),
                title=_title(node),
                reason=_plain(head["key"], {local.get("name"): local for local in event.get("Locals") or ()}),
            )


def _plain(term: Any, local: Mapping[str, Any]) -> Any:
    """A term of OPA's syntax tree as plain JSON, variables by their values; sets as lists, what is not known as null."""
    kind, value = term.get("type"), term.get("value")
    if kind == "var":
        return _plain(local[value], {}) if value in local else None
    if kind == "object":
        return {_plain(key, local): _plain(item, local) for key, item in value}
    return [_plain(item, local) for item in value] if kind in ("array", "set") else value


def _title(node: Mapping[str, Any]) -> str:
    titles = (str(note["title"]) for note in node.get("annotations") or () if note.get("title"))
    return next(titles, "")
