"""A registered conversation is a value."""

import dataclasses
from dataclasses import replace
from datetime import timedelta

import pytest

from proxy.core.registry import Registered, bound
from proxy.errors import Code
from tests.contracts.store_kit import refusing
from tests.contracts.store_values import AGENT, NOON, principal, registered


def test_a_registration_cannot_be_changed_in_place() -> None:
    """A refresh is a new value."""
    with pytest.raises(dataclasses.FrozenInstanceError):
        registered("talk").turns = 2  # type: ignore[misc]  # that it does not work is the point


def test_a_registration_holds_no_handle() -> None:
    """Only its hash, so that neither memory dump nor journal lets anybody in."""
    names = {field.name for field in dataclasses.fields(Registered)}
    assert "handle" not in names
    assert "handle_hash" in names


def test_before_the_first_text_there_is_no_turn_and_no_profile() -> None:
    """They are what the application says later."""
    given = {f.name: getattr(registered("talk"), f.name) for f in dataclasses.fields(Registered)}
    bare = Registered(**{name: value for name, value in given.items() if name not in {"turns", "profile"}})
    assert (bare.turns, bare.profile) == (0, None)


def test_a_refresh_keeps_the_first_time_and_the_highest_turn() -> None:
    first = registered("talk", turns=3)
    later = registered("talk", turns=1, handle_hash="new", registered_at=NOON + timedelta(minutes=5))
    found = bound(first, later, NOON)
    assert (found.turns, found.registered_at, found.handle_hash) == (3, NOON, "new")
    assert bound(None, later, NOON) == later


def test_what_was_quoted_once_stays_quoted() -> None:
    assert bound(registered("talk", quoted=True), registered("talk"), NOON).quoted
    assert bound(registered("talk"), registered("talk", quoted=True), NOON).quoted
    assert not bound(registered("talk"), registered("talk"), NOON).quoted


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"conversation": "a/b"}, Code.INVALID_CALL),
        ({"expires_at": NOON}, Code.CONVERSATION_EXPIRED),
        ({"principal": principal("eve")}, Code.CONFLICTING_CONVERSATION),
        ({"agent": replace(AGENT, service_account="other")}, Code.CONFLICTING_CONVERSATION),
    ],
    ids=["odd id", "expired", "another user", "another agent"],
)
def test_a_registration_is_refused(changes: dict[str, object], code: Code) -> None:
    with refusing(code):
        bound(registered("talk"), replace(registered("talk"), **changes), NOON)  # type: ignore[arg-type]  # fields of it


def test_another_pod_of_the_same_agent_may_refresh() -> None:
    assert bound(registered("talk"), registered("talk", agent=replace(AGENT, pod="other")), NOON).agent.pod == "other"
