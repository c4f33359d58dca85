"""Which entry of policy.yaml a reason stands on, and what to ask instead."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from proxy.core.grounds import MAX_ALTERNATIVES, alternatives, cell, entries, granting, guard, not_granted
from proxy.core.policy_document import read_document

REGO = Path(__file__).parents[2] / "rego"
SCHEMA = json.loads((REGO / "schemas" / "policy.json").read_bytes())


def policy(**sections: Any) -> dict[str, Any]:
    """The complete example, as its bundle has it, with other sections."""
    document = yaml.safe_load((REGO / "samples" / "policy.yaml").read_bytes())
    return read_document({**document, **sections}, SCHEMA)


def call(**changes: Any) -> Any:
    document = json.loads((REGO / "samples" / "input.json").read_bytes())
    for path, value in changes.items():
        *parents, key = path.split("__")
        place = document
        for parent in parents:
            place = place[parent]
        place[key] = value
    return document


GRANTS = {"tools": {"get_price": {"lead": {}, "buyer": {"arguments": {"sku": {"one_of": ["A", "B"]}}}}}, "systems": {}}


@pytest.mark.parametrize(
    ("grants", "roles", "says"),
    [
        (GRANTS, ["buyer"], "grants.tools.get_price.buyer matched: {arguments: {sku: {one_of: [A, B]}}}"),
        (GRANTS, ["visitor"], "grants.tools.get_price names lead, buyer; the principal has visitor"),
        (GRANTS, [], "grants.tools.get_price names lead, buyer; the principal has no role"),
        ({"tools": {"get_price": {}}, "systems": {}}, ["buyer"], "grants.tools.get_price names no role; the"),
        (
            {"tools": {}, "systems": {"pricing": {"read": {"buyer": {}}}}},
            ["buyer"],
            "grants.systems.pricing.read.buyer",
        ),
        (
            {"tools": {}, "systems": {}},
            ["buyer"],
            "grants.tools has no get_price, and there is no grants.systems.pricing",
        ),
    ],
)
def test_the_cell_of_the_matrix_is_named_whether_it_matched_or_missed(
    grants: dict[str, Any], roles: list[str], says: str
) -> None:
    given, document = policy(grants=grants), call(principal__roles=roles)
    (sentence,) = entries("grants", {}, document, given)
    assert sentence.startswith(says)
    assert not_granted(document, given) == [sentence]
    assert sentence.startswith(("grants.tools", cell(document, given)[0]))


@pytest.mark.parametrize(
    ("tools", "roles", "name", "says"),
    [
        (
            {},
            ["clerk"],
            "policy.yaml",
            (
                "if it should be allowed, in policy.yaml: grants.systems.pricing.read.clerk: {}, or for this tool alone, by all "
                "its roles, grants.tools.get_price.clerk: {}"
            ),
        ),
        (
            {"get_price": {"lead": {}}},
            ["clerk", "visitor"],
            "p.tar.gz",
            "if it should be allowed, in the policy.yaml that p.tar.gz was built from: grants.tools.get_price.clerk: {}",
        ),
        (
            {"get_price": {"lead": {}}},
            ["unknown"],
            "policy.yml",
            (
                "call with the handle of a registered conversation; to grant it to whoever has none, in policy.yml: "
                "grants.tools.get_price.unknown: {}"
            ),
        ),
        ({"get_price": {}}, [], "p.yaml", "if it should be allowed, in p.yaml: grants.tools.get_price.ROLE: {}"),
    ],
)
def test_what_would_grant_a_call_is_a_file_and_a_key(
    tools: dict[str, Any], roles: list[str], name: str, says: str
) -> None:
    """Of the cell that holds for the tool: a line of its own outranks those of its system."""
    given = policy(grants={"tools": tools, "systems": {}})
    assert granting(call(principal__roles=roles), given, name) == says


def test_a_limit_is_told_beside_the_roles_that_count() -> None:
    given = policy(arguments={"get_price": {"limits": {"amount": {"lead": 5}}, "own_domain": ["to"]}})
    document = call()
    over = {"code": "over_limit", "details": {"argument": "amount"}}
    assert entries("arguments", over, document, given) == [
        "arguments.get_price.limits.amount is {lead: 5}; the principal has buyer"
    ]
    (domain,) = entries("arguments", {"details": {"argument": "to"}}, document, given)
    assert domain == "arguments.get_price.own_domain names to; the principal's domain is acme.example"


def test_ownership_tells_both_tenants() -> None:
    """To an auditor; the model is told that there is no such record."""
    resource = {"argument": "id", "type": "customer", "id": "1", "owner": None, "tenant": "other", "seen_in_call": None}
    reason = {"details": {"argument": "id"}}
    given = policy(ownership={"any_tenant": ["support"]})
    told = entries("ownership", reason, call(resources=[resource]), given)
    assert told == [
        "the customer belongs to tenant other; the principal's is acme",
        "ownership.any_tenant names support",
    ]
    assert entries("ownership", reason, call(), given)[0] == "no source of facts knows the record that id names"


def test_a_combination_tells_which_call_brought_each_mark() -> None:
    marks = ["system:pricing", "system:inventory", "label:x", "label:y"]
    rule = {"name": "meet", "marks": marks, "then": "deny", "message": "m", "unless": {"roles": ["auditor"]}}
    given = policy(combination=[rule])
    document = call(conversation__marks={"system:inventory": 3})
    told = entries("combination", {"code": "meet"}, document, given)
    held = "label:x by a call that is held, label:y by a call that is held"
    assert told == [
        f"combination.0 (meet): system:pricing by this call, system:inventory since call 3, {held}",
        "combination.0.unless is {roles: [auditor]}, which this call is not",
    ]
    unknown = call(conversation__marks={}, conversation__history="unknown")
    assert (
        "counts as met, since the conversation is not registered"
        in entries("combination", {"code": "meet"}, unknown, given)[0]
    )
    assert entries("combination", {"code": "other"}, document, given) == []


def test_review_and_own_policies_name_their_entries() -> None:
    given = policy(review={"approvers": ["a"], "effects": {"send": {}}, "risks": {"high": {"approvers": ["b"]}}})
    document = call(tool__effect="send", tool__risk="high")
    assert entries("review", {}, document, given) == [
        "review.effects.send is {}",
        "review.risks.high is {approvers: [b]}",
    ]
    assert entries("review", {}, call(tool__effect="admin"), given) == [
        "review: the effect admin is always seen by a person"
    ]
    assert entries("mine", {}, call(), {**given, "custom": {"mine": {}}}) == ["custom.mine"]
    assert entries("mine", {}, call(), {**given, "custom": {}}) == []


def test_each_guard_is_told_in_words() -> None:
    """The composer's own, read from its file."""
    text = (REGO / "sidegate" / "decision" / "decision.rego").read_text()
    names = {line.split('"')[1] for line in text.splitlines() if line.startswith("_guards contains")}
    assert names
    assert [name for name in names if guard(name) == name] == []
    assert guard("new_one") == "new_one"


DENIED = {"effect": "deny", "deny": {}, "review": {}}


def proposed(decision: dict[str, Any], document: Any, given: dict[str, Any]) -> dict[str, Any]:
    return dict(alternatives(decision, document, given))


def test_other_roles_are_those_that_policy_names_for_the_tool() -> None:
    given = policy(grants=GRANTS, arguments={"get_price": {"limits": {"amount": {"boss": 5}}}})
    document = call(principal__roles=["buyer"], conversation__marks={}, conversation__calls=[])
    found = proposed(DENIED, document, given)
    assert list(found) == ["with the role boss, too", "with the role lead, too"]
    assert found["with the role lead, too"]["principal"]["roles"] == ["buyer", "lead"]
    assert document["principal"]["roles"] == ["buyer"]


@pytest.mark.parametrize(("amount", "nearest"), [(99, 50), (0, 1), ("many", 50)])
def test_an_argument_out_of_bounds_is_brought_to_the_nearest_that_is_not(amount: Any, nearest: int) -> None:
    bounds = {"amount": {"min": 1, "max": 50}, "sku": {"one_of": ["A"]}, "other": {"max": 3}}
    given = policy(grants={"tools": {"get_price": {"buyer": {"arguments": bounds}}}, "systems": {}}, arguments={})
    out = [{"code": "out_of_bounds", "details": {"argument": name}} for name in ("amount", "sku")]
    document = call(call__arguments={"amount": amount, "sku": "Z", "other": 1})
    found = proposed({**DENIED, "deny": {"grants": out}}, document, given)
    arguments = found[f"with amount {nearest} and sku A"]["call"]["arguments"]
    assert arguments == {"amount": nearest, "sku": "A", "other": 1}


def test_a_limit_is_proposed_as_the_value() -> None:
    over = {"code": "over_limit", "details": {"argument": "amount", "limit": 100}}
    found = proposed({**DENIED, "deny": {"arguments": [over]}}, call(call__arguments={"amount": 101}), policy())
    assert found["with amount 100"]["call"]["arguments"] == {"amount": 100}


def test_a_new_conversation_and_a_persons_yes_are_proposed() -> None:
    reason = {"code": "c", "approvers": ["leads"]}
    found = proposed({"effect": "review", "deny": {}, "review": {"mine": [reason]}}, call(), policy())
    fresh = found["in a new conversation"]["conversation"]
    assert (fresh["marks"], fresh["calls"], fresh["id"]) == ({}, [], "conv-1")
    approval = found["with a yes of leads"]["approval"]
    assert approval["covers"] == {"mine": [reason]}


def test_proposals_are_bounded() -> None:
    roles: dict[str, Any] = {f"role{n}": {} for n in range(100)}
    given = policy(grants={"tools": {"get_price": roles}, "systems": {}})
    assert len(proposed({**DENIED, "effect": "review"}, call(), given)) <= MAX_ALTERNATIVES
