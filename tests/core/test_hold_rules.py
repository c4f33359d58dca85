"""Rules of holds that the contract suite does not reach through the ports."""

from dataclasses import replace
from datetime import timedelta

import pytest

from proxy.core.conversation import Conversation
from proxy.core.hold_rules import (
    AGENT_SHARE,
    MAX_AGE,
    MAX_USES,
    PRINCIPAL_SHARE,
    Hold,
    HoldLimits,
    Waiting,
    deadline,
    hold_from_json,
    hold_to_json,
    refuse_over_limits,
    refuse_spending,
    spent,
)
from proxy.core.review import ReviewStatus
from proxy.errors import Code
from proxy.model import Facts
from tests.contracts.store_kit import refusing
from tests.contracts.store_values import NOON, NOTHING, caller, checked, intent, review, tool

WHO, WHAT = caller("talk"), checked(tool("get_prices"))

ENTRY = WHAT.tool.digest


def approved(**changes: object) -> Hold:
    given = {"status": ReviewStatus.APPROVED, "by": "rita", "resolved_at": NOON, **changes}
    return Hold(
        review=review("call", WHO, WHAT, **given),
        number=1,
        system="stock",
        effect="read",
        labels=("prices",),
        baseline_labels=frozenset({"prices"}),
        baseline_untrusted=False,
        requested_seq=7,
        attached=("call-2",),
    )


def spending(**changes: object) -> dict[str, object]:
    return intent("call-9", WHO, WHAT, Facts(seq=9, history=NOTHING), **changes)


def test_a_hold_comes_back_from_its_row() -> None:
    hold = replace(approved(), concluded_seq=9)
    assert hold_from_json(hold_to_json(hold)) == hold


def test_an_approval_for_one_call_is_spent_by_it_and_one_for_the_conversation_by_the_tenth() -> None:
    assert spent(approved(), 8).review.status is ReviewStatus.SPENT
    wide = approved(scope="conversation")
    for uses in range(1, MAX_USES):
        wide = spent(wide, 8)
        assert (wide.review.status, wide.review.uses, wide.concluded_seq) == (ReviewStatus.APPROVED, uses, 0)
    assert spent(wide, 8).review.status is ReviewStatus.SPENT


def test_an_approval_for_the_conversation_lives_a_quarter_of_an_hour_at_most() -> None:
    assert deadline(approved(scope="conversation").review) == NOON + MAX_AGE
    soon = NOON + timedelta(minutes=1)
    assert deadline(approved(scope="conversation", expires_at=soon).review) == soon
    assert deadline(approved().review) == NOON + timedelta(hours=1)


@pytest.mark.parametrize(
    "changes",
    [
        {"digest": "other"},
        {"conversation": "other"},
        {"principal": {"id": "other"}},
        {"agent": {"pod": "other"}},
        {"agent": None},
    ],
    ids=repr,
)
def test_an_approval_is_bound_to_call_conversation_principal_and_agent(changes: dict[str, object]) -> None:
    talk = Conversation(id="talk")
    refuse_spending(approved(), spending(), ENTRY, talk, NOON)
    with refusing(Code.CALL_CONCLUDED):
        refuse_spending(approved(), spending(**changes), ENTRY, talk, NOON)
    with refusing(Code.CALL_CONCLUDED):
        refuse_spending(approved(), spending(), "other", talk, NOON)


@pytest.mark.parametrize("status", [status for status in ReviewStatus if status is not ReviewStatus.APPROVED])
def test_only_an_approved_review_can_be_spent(status: ReviewStatus) -> None:
    with refusing(Code.CALL_CONCLUDED):
        refuse_spending(approved(status=status), spending(), ENTRY, Conversation(id="talk"), NOON)


@pytest.mark.parametrize("which", range(4))
def test_limits_are_numbers_of_holds_that_may_be_open(which: int) -> None:
    """Of the conversation, of the user, of the agent, and of all."""
    limits = HoldLimits(conversation=2, principal=3, agent=4, total=5)
    wanted, talk = review("call", WHO, WHAT), Conversation(id="talk")
    refuse_over_limits(Waiting(1, 2, 3, 4, 0, 0), wanted, talk, limits)
    one, two, three, four = (found + (n == which) for n, found in enumerate((1, 2, 3, 4)))
    with refusing(Code.OVERLOADED):
        refuse_over_limits(Waiting(one, two, three, four, 0, 0), wanted, talk, limits)


@pytest.mark.parametrize("which", range(2))
def test_new_holds_per_hour_are_bounded_for_the_user_and_the_agent(which: int) -> None:
    """A fresh conversation costs nothing, so its own bound alone is none."""
    limits, most = HoldLimits(new_per_hour=2), (2 * PRINCIPAL_SHARE, 2 * AGENT_SHARE)
    wanted, talk = review("call", WHO, WHAT), Conversation(id="talk")
    refuse_over_limits(Waiting(0, 0, 0, 0, *(found - 1 for found in most)), wanted, talk, limits)
    with refusing(Code.OVERLOADED):
        refuse_over_limits(Waiting(0, 0, 0, 0, *(f - (n != which) for n, f in enumerate(most))), wanted, talk, limits)
