"""Small refusals of the pipeline."""

from dataclasses import replace
from typing import Any

import pytest

from proxy.core import limits
from proxy.errors import Code, Ran, Refusal, Retry
from proxy.model import Agent, Arguments, Caller, Dialect, Principal, Registration, ToolCall
from tests.contracts.store_kit import refusing
from tests.telemetry.samples import ALLOWED, CALL, PARENT, review, trail


def test_a_switch_refuses_with_its_own_words_and_none_lets_pass() -> None:
    """Stopped, and what to do about it."""
    limits.refuse_stopped(None)
    with pytest.raises(Refusal) as no:
        limits.refuse_stopped("all calls are stopped")
    assert (no.value.code, no.value.message) == (Code.STOPPED, "all calls are stopped")


@pytest.mark.parametrize("times", range(6))
def test_the_third_refusal_in_a_row_is_the_last(times: int) -> None:
    """Before it the call is tried."""
    if times < 3:
        limits.refuse_repeated(times)
        return
    with refusing(Code.REPEATED_CALL):
        limits.refuse_repeated(times)


def test_only_calls_that_no_record_brings_back_are_remembered() -> None:
    """Secrets stay in memory for as few calls as will do."""
    held: dict[str, ToolCall] = {}
    limits.remember(held, review(), CALL)
    assert held == {}
    limits.remember(held, replace(review(), replayable=False), CALL)
    assert held == {"r-1": CALL}
    limits.remember(held, replace(review(), replayable=False), replace(CALL, id="later"))
    assert held == {"r-1": CALL}


def test_the_oldest_of_too_many_is_forgotten() -> None:
    """Memory is bounded."""
    held: dict[str, ToolCall] = {}
    for number in range(limits.MAX_REMEMBERED + 5):
        limits.remember(held, replace(review(), id=f"r{number}", replayable=False), CALL)
    assert list(held) == [f"r{number}" for number in range(5, limits.MAX_REMEMBERED + 5)]


@pytest.mark.parametrize("value", [0, "", (), False])
def test_what_is_known_may_be_empty_but_not_absent(value: Any) -> None:
    """None means that a step was left out."""
    assert limits.known(value) == value
    with pytest.raises(ValueError, match="left out"):
        limits.known(None)


LOST = Refusal(Code.AUDIT_UNAVAILABLE, "the disk is gone")


@pytest.mark.parametrize("ran", list(Ran))
def test_an_unrecorded_outcome_withholds_the_result_and_says_what_is_true_about_it(ran: Ran) -> None:
    """A result ran; of a refusal it is what the refusal said."""
    after_result = limits.withheld(LOST, None, committed=True)
    assert (after_result.code, after_result.ran) == (Code.AUDIT_UNAVAILABLE, Ran.YES)
    after_refusal = limits.withheld(LOST, Refusal(Code.TOOL_TIMEOUT, "slow", ran=ran), committed=True)
    assert (after_refusal.code, after_refusal.ran) == (Code.AUDIT_UNAVAILABLE, ran)


def test_an_unrecorded_refusal_of_a_call_that_was_never_sent_stays_what_it_is() -> None:
    """Nothing is withheld, since there is nothing."""
    denied = Refusal(Code.DENIED, "no")
    assert limits.withheld(LOST, denied, committed=False) is denied
    assert limits.withheld(LOST, None, committed=False) is LOST


@pytest.mark.parametrize(
    ("gone", "committed", "code", "ran"),
    [
        (True, False, Code.ABANDONED, Ran.NO),
        (False, False, Code.OVERLOADED, Ran.NO),
        (True, True, Code.OUTCOME_UNKNOWN, Ran.UNKNOWN),
        (False, True, Code.OUTCOME_UNKNOWN, Ran.UNKNOWN),
    ],
)
def test_a_call_that_is_ended_says_by_whom_before_it_was_sent_and_unknown_after(
    gone: bool, committed: bool, code: Code, ran: Ran
) -> None:
    """Its caller left, or the process ends; whether it ran follows from whether it was sent."""
    call = trail(PARENT, decision=ALLOWED)
    call.caller_gone, call.committed = gone, committed
    no = limits.interrupted(call)
    assert (no.code, no.ran) == (code, ran)
    assert ("shutting down" in no.message) is (code is Code.OVERLOADED)


@pytest.mark.parametrize(("sent", "ran", "retry"), [(False, Ran.NO, Retry.LATER), (True, Ran.UNKNOWN, Retry.NEVER)])
def test_a_fault_of_ours_says_its_class_to_the_record_and_nothing_to_the_model(
    sent: bool, ran: Ran, retry: Retry
) -> None:
    """Texts of exceptions may hold anything."""
    no = limits.internal(KeyError("canary"), sent=sent)
    assert (no.code, no.ran, no.retry, no.details) == (Code.INTERNAL_ERROR, ran, retry, {"fault": "KeyError"})
    assert "canary" not in f"{no.message} {no.fix} {no!r}"


def test_small_refusals_have_their_codes() -> None:
    """A long revision is cut."""
    assert limits.unknown_call().code is Code.UNKNOWN_CALL
    skew = limits.unknown_revision("r" * 500)
    assert (skew.code, skew.details) == (
        Code.POLICY_UNAVAILABLE,
        {"cause": "unknown_revision", "revision": "r" * 64},
    )


def test_a_bare_refusal_holds_nothing_of_its_way() -> None:
    """Neither frames nor the faults behind it."""
    refusal = Refusal(Code.DENIED, "m")
    with pytest.raises(Refusal):
        _fail_behind(refusal)
    assert refusal.__traceback__ is not None
    bare = limits.bare(refusal)
    assert (bare.__traceback__, bare.__context__, bare.__cause__) == (None, None, None)


def _fail_behind(refusal: Refusal) -> None:
    try:
        int("behind")
    except ValueError as fault:
        raise refusal from fault


@pytest.mark.parametrize(
    ("registration", "size", "passes"), [("none", 16384, True), ("none", 16385, False), ("claimed", 10**6, True)]
)
def test_who_proves_nothing_sends_little(registration: str, size: int, passes: bool) -> None:
    """OPA reads arguments whole, and is shared by all."""
    nobody = Principal(issuer="i", subject="s")
    caller = Caller(agent=Agent(), principal=nobody, conversation="c", registration=Registration(registration))
    arguments = Arguments(raw=b"x" * size, tree={}, value={})
    call = ToolCall(id="c", tool="t", arguments=arguments, dialect=Dialect.NATIVE)
    if passes:
        limits.refuse_bulk(caller, call)
    else:
        with pytest.raises(Refusal, match="registered conversation"):
            limits.refuse_bulk(caller, call)
