"""Which policy a command asks."""

import argparse
from pathlib import Path

import pytest

from proxy.cli.common import Failure
from proxy.cli.policy_given import policy_arguments, read, said_codes, settings_of
from proxy.model import Decision
from tests.cli.command import inside


def parsed(*words: str | Path) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    policy_arguments(parser)
    return parser.parse_args([*map(str, words)])


def test_settings_are_needed_unless_a_bundle_is_given(tmp_path: Path) -> None:
    """With a bundle there may be none, and then only the place of OPA is known."""
    absent = tmp_path / "none.yaml"
    with pytest.raises(Failure, match="sidegate init"):
        settings_of(parsed("--settings", absent))
    bare = settings_of(parsed("--settings", absent, "--bundle", "b.tar.gz", "--bundle", "t.tar.gz"))
    assert bare.tools.name == "tools"


def test_another_policy_file_stands_in_for_the_settings_own(tmp_path: Path) -> None:
    assert inside("init", tmp_path).code == 0
    settings = settings_of(parsed("--settings", tmp_path / "sidegate.yaml", "--policy", tmp_path / "other.yaml"))
    assert settings.policy == tmp_path / "other.yaml"


ANSWER = {
    "schema": 1,
    "effect": "deny",
    "guards": [],
    "deny": {"a": [{"code": "x"}]},
    "review": {},
    "allow": {},
    "obligations": {},
    "warn": {},
    "revision": "r",
}


def test_answers_are_read_as_strictly_as_the_sidecar_reads_them() -> None:
    decision = read(ANSWER)
    assert isinstance(decision, Decision)
    assert said_codes(decision) == {("a", "x")}
    assert "policy_invalid" in str(read({**ANSWER, "effect": "alow"}))
    assert read("evaluation error") == "evaluation error"
