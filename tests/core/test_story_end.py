"""Who ended a call."""

import pytest

from proxy.core.story_end import BY_POLICY, ended_by
from proxy.errors import Code


@pytest.mark.parametrize("code", Code)
def test_each_refusal_is_policys_or_says_whose_it_is(code: Code) -> None:
    """A new code has to find its place."""
    said = ended_by(str(code))
    assert bool(said) is (code not in BY_POLICY)
    assert not said or said.startswith(f"{code} by ")


def test_what_went_well_or_is_not_known_is_nobodys() -> None:
    assert [ended_by(code) for code in (None, "ok", "a_code_of_a_newer_version", 7)] == [""] * 4


def test_a_stop_is_an_operators() -> None:
    assert ended_by("stopped").startswith("stopped by an operator's stop switch (`sidegate stop list` shows")
