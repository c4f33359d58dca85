"""The policy document (policy.yaml) as plain data: read against its schema, contradictions included, all problems at once."""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime
from typing import Any

import jsonschema_rs

from proxy.core.schema_words import sentences

REQUIRED = frozenset({"grants", "arguments", "ownership", "combination", "review"})  # not enforced only with a waiver
_UNKNOWN = "unknown"  # the role of the unregistered; it may be granted something, never exempted from anything


class PolicyDataError(Exception):
    """The document cannot become policy data. `problems` are all of them, each as `path: sentence`."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = tuple(problems)


def read_document(document: Mapping[str, Any], schema: Mapping[str, Any]) -> dict[str, Any]:
    """The document in JSON's own types, valid and without contradictions. Raises PolicyDataError with all problems."""
    problems: list[str] = []
    plain = _plain(document, "", problems)
    validator = jsonschema_rs.Draft202012Validator(dict(schema))
    for error in validator.iter_errors(plain):
        problems += [f"{_path(error.instance_path)}: {sentence}" for sentence in _sentences(error, plain, schema)]
    if not problems:
        problems += _contradictions(plain)
    if problems:
        raise PolicyDataError(problems)
    result: dict[str, Any] = plain
    return result


def _sentences(error: jsonschema_rs.ValidationError, plain: Any, schema: Mapping[str, Any]) -> list[str]:
    """The library's own, but for misspelt keys, which are told with the nearest name that there is."""
    if error.kind.name == "additionalProperties":
        return [sentence for _, sentence in sentences(error, plain, schema, "key")]
    return [error.message[:200]]


def _path(parts: Sequence[str | int]) -> str:
    return ".".join(str(part) for part in parts) or "(document)"


def _plain(value: Any, path: str, problems: list[str]) -> Any:
    """JSON's own types: YAML reads dates as dates, and on, off, yes, no as booleans, also as keys."""
    if isinstance(value, datetime):
        problems.append(f"{path}: a day is wanted, without a time")
        return str(value)
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, float) and not math.isfinite(value):
        problems.append(f"{path}: infinity and not-a-number are no limits")
        return 0
    if isinstance(value, Mapping):
        place = path or "(document)"
        problems += [
            f"{place}: the key {key!r} is not text; put it in quotes" for key in value if not isinstance(key, str)
        ]
        return {str(key): _plain(item, f"{path}.{key}".lstrip("."), problems) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, f"{path}.{index}", problems) for index, item in enumerate(value)]
    return value


def _contradictions(plain: Mapping[str, Any]) -> Iterator[str]:
    """What a schema cannot say."""
    policies = plain["policies"]
    for name in sorted(REQUIRED):
        if name not in policies:
            yield f"policies.{name}: missing; it is one of Sidegate's own, waive it by mode, because and until"
        elif policies[name] in ("warn", "shadow"):
            yield f"policies.{name}: {policies[name]} needs a recorded waiver: mode, because and until"
    for index, name in enumerate(plain["granting"]):
        if mode_of(policies.get(name)) != "enforce":
            yield f"granting.{index}: {name} is not listed as enforce under policies"
    for path, day in _dates(plain):
        if not _is_day(day):
            yield f"{path}: {day} is no day of the calendar"
    yield from _bound_problems(plain["grants"])
    yield from _rule_problems(plain["combination"])
    if _UNKNOWN in plain["ownership"]["any_tenant"]:
        yield "ownership.any_tenant: the role unknown owns nothing"


def _bound_problems(grants: Mapping[str, Any]) -> Iterator[str]:
    for path, grant in all_grants(grants):
        for argument, bound in grant.get("arguments", {}).items():
            if "min" in bound and "max" in bound and bound["min"] > bound["max"]:
                yield f"{path}.arguments.{argument}: min is above max"


def _rule_problems(rules: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    names: set[str] = set()
    for index, rule in enumerate(rules):
        path = f"combination.{index}"
        if rule["name"] in names:
            yield f"{path}.name: {rule['name']} is taken by an earlier rule"
        names.add(rule["name"])
        for key in ("approvers", "scope"):
            if key in rule and rule["then"] != "review":
                yield f"{path}.{key}: only a rule with `then: review` has one"
        if _UNKNOWN in rule.get("unless", {}).get("roles", ()):
            yield f"{path}.unless.roles: the role unknown is exempted from nothing"
        if "hours" in rule and rule["hours"]["from"] == rule["hours"]["to"]:
            yield f"{path}.hours: from and to are the same; leave hours out if the rule always holds"


def _dates(plain: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name, entry in plain["policies"].items():
        if isinstance(entry, dict):
            yield f"policies.{name}.until", entry["until"]
    for path, grant in all_grants(plain["grants"]):
        if "until" in grant:
            yield f"{path}.until", grant["until"]
    for index, rule in enumerate(plain["combination"]):
        if "until" in rule:
            yield f"combination.{index}.until", rule["until"]


def all_grants(grants: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    places = [(f"grants.tools.{tool}", roles) for tool, roles in grants["tools"].items()]
    for system, effects in grants["systems"].items():
        places += [(f"grants.systems.{system}.{effect}", roles) for effect, roles in effects.items()]
    for path, roles in places:
        for role, entry in roles.items():
            for grant in grants_of(entry):
                yield f"{path}.{role}", grant


def grants_of(entry: Any) -> Sequence[Mapping[str, Any]]:
    return entry if isinstance(entry, list) else [entry]


def mode_of(entry: Any) -> Any:
    return entry["mode"] if isinstance(entry, dict) else entry


def _is_day(text: str) -> bool:
    try:
        date.fromisoformat(text)
    except ValueError:
        return False
    return re.fullmatch(r"2\d{3}-\d\d-\d\d", text) is not None
