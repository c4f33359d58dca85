"""What spans say of a call, of the rule that decided it, and of a review."""

from datetime import timedelta

import pytest

from proxy.core.review import ReviewStatus
from proxy.errors import Code, Refusal
from proxy.model import Agent, Caller, Decision, Effect, Reason
from proxy.telemetry import names
from proxy.telemetry.attributes import of_call, of_end, of_review, of_rule
from tests.telemetry.samples import (
    ALLOWED,
    APPROVAL,
    CALLER,
    DENIED,
    HELD,
    NOW,
    PARENT,
    SECRET,
    review,
    trail,
)

NOT_GRANTED = Reason(policy="decision", code="not_granted")  # what the strict reader puts where nobody said anything


@pytest.mark.parametrize(
    ("decision", "policy", "rule", "count"),
    [
        (ALLOWED, "grants", "granted", 1),
        (DENIED, "arguments", "over_limit", 1),
        (HELD, "combination", "position", 1),
        (Decision(effect=Effect.DENY, guards=("unregistered",), revision="r1"), "guards", "unregistered", 1),
        (Decision(effect=Effect.DENY, deny=(NOT_GRANTED,), revision="r1"), "decision", "default-deny", 1),
        (Decision(effect=Effect.DENY, revision="r1"), "decision", "default-deny", 0),
        (Decision(effect=Effect.DENY, guards=("a",), deny=DENIED.deny, revision="r1"), "guards", "a", 2),
    ],
)
def test_the_rule_that_decided_is_named(decision: Decision, policy: str, rule: str, count: int) -> None:
    """By policy and code; a denial that nobody asked for is the default."""
    assert of_rule(decision) == {
        names.RULESET_NAME: policy,
        names.RULE_NAME: rule,
        names.RULE_VERSION: "r1",
        names.REASON: f"{policy}.{rule}",
        names.REASONS: count,
    }


def test_a_workload_identity_goes_before_an_account() -> None:
    """SPIFFE says more than a name."""
    known = trail(PARENT, decision=ALLOWED)
    agent = Agent(namespace="agents", service_account="buyer", spiffe_id="spiffe://c/buyer")
    known.caller = Caller(agent=agent, principal=CALLER.principal, conversation="c", registration=CALLER.registration)
    assert of_call(known)[names.AGENT] == "spiffe://c/buyer"


def test_a_call_that_runs_after_its_approval_names_the_one_that_was_held() -> None:
    """And whose yes it was."""
    known = trail(PARENT, decision=ALLOWED)
    known.resumes, known.approval = "cd" * 16, APPROVAL
    said = of_end(known, known.answer())
    assert said[names.RESUMES] == "cd" * 16
    assert (said[names.REVIEW_ID], said[names.REVIEW_BY], said[names.CODE]) == ("r-1", "boris", "ok")
    assert not {names.RESUMES, names.REVIEW_ID, names.REVIEW_BY} & of_call(trail(PARENT, decision=ALLOWED)).keys()


def test_a_refusal_tells_its_code_whether_it_ran_and_its_review() -> None:
    """Not its message."""
    known = trail(PARENT, decision=HELD)
    said = of_end(known, known.answer(refusal=Refusal(Code.REVIEW_PENDING, SECRET, review_id="r-9")))
    assert (said[names.CODE], said[names.RAN], said[names.REVIEW_ID]) == ("review_pending", "no", "r-9")
    assert SECRET not in str(said)


def test_an_open_review_says_until_when_and_by_whom_it_can_be_answered() -> None:
    """While it lasts, that is what counts."""
    assert of_review(review()) == {
        names.REVIEW_ID: "r-1",
        names.REVIEW_STATUS: "pending",
        names.REVIEW_EXPIRES: "2026-11-25T12:00:00+00:00",
        names.REVIEW_APPROVERS: (),
    }


def test_an_answered_review_says_by_whom_and_after_how_long() -> None:
    """Not the comment; and no time is negative, however clocks were set."""
    said = of_review(review(ReviewStatus.REJECTED, by="boris", after=timedelta(minutes=12.5)))
    assert said == {
        names.REVIEW_ID: "r-1",
        names.REVIEW_STATUS: "rejected",
        names.REVIEW_SECONDS: 750.0,
        names.REVIEW_BY: "boris",
    }
    assert of_review(review(ReviewStatus.EXPIRED, after=timedelta(minutes=-1)))[names.REVIEW_SECONDS] == 0
    assert NOW.isoformat(timespec="seconds") in str(of_review(review()))
