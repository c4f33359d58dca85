"""`sidegate policy`: which actions there are, and where each stands."""

import pytest

from tests.cli.command import inside


@pytest.mark.parametrize("action", ["build", "test", "install", "history", "rollback"])
def test_each_action_takes_settings_and_can_answer_in_json(action: str) -> None:
    done = inside("policy", action, "--help")
    assert done.code == 0
    assert "--settings" in done.out
    assert "--json" in done.out


def test_without_an_action_it_is_wrong_usage() -> None:
    assert inside("policy").code == 64
    assert inside("policy", "biuld").code == 64
