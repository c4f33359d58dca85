"""Which entry of policy.yaml a reason stands on, and what would have been decided otherwise with. Pure.

`document` is OPA's input, `policy` the policy document, both as plain JSON. What is said here is found by looking the entries
up by name; what would be allowed is for OPA to say: `alternatives` only proposes what to ask.
"""

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from proxy.core.policy_document import grants_of

MAX_ALTERNATIVES = 20
UNKNOWN = "unknown"  # the role of who calls outside of a registered conversation
_GUARDS = {
    "settings_missing": "the bundle has no settings",
    "policy_missing": "a policy that is listed is not loaded, or failed",
    "fact_missing": "a fact that rules need is absent or of another type",
    "grant_misplaced": "a policy that `granting` does not name said allow",
}
Json = Mapping[str, Any]


def entries(policy_name: str, reason: Json, document: Json, policy: Json) -> list[str]:
    """Sentences that begin with the path of an entry of policy.yaml, which matched or missed."""
    read = _READERS.get(policy_name)
    if read is not None:
        return list(read(reason, document, policy))
    return [f"custom.{policy_name}"] if policy_name in policy.get("custom", {}) else []


def not_granted(document: Json, policy: Json) -> list[str]:
    """Why nothing granted a call, by the entries that could have."""
    return list(_grants({}, document, policy))


def granting(document: Json, policy: Json, name: str) -> str:
    """What would grant a call that nothing grants, for who edits the policy; `name` is where it is: policy.yaml or a bundle."""
    tool, roles = document["tool"], document["principal"]["roles"]
    file = name if name.endswith((".yaml", ".yml")) else f"the policy.yaml that {name} was built from"
    role = roles[0] if roles else "ROLE"
    path, _ = cell(document, policy)
    entry = f"{path}.{role}: {{}}"
    if path.startswith("grants.systems."):  # which a line of the tool's own would end for this tool
        entry += f", or for this tool alone, by all its roles, grants.tools.{tool['name']}.{role}: {{}}"
    if UNKNOWN in roles:
        return f"call with the handle of a registered conversation; to grant it to whoever has none, in {file}: {entry}"
    return f"if it should be allowed, in {file}: {entry}"


def guard(name: str) -> str:
    """What a guard of the composer says."""
    return _GUARDS.get(name, name)


def alternatives(decision: Json, document: Json, policy: Json) -> Iterator[tuple[str, dict[str, Any]]]:
    """Changes of a call that may be decided otherwise, in words and as OPA's input; bounded in number."""
    proposed = [*_other_roles(document, policy), *_other_arguments(decision, document, policy)]
    if document["conversation"]["marks"] or document["conversation"]["calls"]:
        proposed.append(("in a new conversation", _changed(document, conversation=FRESH)))
    yield from dict(proposed[: MAX_ALTERNATIVES - 1]).items()
    if decision.get("effect") == "review":
        yes = {"by": "(a reviewer)", "at": document["environment"]["now"], "covers": decision["review"]}
        yield f"with a yes of {_approvers(decision)}", _changed(document, approval=yes)


def cell(document: Json, policy: Json) -> tuple[str, Json | None]:
    """The entry of the permission matrix that holds for a tool: by its name or else by system and effect; None if neither is."""
    tool, grants = document["tool"], policy["grants"]
    if tool["name"] in grants["tools"]:
        return f"grants.tools.{tool['name']}", grants["tools"][tool["name"]]
    path = f"grants.systems.{tool['system']}.{tool['effect']}"
    return path, grants["systems"].get(tool["system"], {}).get(tool["effect"])


FRESH: Json = {  # of a conversation that has just been registered
    "registered": True,
    "history": "complete",
    "untrusted_read": False,
    "marks": {},
    "tools": {},
    "counters": {},
    "calls": [],
    "calls_complete": True,
}


def _grants(_: Json, document: Json, policy: Json) -> Iterator[str]:
    path, roles = cell(document, policy)
    mine = document["principal"]["roles"]
    if roles is None:
        yield f"grants.tools has no {document['tool']['name']}, and there is no {path}"
        return
    matched = [role for role in mine if role in roles]
    for role in matched:
        yield f"{path}.{role} matched: {_brief(roles[role])}"
    if not matched:
        yield f"{path} names {_listed(roles) or 'no role'}; the principal has {_listed(mine) or 'no role'}"


def _arguments(reason: Json, document: Json, policy: Json) -> Iterator[str]:
    tool, argument = document["tool"]["name"], _detail(reason, "argument")
    entry = policy["arguments"].get(tool, {})
    mine = _listed(document["principal"]["roles"]) or "no role"
    if argument in entry.get("limits", {}):
        yield f"arguments.{tool}.limits.{argument} is {_brief(entry['limits'][argument])}; the principal has {mine}"
    if argument in entry.get("own_domain", ()):
        domain = document["principal"]["attributes"].get("domain")
        yield f"arguments.{tool}.own_domain names {argument}; the principal's domain is {domain or 'not known'}"


def _ownership(reason: Json, document: Json, policy: Json) -> Iterator[str]:
    argument = _detail(reason, "argument")
    mine, free = document["principal"]["tenant"], _listed(policy["ownership"]["any_tenant"])
    found = [each for each in document["resources"] if each["argument"] == argument]
    for each in found:
        yield f"the {each['type']} belongs to tenant {each['tenant'] or 'unknown'}; the principal's is {mine or 'unknown'}"
    if not found:
        yield f"no source of facts knows the record that {argument} names"
    yield f"ownership.any_tenant names {free or 'no role'}"


def _combination(reason: Json, document: Json, policy: Json) -> Iterator[str]:
    for index, rule in enumerate(policy["combination"]):
        if rule["name"] == reason.get("code"):
            yield f"combination.{index} ({rule['name']}): {', '.join(_met(mark, document) for mark in rule['marks'])}"
            if "unless" in rule:
                yield f"combination.{index}.unless is {_brief(rule['unless'])}, which this call is not"


def _met(mark: str, document: Json) -> str:
    conversation = document["conversation"]
    if mark in document["tool"]["marks"]:
        return f"{mark} by this call"
    if mark in conversation["marks"]:
        return f"{mark} since call {conversation['marks'][mark]}"
    if conversation["history"] != "complete":
        return f"{mark} counts as met, since the conversation is not registered"
    return f"{mark} by a call that is held"


def _review(_: Json, document: Json, policy: Json) -> Iterator[str]:
    effect, risk, review = document["tool"]["effect"], document["tool"]["risk"], policy["review"]
    if effect in review["effects"]:
        yield f"review.effects.{effect} is {_brief(review['effects'][effect])}"
    elif effect == "admin":
        yield "review: the effect admin is always seen by a person"
    if risk in review["risks"]:
        yield f"review.risks.{risk} is {_brief(review['risks'][risk])}"


_READERS: Mapping[str, Callable[[Json, Json, Json], Iterator[str]]] = {
    "grants": _grants,
    "arguments": _arguments,
    "ownership": _ownership,
    "combination": _combination,
    "review": _review,
}


def _other_roles(document: Json, policy: Json) -> Iterator[tuple[str, dict[str, Any]]]:
    _, roles = cell(document, policy)
    limits = policy["arguments"].get(document["tool"]["name"], {}).get("limits", {})
    named = {role for limit in limits.values() for role in limit} | set(roles or {})
    mine = document["principal"]["roles"]
    for role in sorted(named - set(mine)):
        yield f"with the role {role}, too", _changed(document, principal={"roles": [*mine, role]})


def _other_arguments(decision: Json, document: Json, policy: Json) -> Iterator[tuple[str, dict[str, Any]]]:
    """The nearest values that a limit or a bound lets through, of arguments that one did not."""
    denied = list(_reasons(decision.get("deny", {})))
    over = {_detail(each, "argument"): _detail(each, "limit") for each in denied if each.get("code") == "over_limit"}
    outside = {_detail(each, "argument") for each in denied if each.get("code") == "out_of_bounds"}
    _, roles = cell(document, policy)
    for role in document["principal"]["roles"]:
        for grant in grants_of((roles or {}).get(role, [])):
            bounds = {name: bound for name, bound in grant.get("arguments", {}).items() if name in outside}
            given = document["call"]["arguments"]
            near = {name: _nearest(bound, given.get(name)) for name, bound in bounds.items()}
            yield from _with_arguments({**over, **near}, document)
    yield from _with_arguments(over, document)


def _with_arguments(values: Json, document: Json) -> Iterator[tuple[str, dict[str, Any]]]:
    arguments = document["call"]["arguments"]
    differing = {name: value for name, value in values.items() if name and arguments.get(name) != value}
    if differing:
        text = " and ".join(f"{name} {value}" for name, value in differing.items())
        yield f"with {text}", _changed(document, call={"arguments": {**arguments, **differing}})


def _nearest(bound: Json, given: Any) -> Any:
    """A value within one bound: `{"max"?, "min"?}` or `{"one_of": [...]}`."""
    if "one_of" in bound:
        return given if given in bound["one_of"] else next(iter(bound["one_of"]), None)
    number = given if isinstance(given, int | float) and not isinstance(given, bool) else None
    if number is not None and "min" in bound and number < bound["min"]:
        return bound["min"]
    return bound.get("max", bound.get("min"))


def _changed(document: Json, **parts: Any) -> dict[str, Any]:
    changed = copy.deepcopy(dict(document))
    for name, part in parts.items():
        changed[name] = {**(changed[name] or {}), **part}
    return changed


def _reasons(said: Json) -> Iterator[Json]:
    for reasons in said.values():
        yield from (reason for reason in reasons if isinstance(reason, Mapping))


def _approvers(decision: Json) -> str:
    named = sorted({name for reason in _reasons(decision["review"]) for name in reason.get("approvers", ())})
    return _listed(named) or "a reviewer"


def _detail(reason: Json, key: str) -> Any:
    details = reason.get("details")
    return details.get(key) if isinstance(details, Mapping) else None


def _listed(names: Sequence[str] | Mapping[str, Any]) -> str:
    return ", ".join(names)


def _brief(value: Any) -> str:
    """An entry on one line, as YAML would have it."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {_brief(item)}" for key, item in value.items()) + "}"
    return "[" + ", ".join(_brief(item) for item in value) + "]" if isinstance(value, list) else str(value)
