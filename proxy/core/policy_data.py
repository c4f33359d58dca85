"""Policy settings: the document that policy authors write (policy.yaml) and the data that the Rego reads.

The data is keyed by what a call brings (tool, role, mark), so that evaluation does not grow with the document.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

from proxy.core.policy_document import all_grants, grants_of, mode_of, read_document

_EFFECTS = frozenset({"read", "fetch", "write", "send", "admin"})
_RISKS = frozenset({"undeclared", "low", "medium", "high"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiver:
    """Why a policy of Sidegate's own is not enforced, and the last day of it."""

    policy: str
    mode: str
    because: str
    until: date


@dataclass(frozen=True, slots=True, kw_only=True)
class Mentions:
    """Names that a policy document uses and that must exist elsewhere."""

    policies: frozenset[str]
    systems: frozenset[str]
    labels: frozenset[str]
    tools: frozenset[str]
    arguments: frozenset[tuple[str, str]]  # (tool, top-level argument)
    bounds: frozenset[tuple[str, str, str]]  # (system, effect, top-level argument)
    roles: frozenset[str]
    approvers: frozenset[str]
    waivers: tuple[Waiver, ...]


def compile_policy(document: Mapping[str, Any], schema: Mapping[str, Any]) -> dict[str, Any]:
    """The data under `data.sidegate.settings` but for `revision`. `schema` is rego/schemas/policy.json.

    Raises PolicyDataError with all problems.
    """
    plain = read_document(document, schema)
    review = plain["review"]
    return {
        "schema": 1,
        "policies": {name: mode_of(entry) for name, entry in plain["policies"].items()},
        "granting": dict.fromkeys(plain["granting"], True),
        "grants": _grants(plain["grants"], review["approvers"]),
        "arguments": plain["arguments"],
        "ownership": {"any_tenant": dict.fromkeys(plain["ownership"]["any_tenant"], True)},
        "combination": _combination(plain["combination"], review["approvers"]),
        "review": _review(review),
        "custom": plain["custom"],
    }


def mentions(document: Mapping[str, Any], schema: Mapping[str, Any]) -> Mentions:
    """What the document names. Raises PolicyDataError as `compile_policy` does."""
    plain = read_document(document, schema)
    rules = plain["combination"]
    marks = [mark.split(":", 1) for rule in rules for mark in rule["marks"]]
    grants = plain["grants"]
    cells = [*grants["tools"].values(), *(c for effects in grants["systems"].values() for c in effects.values())]
    limits = [roles for entry in plain["arguments"].values() for roles in entry.get("limits", {}).values()]
    return Mentions(
        policies=frozenset(plain["policies"]),
        systems=frozenset(grants["systems"]) | {value for kind, value in marks if kind == "system"},
        labels=frozenset(value for kind, value in marks if kind == "label"),
        tools=frozenset(grants["tools"]) | frozenset(plain["arguments"]),
        arguments=frozenset(_arguments(plain)),
        bounds=frozenset(_bounds_of_systems(grants["systems"])),
        roles=frozenset(
            role
            for roles in (*cells, *limits, plain["ownership"]["any_tenant"], *_each(rules, "unless", "roles"))
            for role in roles
        ),
        approvers=frozenset(_approvers(plain)),
        waivers=tuple(
            Waiver(policy=name, mode=entry["mode"], because=entry["because"], until=date.fromisoformat(entry["until"]))
            for name, entry in plain["policies"].items()
            if isinstance(entry, dict)
        ),
    )


def places(document: Mapping[str, Any]) -> dict[tuple[str, str], str]:
    """(system | label | tool, name) -> the first path in a valid policy document at which it is named."""
    grants, found = document["grants"], dict[tuple[str, str], str]()
    for name in grants["systems"]:
        found["system", name] = f"grants.systems.{name}"
    for name in document["arguments"]:
        found["tool", name] = f"arguments.{name}"
    for name in grants["tools"]:
        found["tool", name] = f"grants.tools.{name}"
    for index, rule in enumerate(document["combination"]):
        for mark in rule["marks"]:
            kind, _, name = mark.partition(":")
            found.setdefault((kind, name), f"combination.{index}.marks")
    return found


def approvers_of(settings: Mapping[str, Any]) -> frozenset[str]:
    """Everybody whom compiled settings name as an approver."""
    review = settings["review"]
    named = [review["approvers"], *review["effects"].values(), *review["risks"].values()]
    named += [rule.get("approvers", ()) for rules in settings["combination"].values() for rule in rules]
    grants = settings["grants"]
    cells = [*grants["tools"].values(), *(cell for effects in grants["systems"].values() for cell in effects.values())]
    granted = [grant for roles in cells for entries in roles.values() for grant in entries if "review" in grant]
    return frozenset(name for names in (*named, *(each["review"]["approvers"] for each in granted)) for name in names)


def _day_after(last_day: str) -> str:
    """The day after, which sorts behind every `environment.now` of that day and before all later ones."""
    return (date.fromisoformat(last_day) + timedelta(days=1)).isoformat()


def _grants(grants: Mapping[str, Any], approvers: Sequence[str]) -> dict[str, Any]:
    def roles(entry: Mapping[str, Any]) -> dict[str, Any]:
        return {role: [_grant(role, grant, approvers) for grant in grants_of(cell)] for role, cell in entry.items()}

    return {
        "tools": {tool: roles(entry) for tool, entry in grants["tools"].items()},
        "systems": {
            system: {effect: roles(entry) for effect, entry in effects.items()}
            for system, effects in grants["systems"].items()
        },
    }


def _grant(role: str, grant: Mapping[str, Any], approvers: Sequence[str]) -> dict[str, Any]:
    reason = {"code": "granted", "message": f"granted to role {role}", "details": {"role": role}}
    compiled: dict[str, Any] = {"role": role, "reason": reason, "bounds": list(_bounds(grant.get("arguments", {})))}
    if "agents" in grant:
        compiled["agents"] = dict.fromkeys(grant["agents"], True)
    if "until" in grant:
        compiled["until"] = _day_after(grant["until"])
    if "review" in grant:
        review = {} if grant["review"] is True else grant["review"]
        compiled["review"] = {
            "approvers": review.get("approvers", list(approvers)),
            "scope": review.get("scope", "once"),
        }
    return compiled


def _bounds(arguments: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for argument, bound in arguments.items():
        if "max" in bound:
            yield {"argument": argument, "says": f"at most {bound['max']}", "max": bound["max"]}
        if "min" in bound:
            yield {"argument": argument, "says": f"at least {bound['min']}", "min": bound["min"]}
        if "one_of" in bound:
            choices = ", ".join(str(choice) for choice in bound["one_of"])
            yield {"argument": argument, "says": f"one of {choices}", "one_of": bound["one_of"]}


def _combination(rules: Sequence[Mapping[str, Any]], approvers: Sequence[str]) -> dict[str, Any]:
    """mark -> the rules that it takes part in."""
    keyed: dict[str, list[dict[str, Any]]] = {}
    for rule in rules:
        compiled = _rule(rule, approvers)
        for mark in rule["marks"]:
            keyed.setdefault(mark, []).append(compiled)
    return keyed


def _rule(rule: Mapping[str, Any], approvers: Sequence[str]) -> dict[str, Any]:
    reason = {"code": rule["name"], "message": rule["message"], "details": {"marks": rule["marks"]}}
    if "fix" in rule:
        reason["fix"] = rule["fix"]
    compiled: dict[str, Any] = {
        "reason": reason,
        "then": rule["then"],
        "marks": dict.fromkeys(rule["marks"], True),
        "unless": {key: dict.fromkeys(names, True) for key, names in rule.get("unless", {}).items()},
        "off_hours": _off_hours(rule.get("hours")),
    }
    if rule["then"] == "review":
        compiled["approvers"] = rule.get("approvers", list(approvers))
        compiled["scope"] = rule.get("scope", "once")
    if "until" in rule:
        compiled["until"] = _day_after(rule["until"])
    return compiled


def _off_hours(hours: Mapping[str, str] | None) -> list[dict[str, str]]:
    """Times of day at which a rule does not hold, as half-open spans."""
    if hours is None:
        return []
    start, end = hours["from"], hours["to"]
    if start > end:
        return [{"from": end, "to": start}]
    return [{"from": "00:00", "to": start}, {"from": end, "to": "24:00"}]


def _review(review: Mapping[str, Any]) -> dict[str, Any]:
    """What is free is listed, so that an effect or a risk that nobody foresaw is held."""
    held = {"effects": {"admin": {}, **review["effects"]}, "risks": review["risks"]}
    return {
        "free_effects": dict.fromkeys(sorted(_EFFECTS - held["effects"].keys()), True),
        "free_risks": dict.fromkeys(sorted(_RISKS - held["risks"].keys()), True),
        "approvers": review["approvers"],
        **{
            kind: {name: entry["approvers"] for name, entry in entries.items() if "approvers" in entry}
            for kind, entries in held.items()
        },
    }


def _each(rules: Sequence[Mapping[str, Any]], *path: str) -> Iterator[Any]:
    for rule in rules:
        value: Any = rule
        for key in path:
            value = value.get(key, {})
        yield value


def _arguments(plain: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for tool, entry in plain["arguments"].items():
        yield from ((tool, argument) for argument in (*entry.get("limits", ()), *entry.get("own_domain", ())))
    for tool, roles in plain["grants"]["tools"].items():
        for cell in roles.values():
            yield from ((tool, argument) for grant in grants_of(cell) for argument in grant.get("arguments", ()))


def _bounds_of_systems(systems: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    for system, effects in systems.items():
        for effect, roles in effects.items():
            for cell in roles.values():
                names = (name for grant in grants_of(cell) for name in grant.get("arguments", ()))
                yield from ((system, effect, name) for name in names)


def _approvers(plain: Mapping[str, Any]) -> Iterator[str]:
    review = plain["review"]
    yield from review["approvers"]
    for entry in (*review["effects"].values(), *review["risks"].values(), *plain["combination"]):
        yield from entry.get("approvers", ())
    for _, grant in all_grants(plain["grants"]):
        if isinstance(grant.get("review"), dict):
            yield from grant["review"].get("approvers", ())
