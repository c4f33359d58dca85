"""A registered conversation is a value."""

import dataclasses

import pytest

from proxy.core.registry import Registered
from tests.contracts.store_values import registered


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
