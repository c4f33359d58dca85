"""Roles that a policy document names, against those that tokens have: a role that nobody has is mostly a misspelt one. Pure."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from difflib import get_close_matches
from typing import Any

from proxy.core.policy_document import all_grants

_UNKNOWN = "unknown"  # of who calls outside of a registered conversation: no token has it
Named = Iterable[tuple[str, str]]  # (path in the document, role)


def roles_of_users(document: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Roles that principals are to have, each with its place in a valid policy document."""
    grants = document["grants"]
    cells = [(f"grants.tools.{tool}", cell) for tool, cell in grants["tools"].items()]
    for system, effects in grants["systems"].items():
        cells += [(f"grants.systems.{system}.{effect}", cell) for effect, cell in effects.items()]
    for tool, entry in document["arguments"].items():
        cells += [(f"arguments.{tool}.limits.{name}", limit) for name, limit in entry.get("limits", {}).items()]
    cells.append(("ownership.any_tenant", document["ownership"]["any_tenant"]))
    for index, rule in enumerate(document["combination"]):
        cells.append((f"combination.{index}.unless.roles", rule.get("unless", {}).get("roles", ())))
    for path, roles in cells:
        yield from ((path, role) for role in roles)


def roles_of_reviewers(document: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Roles that reviewers are to have (`approvers`), each with its place in a valid policy document."""
    review = document["review"]
    entries = [("review", review)]
    entries += [(f"review.effects.{name}", entry) for name, entry in review["effects"].items()]
    entries += [(f"review.risks.{name}", entry) for name, entry in review["risks"].items()]
    entries += [(f"combination.{index}", rule) for index, rule in enumerate(document["combination"])]
    for path, grant in all_grants(document["grants"]):
        if isinstance(grant.get("review"), Mapping):
            entries.append((f"{path}.review", grant["review"]))
    for path, entry in entries:
        yield from ((f"{path}.approvers", role) for role in entry.get("approvers", ()))


def unheld(named: Named, held: Collection[str], file: str) -> list[str]:
    """A sentence for each role, at its first place, that no token of the file has; with the nearest that one has."""
    places: dict[str, str] = {}
    for path, role in named:
        places.setdefault(role, path)
    return [_sentence(path, role, held, file) for role, path in places.items() if role not in {*held, _UNKNOWN}]


def _sentence(path: str, role: str, held: Collection[str], file: str) -> str:
    near = get_close_matches(role, sorted(held), 1)
    return f"{path}: no token in {file} has the role '{role}'" + (f"; did you mean '{near[0]}'?" if near else "")
