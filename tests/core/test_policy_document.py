"""The policy document is read whole: every problem with its path, all at once."""

import copy
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml

from proxy.core.policy_document import REQUIRED, PolicyDataError, read_document

REGO = Path(__file__).parents[2] / "rego"
SCHEMA = orjson.loads((REGO / "schemas/policy.json").read_bytes())
SAMPLE: dict[str, Any] = yaml.safe_load((REGO / "samples/policy.yaml").read_bytes())


def problems(change: Callable[[dict[str, Any]], object]) -> str:
    """What is wrong with the sample document after a change, one problem a line."""
    document = copy.deepcopy(SAMPLE)
    change(document)
    with pytest.raises(PolicyDataError) as caught:
        read_document(document, SCHEMA)
    return "\n".join(caught.value.problems)


def test_the_sample_is_read_in_json_types() -> None:
    """YAML's dates become text."""
    assert isinstance(SAMPLE["combination"][-1]["until"], date)
    assert read_document(SAMPLE, SCHEMA)["combination"][-1]["until"] == "2026-11-30"


def test_all_problems_are_told_at_once() -> None:
    """Each with its path."""

    def spoil(document: dict[str, Any]) -> None:
        document["policies"]["grants"] = "enforced"
        document["combination"][0]["then"] = "hold"
        document["review"]["effects"]["delete"] = {}
        del document["custom"]

    found = problems(spoil).splitlines()
    assert len(found) == 4
    assert any(line.startswith("policies.grants: ") for line in found)
    assert any(line.startswith("combination.0.then: ") for line in found)
    assert any(line.startswith("review.effects: ") for line in found)
    assert '(document): "custom" is a required property' in found


def test_a_misspelt_key_is_told_with_the_nearest_name() -> None:
    """At the top and further down, each on a line of its own."""
    found = problems(lambda d: d.update(comination=d.pop("combination"), xyz=1)).splitlines()
    assert "(document): unknown key 'comination'; did you mean 'combination'?" in found
    assert "(document): unknown key 'xyz'" in found
    assert "combination.0: unknown key 'mesage'; did you mean 'message'?" in problems(
        lambda d: d["combination"][0].update(mesage=d["combination"][0].pop("message"))
    )


def test_keys_that_yaml_did_not_read_as_text() -> None:
    """`on:` is True, `7:` a number; both would become another name."""
    found = problems(lambda d: d["grants"]["tools"].update({True: {}, 7: {}}))
    assert "grants.tools: the key True is not text; put it in quotes" in found
    assert "grants.tools: the key 7 is not text; put it in quotes" in found


def test_a_time_where_a_day_is_wanted() -> None:
    """Days have no time, and so no zone to guess."""
    moment = datetime(2027, 3, 1, tzinfo=UTC)
    found = problems(lambda d: d["combination"][0].update(until=moment))
    assert "combination.0.until: a day is wanted, without a time" in found


@pytest.mark.parametrize("day", ["2027-02-30", "2027-13-01", "27-01-01", "2027-W01-1"])
def test_a_day_that_no_calendar_has(day: str) -> None:
    """Also where the schema's pattern lets it pass."""
    assert "combination.0.until: " in problems(lambda d: d["combination"][0].update(until=day))
    waiver = {"mode": "warn", "because": "x", "until": day}
    assert "policies.review" in problems(lambda d: d["policies"].update(review=waiver))
    grant = {"until": day}
    assert "grants.tools.x.buyer" in problems(lambda d: d["grants"]["tools"].update(x={"buyer": grant}))


@pytest.mark.parametrize("number", [float("inf"), float("-inf"), float("nan")])
def test_limits_are_numbers(number: float) -> None:
    """JSON has no others."""
    found = problems(lambda d: d["arguments"]["create_order"]["limits"]["amount"].update(buyer=number))
    assert "arguments.create_order.limits.amount.buyer: infinity and not-a-number are no limits" in found


@pytest.mark.parametrize("name", sorted(REQUIRED))
def test_our_own_policies_are_waived_on_record_only(name: str) -> None:
    """Left out, or softened without a reason, is a problem; with reason and date it is not."""
    assert f"policies.{name}: missing" in problems(lambda d: d["policies"].pop(name))
    assert f"policies.{name}: warn needs a recorded waiver" in problems(lambda d: d["policies"].update({name: "warn"}))
    if name != "grants":
        document = copy.deepcopy(SAMPLE)
        document["policies"][name] = {"mode": "shadow", "because": "not ready", "until": date(2027, 1, 31)}
        assert read_document(document, SCHEMA)["policies"][name]["until"] == "2027-01-31"


def test_who_may_grant_is_enforced() -> None:
    """A granting policy that is unknown, or on trial, grants nothing."""
    assert "granting.0: ghost is not listed as enforce" in problems(lambda d: d.update(granting=["ghost"]))
    waived = {"mode": "warn", "because": "x", "until": "2027-01-01"}
    assert "granting.0: grants is not listed as enforce" in problems(lambda d: d["policies"].update(grants=waived))


@pytest.mark.parametrize(
    ("change", "wanted"),
    [
        ({"name": "sourcing_triangle"}, "combination.1.name: sourcing_triangle is taken by an earlier rule"),
        ({"then": "deny"}, "approvers: only a rule with `then: review` has one"),
        ({"then": "warn"}, "scope: only a rule with `then: review` has one"),
        ({"unless": {"roles": ["unknown"]}}, "unless.roles: the role unknown is exempted from nothing"),
        ({"hours": {"from": "07:00", "to": "07:00"}}, "hours: from and to are the same"),
        ({"hours": {"from": "7:00", "to": "24:00"}}, "hours.from: "),
        ({"marks": ["system:a"]}, "marks: "),
        ({"marks": ["system:a", "b"]}, "marks.1: "),
        ({"marks": ["effect:read", "effect:delete"]}, "marks.1: "),
        ({"unless": {"agents": ["buyer-agent"]}}, "unless.agents.0: "),
        ({"nmae": "x"}, "unknown key 'nmae'; did you mean 'name'?"),
    ],
)
def test_a_combination_rule_that_contradicts_itself(change: dict[str, Any], wanted: str) -> None:
    """What the schema cannot say is said here."""
    index = 1 if "name" in change else 0
    assert wanted in problems(lambda d: d["combination"][index].update(change))


def test_bounds_that_nothing_meets() -> None:
    """A minimum above the maximum is a slip, in lists of grants too."""
    empty = {"arguments": {"quantity": {"min": 2, "max": 1}}}
    tools = problems(lambda d: d["grants"]["tools"].update(x={"buyer": [{}, empty]}))
    assert tools == "grants.tools.x.buyer.arguments.quantity: min is above max"
    systems = problems(lambda d: d["grants"]["systems"].update(x={"read": {"buyer": empty}}))
    assert systems == "grants.systems.x.read.buyer.arguments.quantity: min is above max"


def test_the_unknown_role_owns_nothing() -> None:
    """It may be granted something, but no tenant's records."""
    assert "ownership.any_tenant: the role unknown owns nothing" in problems(
        lambda d: d["ownership"]["any_tenant"].append("unknown")
    )


@pytest.mark.parametrize("document", [{}, {"schema": 2}, {"schema": "1"}])
def test_a_document_that_is_none(document: dict[str, Any]) -> None:
    """Nothing is assumed."""
    with pytest.raises(PolicyDataError):
        read_document(document, SCHEMA)
