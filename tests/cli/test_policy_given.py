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


def test_other_folders_stand_in_for_the_settings_own(tmp_path: Path) -> None:
    """With another policy.yaml or not; never half a policy."""
    assert inside("init", tmp_path).code == 0
    settings, folder = tmp_path / "sidegate.yaml", tmp_path / "changed"
    with pytest.raises(Failure, match="is no folder"):
        settings_of(parsed("--settings", settings, "--rego", folder))
    folder.mkdir()
    given = settings_of(parsed("--settings", settings, "--rego", folder, "--rego", tmp_path))
    assert (given.policy, given.policy_folders) == (tmp_path / "policy.yaml", (folder, tmp_path))
    both = settings_of(parsed("--settings", settings, "--rego", folder, "--policy", tmp_path / "o.yaml"))
    assert (both.policy, both.policy_folders) == (tmp_path / "o.yaml", (folder,))
    with pytest.raises(Failure, match="without --policy and --rego"):
        settings_of(parsed("--settings", settings, "--rego", folder, "--bundle", "b.tar.gz"))
    settings.write_text(settings.read_text().replace("policy: policy.yaml", "bundle: {platform: b.tar.gz}"))
    with pytest.raises(Failure, match="give --policy beside --rego"):
        settings_of(parsed("--settings", settings, "--rego", folder))


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
