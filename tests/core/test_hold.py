"""From a decision to review, to a record for a person, to a yes or a no."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from proxy.core.hold import approval_of, hold_refusal, new_review
from proxy.core.review import Approval, Review, ReviewStatus
from proxy.core.tool import Argument
from proxy.core.trail import Trail
from proxy.earlier import EarlierCall, Outcome
from proxy.errors import Code, Ran, Refusal, Retry
from proxy.model import Decision, Dialect, Effect, Facts, Reason, Registration, ToolEffect
from tests.contracts.store_values import NOON, NOTHING, caller, checked, review, tool
from tests.telemetry.samples import ALLOWED, CALL, PARENT, trail

WHO = caller("talk")
WHAT = checked(tool("get_prices"), "d1")
SAID = {"combination": [{"code": "three_systems", "message": "they meet"}], "review": [{"code": "risky"}]}
DECISION = Decision(
    effect=Effect.REVIEW,
    revision="p1",
    review=(
        Reason(policy="combination", code="three_systems", message="they meet", approvers=("leads", "heads")),
        Reason(policy="review", code="risky"),
    ),
    said={"review": SAID, "allow": {}},
)
EARLIER = EarlierCall(seq=1, tool="get_stock", system="stock", effect="read", labels=(), outcome=Outcome.DONE)


def held(**changes: Any) -> Trail:
    """A call that has been decided."""
    made = trail(PARENT)
    given = {
        "caller": WHO,
        "checked": WHAT,
        "decision": DECISION,
        "arguments": b'{"a":1}',
        "facts": Facts(seq=2, history=replace(NOTHING, calls=(EARLIER,))),
        **changes,
    }
    for name, value in given.items():
        setattr(made, name, value)
    return made


def asked(**changes: Any) -> Review:
    return new_review(held(**changes), review_id="r1", now=NOON, ttl=900.0)


def test_a_review_holds_all_that_a_person_needs_and_all_that_a_yes_binds() -> None:
    """What is known of the call, what the policies said word for word, and when it ends."""
    assert asked() == Review(
        id="r1",
        call_id=held().call_id,
        digest="d1",
        conversation="talk",
        principal=WHO.principal,
        agent=WHO.agent,
        tool="get_prices",
        version="1",
        entry="entry-of-get_prices",
        dialect=Dialect.ANTHROPIC,
        tool_call_id=CALL.id,
        arguments=b'{"a":1}',
        replayable=True,
        reason=CALL.reason,
        reasons=SAID,
        approvers=(("leads", "heads"),),
        scope="once",
        earlier=(EARLIER,),
        policy_revision="p1",
        trace_id=PARENT.trace_id,
        requested_at=NOON,
        expires_at=NOON + timedelta(minutes=15),
    )


def test_a_call_with_secrets_cannot_be_run_from_its_record() -> None:
    """They are masked in it."""
    secretive = replace(WHAT, tool=replace(WHAT.tool, arguments=(Argument(path="pin", role="secret"),)))
    assert not asked(checked=secretive).replayable


def test_who_nobody_registered_is_denied_and_told_how_to_be_held() -> None:
    """With the reasons that a person would have been shown."""
    with pytest.raises(Refusal) as no:
        asked(caller=replace(WHO, registration=Registration.NONE))
    assert (no.value.code, no.value.reasons) == (
        Code.DENIED,
        (("combination", "three_systems"), ("review", "risky")),
    )
    assert "PUT /v1/conversations" in (no.value.fix or "")


@pytest.mark.parametrize("missing", ["caller", "checked", "decision", "facts"])
def test_a_call_that_skipped_a_step_cannot_be_held(missing: str) -> None:
    """A fault of ours, not a hold."""
    with pytest.raises(ValueError, match="after it was checked"):
        asked(**{missing: None})


@pytest.mark.parametrize(
    ("scopes", "effect", "expected"),
    [
        (("conversation", "conversation"), "read", "conversation"),
        (("conversation", "once"), "read", "once"),
        (("once", "once"), "read", "once"),
        *((("conversation", "conversation"), effect, "once") for effect in ToolEffect if effect != "read"),
    ],
)
def test_an_approval_for_a_conversation_needs_a_read_and_every_reason(
    scopes: tuple[str, str], effect: str, expected: str
) -> None:
    """Once is the rule."""
    reasons = tuple(Reason(policy="p", code=f"c{n}", scope=scope) for n, scope in enumerate(scopes))
    what = replace(WHAT, tool=tool("get_prices", effect=effect))
    assert asked(decision=replace(DECISION, review=reasons), checked=what).scope == expected


def test_a_yes_covers_what_was_asked_and_nothing_else() -> None:
    """The reasons as they were said, who said yes, and when."""
    yes = review("c", WHO, WHAT, reasons=SAID, status=ReviewStatus.APPROVED, by="id#rita", resolved_at=NOON)
    assert approval_of(yes) == Approval(review_id=yes.id, by="id#rita", at=NOON, covers=SAID)


@pytest.mark.parametrize("status", [status for status in ReviewStatus if status is not ReviewStatus.APPROVED])
def test_no_other_state_is_a_yes(status: ReviewStatus) -> None:
    """Whoever is named in it."""
    with pytest.raises(Refusal):
        approval_of(review("c", WHO, WHAT, status=status, by="id#rita", resolved_at=NOON))


@pytest.mark.parametrize("missing", ["by", "resolved_at"])
def test_a_yes_of_nobody_or_at_no_time_is_none(missing: str) -> None:
    """It would be an approval without a person."""
    given = {"status": ReviewStatus.APPROVED, "by": "id#rita", "resolved_at": NOON, missing: None}
    with pytest.raises(Refusal):
        approval_of(review("c", WHO, WHAT, **given))


@pytest.mark.parametrize(
    ("status", "code", "retry"),
    [
        (ReviewStatus.PENDING, Code.REVIEW_PENDING, Retry.SAME_CALL_LATER),
        (ReviewStatus.REJECTED, Code.REVIEW_REJECTED, Retry.NEVER),
        (ReviewStatus.SPENT, Code.CALL_CONCLUDED, Retry.NEVER),
        (ReviewStatus.EXPIRED, Code.REVIEW_EXPIRED, Retry.ASK_AGAIN),
        (ReviewStatus.CANCELLED, Code.REVIEW_EXPIRED, Retry.ASK_AGAIN),
    ],
)
def test_the_caller_is_told_what_became_of_the_hold(status: ReviewStatus, code: Code, retry: Retry) -> None:
    """Its code, that nothing ran, who may approve, and under which name."""
    held_call = review("c", WHO, WHAT, status=status, reasons=SAID, approvers=(("b", "a"), ("c",)))
    no = hold_refusal(held_call)
    assert (no.code, no.retry, no.ran, no.review_id) == (code, retry, Ran.NO, held_call.id)
    assert no.approvers == ("a", "b", "c")
    assert no.reasons == (("combination", "three_systems"), ("review", "risky"))


def test_a_pending_call_is_told_why_by_the_policies_messages() -> None:
    """Or that policy asks for it, where no policy has words."""
    assert "they meet" in hold_refusal(review("c", WHO, WHAT, reasons=SAID)).message
    assert "policy asks" in hold_refusal(review("c", WHO, WHAT, reasons={"review": [{"code": "risky"}]})).message


def test_a_rejection_brings_the_reviewers_words() -> None:
    """If there are any."""
    no = review("c", WHO, WHAT, status=ReviewStatus.REJECTED, comment="not this week")
    assert hold_refusal(no).message == "the reviewer said no: not this week"
    assert hold_refusal(replace(no, comment=None)).message == "the reviewer said no"


def test_an_allowed_call_has_nothing_to_ask() -> None:
    """Its reasons are empty, so a yes to it would cover nothing."""
    assert asked(decision=ALLOWED).reasons == {}
