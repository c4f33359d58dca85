"""Roles that a policy names and nobody has."""

import json
from pathlib import Path
from typing import Any

import yaml

from proxy.core.policy_document import read_document
from proxy.core.roles import roles_of_reviewers, roles_of_users, unheld

REGO = Path(__file__).parents[2] / "rego"
SCHEMA = json.loads((REGO / "schemas" / "policy.json").read_bytes())
GRANT: Any = [{"arguments": {"q": {"max": 1}}}, {"review": {"approvers": ["g-leads"]}}]
SECTIONS: dict[str, Any] = {
    "grants": {"tools": {"order": {"buyer": GRANT, "unknown": {}}}, "systems": {"crm": {"read": {"clerk": {}}}}},
    "arguments": {"order": {"limits": {"q": {"lead": 5, "buyer": 1}}, "own_domain": ["to"]}},
    "ownership": {"any_tenant": ["support"]},
    "combination": [
        {
            "name": "meet",
            "marks": ["system:crm", "system:x"],
            "then": "review",
            "message": "m",
            "approvers": ["c-leads"],
        },
        {
            "name": "free",
            "marks": ["system:y", "system:x"],
            "then": "deny",
            "message": "m",
            "unless": {"roles": ["audit"]},
        },
    ],
    "review": {
        "approvers": ["ops"],
        "effects": {"send": {"approvers": ["mail"]}},
        "risks": {"high": {"approvers": ["risk"]}},
    },
}
DOCUMENT = read_document({**yaml.safe_load((REGO / "samples" / "policy.yaml").read_bytes()), **SECTIONS}, SCHEMA)


def test_every_place_that_names_a_users_role_is_found() -> None:
    assert {role: path for path, role in reversed(list(roles_of_users(DOCUMENT)))} == {
        "buyer": "grants.tools.order",
        "unknown": "grants.tools.order",
        "clerk": "grants.systems.crm.read",
        "lead": "arguments.order.limits.q",
        "support": "ownership.any_tenant",
        "audit": "combination.1.unless.roles",
    }


def test_every_place_that_names_a_reviewers_role_is_found() -> None:
    assert dict(roles_of_reviewers(DOCUMENT)) == {
        "review.approvers": "ops",
        "review.effects.send.approvers": "mail",
        "review.risks.high.approvers": "risk",
        "combination.0.approvers": "c-leads",
        "grants.tools.order.buyer.review.approvers": "g-leads",
    }


def test_a_role_that_no_token_has_is_said_once_with_the_nearest() -> None:
    """The role of the unregistered is nobody's by design."""
    named = [("a.b", "usr"), ("a.c", "usr"), ("a.d", "unknown"), ("a.e", "zebra"), ("a.f", "user")]
    assert unheld(named, {"user", "lead"}, "tokens.yaml") == [
        "a.b: no token in tokens.yaml has the role 'usr'; did you mean 'user'?",
        "a.e: no token in tokens.yaml has the role 'zebra'",
    ]
