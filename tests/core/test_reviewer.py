"""Who may answer a review: four eyes, tenant, groups, and the digest that was shown."""

from dataclasses import replace
from typing import Any

import pytest

from proxy.core.reviewer import refuse_unless_operator, refuse_unless_reviewer
from proxy.errors import Code, Refusal
from proxy.model import Principal
from tests.contracts.store_kit import refusing
from tests.contracts.store_values import caller, checked, review, tool

RITA = Principal(issuer="desk", subject="rita", tenant="shop", roles=("sourcing",))
HELD = review("c", caller("talk"), checked(tool("t"), "d1"))  # ada's, tenant shop, approvers sourcing


def answer(reviewer: Principal = RITA, digest: str | None = "d1", **changes: Any) -> None:
    refuse_unless_reviewer(reviewer, replace(HELD, **changes), digest)


def test_a_reviewer_of_the_group_and_tenant_may_answer_what_was_shown() -> None:
    """With the digest, and without one where it is a no."""
    answer()
    answer(digest=None)


@pytest.mark.parametrize("reviewer", [HELD.principal, replace(HELD.principal, issuer="desk")])
def test_nobody_answers_their_own_call(reviewer: Principal) -> None:
    """Nor under another issuer's name for them."""
    with refusing(Code.NOT_APPROVER):
        answer(replace(reviewer, roles=("sourcing",)))


def test_nobody_answers_a_call_in_whose_chain_they_act() -> None:
    """An actor is as near to the call as its principal."""
    with refusing(Code.NOT_APPROVER):
        answer(principal=replace(HELD.principal, actors=("robot", "rita")))


def test_a_delegated_token_answers_nothing() -> None:
    """Whoever acts in a person's name (RFC 8693) is not that person."""
    with refusing(Code.NOT_APPROVER):
        answer(replace(RITA, actors=("robot",)))


def test_a_review_of_another_tenant_is_one_that_is_not_there() -> None:
    """Also for a reviewer of no tenant."""
    for tenant in ("other", None):
        with pytest.raises(Refusal) as no:
            answer(replace(RITA, tenant=tenant))
        assert (no.value.code, no.value.message) == (Code.UNKNOWN_CALL, "no such review")


@pytest.mark.parametrize(
    ("groups", "roles", "may"),
    [
        ((), (), True),
        ((("sourcing", "heads"),), ("heads",), True),
        ((("sourcing",), ("legal",)), ("sourcing", "legal"), True),
        ((("sourcing",), ("legal",)), ("sourcing",), False),
        ((("sourcing",),), (), False),
        ((("sourcing",),), ("Sourcing",), False),
    ],
)
def test_one_group_of_each_reason_is_needed(
    groups: tuple[tuple[str, ...], ...], roles: tuple[str, ...], may: bool
) -> None:
    """Every reason has its own."""
    if may:
        answer(replace(RITA, roles=roles), approvers=groups)
        return
    with pytest.raises(Refusal) as no:
        answer(replace(RITA, roles=roles), approvers=groups)
    assert no.value.code is Code.NOT_APPROVER
    assert set(no.value.approvers) == {name for group in groups if not set(group) & set(roles) for name in group}


@pytest.mark.parametrize("digest", ["", "d2", "D1", "d1 "])
def test_a_yes_to_something_else_than_was_shown_is_none(digest: str) -> None:
    """Look again."""
    with refusing(Code.CALL_CONCLUDED):
        answer(digest=digest)


@pytest.mark.parametrize("roles", [(), ("sourcing",), ("Operator",), ("operators",)])
def test_switches_are_for_operators(roles: tuple[str, ...]) -> None:
    """By that very name."""
    refuse_unless_operator(replace(RITA, roles=("x", "operator")))
    with refusing(Code.NOT_APPROVER):
        refuse_unless_operator(replace(RITA, roles=roles))
