"""A permit is made for an allowed call, in one place, and cannot be made into another."""

import dataclasses

import pytest

from proxy.core.permit import Permit, denial, grant
from proxy.errors import Code, Refusal
from proxy.model import Decision, Effect, Reason
from tests.telemetry.samples import ALLOWED, CALLER, CHECKED, DENIED, HELD, SECRET, permit


def test_an_allowed_call_gets_its_permit() -> None:
    """With the very values that were judged."""
    made = grant("c1", CHECKED, CALLER, ALLOWED)
    assert (made.call_id, made.checked, made.caller) == ("c1", CHECKED, CALLER)


@pytest.mark.parametrize("decision", [DENIED, HELD, Decision(effect=Effect.DENY, revision="r")])
def test_no_other_effect_gets_one(decision: Decision) -> None:
    """A review that nobody has approved is a denial here."""
    with pytest.raises(Refusal) as no:
        grant("c1", CHECKED, CALLER, decision)
    assert no.value.code is Code.DENIED


@pytest.mark.parametrize("maker", [None, object(), True, "grant"])
def test_nobody_else_can_make_one(maker: object) -> None:
    """The class itself refuses."""
    with pytest.raises(TypeError, match="grant only"):
        Permit(call_id="c", checked=CHECKED, caller=CALLER, maker=maker)


def test_a_permit_for_one_call_cannot_be_turned_into_one_for_another() -> None:
    """`dataclasses.replace` would keep the maker's mark and change the call."""
    other = dataclasses.replace(CHECKED, digest="another")
    with pytest.raises((TypeError, ValueError)):
        dataclasses.replace(permit(), checked=other)  # type: ignore[call-arg]  # that it does not work is the point


def test_a_permit_cannot_be_changed() -> None:
    """It is frozen."""
    with pytest.raises(dataclasses.FrozenInstanceError):
        permit().call_id = "another"  # type: ignore[misc]  # that it does not work is the point


def test_a_denial_says_what_all_reasons_say_and_no_details() -> None:
    """Messages and fixes together, codes as pairs, approvers once."""
    decision = Decision(
        effect=Effect.DENY,
        revision="r",
        deny=(
            Reason(policy="a", code="x", message="one", fix="do this", details=SECRET, approvers=("q", "p")),
            Reason(policy="b", code="y", message="two", fix="do that", approvers=("p",)),
            Reason(policy="c", code="z"),
        ),
        review=(Reason(policy="d", code="not_said"),),
    )
    no = denial(decision)
    assert (no.message, no.fix, no.reasons, no.approvers) == (
        "one; two",
        "do this; do that",
        (("a", "x"), ("b", "y"), ("c", "z")),
        ("p", "q"),
    )
    assert SECRET not in repr(vars(no))


def test_a_denial_without_reasons_says_that_nothing_grants_the_call() -> None:
    """The default is no."""
    no = denial(Decision(effect=Effect.DENY, revision="r"))
    assert (no.message, no.fix, no.reasons) == ("no policy grants this call", None, (("decision", "not_granted"),))
