"""The data that the Rego reads: keyed by what a call brings, with every default written out."""

import copy
from datetime import date
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml

from proxy.core.policy_data import Waiver, approvers_of, compile_policy, mentions, places
from proxy.core.policy_document import PolicyDataError

REGO = Path(__file__).parents[2] / "rego"
SCHEMA = orjson.loads((REGO / "schemas/policy.json").read_bytes())
SAMPLE: dict[str, Any] = yaml.safe_load((REGO / "samples/policy.yaml").read_bytes())


def compiled(**sections: Any) -> dict[str, Any]:
    """The data of the sample with some sections replaced."""
    return compile_policy({**copy.deepcopy(SAMPLE), **sections}, SCHEMA)


def grant(cell: Any) -> Any:
    """One cell of the matrix as data."""
    return compiled(grants={"tools": {"t": {"buyer": cell}}, "systems": {}})["grants"]["tools"]["t"]["buyer"]


def rule(**changes: Any) -> dict[str, Any]:
    """One combination rule as data."""
    base = {"name": "two", "marks": ["system:a", "label:b"], "then": "review", "message": "not both"}
    data: dict[str, Any] = compiled(combination=[{**base, **changes}])["combination"]["system:a"][0]
    return data


def test_data_is_json() -> None:
    """Dates and all: what is compiled can be written."""
    assert orjson.loads(orjson.dumps(compiled())) == compiled()


def test_modes_and_waivers() -> None:
    """A waiver's mode counts."""
    waived = {"mode": "warn", "because": "x", "until": date(2027, 1, 1)}
    data = compiled(policies={**SAMPLE["policies"], "review": waived, "team": "shadow"})
    assert data["policies"] == {**SAMPLE["policies"], "review": "warn", "team": "shadow"}
    assert data["granting"] == {"grants": True}


def test_a_plain_grant() -> None:
    """It carries what is said of it, so that evaluation builds nothing."""
    reason = {"code": "granted", "message": "granted to role buyer", "details": {"role": "buyer"}}
    assert grant({}) == [{"role": "buyer", "reason": reason, "bounds": []}]


def test_bounds_say_themselves() -> None:
    """Each bound apart, with its limit in words."""
    cell = {"arguments": {"quantity": {"min": 1, "max": 50}, "currency": {"one_of": ["EUR", "USD"]}}}
    assert grant(cell)[0]["bounds"] == [
        {"argument": "quantity", "says": "at most 50", "max": 50},
        {"argument": "quantity", "says": "at least 1", "min": 1},
        {"argument": "currency", "says": "one of EUR, USD", "one_of": ["EUR", "USD"]},
    ]


def test_a_grant_ends_with_its_last_day() -> None:
    """The day after sorts before every moment of itself and behind every moment of the last day."""
    until = grant({"until": date(2027, 2, 28)})[0]["until"]
    assert until == "2027-03-01"
    assert "2027-02-28T23:59:59.999999Z" < until < "2027-03-01T00:00:00.000000Z"


def test_a_reviewed_grant_has_approvers() -> None:
    """Its own, or the general ones; once, if nothing else is said."""
    assert grant({"review": True})[0]["review"] == {"approvers": ["operations"], "scope": "once"}
    own = {"approvers": ["leads"], "scope": "conversation"}
    assert grant({"review": own})[0]["review"] == own


def test_agents_are_keys() -> None:
    """Looked up, not searched."""
    assert grant({"agents": ["a/b"]})[0]["agents"] == {"a/b": True}


def test_systems_are_the_wildcard() -> None:
    """System, then effect, then role."""
    data = compiled(grants={"tools": {}, "systems": {"crm": {"read": {"buyer": [{}, {}]}}}})
    assert [cell["role"] for cell in data["grants"]["systems"]["crm"]["read"]["buyer"]] == ["buyer", "buyer"]


def test_a_rule_stands_under_each_of_its_marks() -> None:
    """Keyed by mark, so that a call meets only the rules that it takes part in."""
    data = compiled()["combination"]
    assert data["system:inventory"] == data["system:suppliers"] == data["system:pricing"]
    assert rule()["marks"] == {"system:a": True, "label:b": True}


def test_what_a_rule_says() -> None:
    """Code, message and marks; approvers and scope for reviews only."""
    said = rule(fix="wait", approvers=["leads"], scope="conversation")
    assert said["reason"] == {
        "code": "two",
        "message": "not both",
        "fix": "wait",
        "details": {"marks": ["system:a", "label:b"]},
    }
    assert (said["approvers"], said["scope"]) == (["leads"], "conversation")
    assert (rule()["approvers"], rule()["scope"]) == (["operations"], "once")
    assert "approvers" not in rule(then="deny")


@pytest.mark.parametrize(
    ("hours", "off"),
    [
        (("07:00", "18:00"), [("00:00", "07:00"), ("18:00", "24:00")]),
        (("18:00", "07:00"), [("07:00", "18:00")]),
    ],
)
def test_hours_become_times_at_which_a_rule_is_off(hours: tuple[str, str], off: list[tuple[str, str]]) -> None:
    """So that a time that cannot be read switches nothing off."""
    spans = rule(hours={"from": hours[0], "to": hours[1]})["off_hours"]
    assert [(span["from"], span["to"]) for span in spans] == off
    assert rule()["off_hours"] == []


def test_a_rule_ends_with_its_last_day() -> None:
    """As grants do; without a day it does not end."""
    assert rule(until=date(2027, 12, 31))["until"] == "2028-01-01"
    assert "until" not in rule()


def test_exemptions_are_keys() -> None:
    """An absent kind exempts nobody."""
    assert rule(unless={"roles": ["a"], "profiles": ["p"]})["unless"] == {"roles": {"a": True}, "profiles": {"p": True}}
    assert rule()["unless"] == {}


def test_what_is_free_of_review_is_listed() -> None:
    """Admin never is, and what nobody foresaw is not."""
    review = compiled(review={"approvers": ["ops"], "effects": {"send": {}}, "risks": {"high": {"approvers": ["a"]}}})[
        "review"
    ]
    assert review == {
        "free_effects": {"fetch": True, "read": True, "write": True},
        "free_risks": {"low": True, "medium": True, "undeclared": True},
        "approvers": ["ops"],
        "effects": {},
        "risks": {"high": ["a"]},
    }


def test_a_bad_document_compiles_to_nothing() -> None:
    """Neither data nor mentions."""
    for read in (compile_policy, mentions):
        with pytest.raises(PolicyDataError):
            read({}, SCHEMA)


def test_mentions_are_all_names_used() -> None:
    """For the cross-check against catalog and reviewers."""
    waived = {"mode": "warn", "because": "x", "until": date(2027, 1, 1)}
    named = mentions({**SAMPLE, "policies": {**SAMPLE["policies"], "review": waived}}, SCHEMA)
    assert named.systems == {"inventory", "suppliers", "pricing", "mail", "warehouse"}
    assert named.labels == {"personal", "supplier-terms"}
    assert named.tools == {"get_price", "create_order", "export_prices", "list_terms", "send_mail"}
    assert named.roles == {"buyer", "unknown", "lead", "trainee", "employee", "support", "auditor"}
    assert named.approvers == {"operations", "purchasing-leads", "platform"}
    assert named.policies == set(SAMPLE["policies"])
    assert {("create_order", "amount"), ("create_order", "currency"), ("send_mail", "cc")} < named.arguments
    assert named.bounds == set()
    assert named.waivers == (Waiver(policy="review", mode="warn", because="x", until=date(2027, 1, 1)),)


def test_arguments_that_are_bounded_for_a_whole_system_are_named() -> None:
    """In lists of grants, too."""
    cell = [{}, {"arguments": {"quantity": {"max": 1}}}]
    named = mentions({**SAMPLE, "grants": {"tools": {}, "systems": {"crm": {"write": {"buyer": cell}}}}}, SCHEMA)
    assert named.bounds == {("crm", "write", "quantity")}


def test_everybody_who_may_approve_is_named() -> None:
    """By a grant, a rule, an effect, a risk, or where nothing else names somebody."""
    reviewed = {"review": {"approvers": ["by-grant"]}}
    rules = [
        {"name": "r", "marks": ["system:a", "label:b"], "then": "review", "message": "m", "approvers": ["by-rule"]}
    ]
    data = compiled(
        grants={"tools": {"t": {"buyer": reviewed}}, "systems": {"s": {"read": {"buyer": [{}, reviewed]}}}},
        combination=rules,
        review={
            "approvers": ["else"],
            "effects": {"send": {"approvers": ["by-effect"]}},
            "risks": {"high": {"approvers": ["by-risk"]}},
        },
    )
    assert approvers_of(data) == {"by-grant", "by-rule", "by-effect", "by-risk", "else"}


def test_places_are_paths_in_the_document() -> None:
    """Of what the catalog must have, the first time it is named."""
    rules = [{"name": "r", "marks": ["system:crm", "label:b"], "then": "deny", "message": "m"}]
    document = {
        **SAMPLE,
        "grants": {"tools": {"t": {}}, "systems": {"s": {}}},
        "arguments": {"u": {}},
        "combination": rules,
    }
    assert places(document) == {
        ("system", "s"): "grants.systems.s",
        ("tool", "t"): "grants.tools.t",
        ("tool", "u"): "arguments.u",
        ("system", "crm"): "combination.0.marks",
        ("label", "b"): "combination.0.marks",
    }
