"""`sidegate policy replay` on recorded calls; tests/e2e/test_audit_ticket.py has it with a changed policy.yaml."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.cli.command import Done, inside
from tests.cli.recorded_calls import GRANTED, bundle_in, recorded

OTHER = {"effect": "allow", "reasons": [{"policy": "grants", "code": "granted"}, {"policy": "old", "code": "gone"}]}
SPAN = {"first": 1, "last": 1, "count": 1}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four decisions that stand, two that were granted and would not be, one with other reasons, one that cannot be replayed."""
    made = tmp_path_factory.mktemp("replay")
    bundle_in(made)
    visitor: dict[str, Any] = {"principal__roles": ["visitor"]}
    lines = [recorded(n, f"same-{n}", GRANTED) for n in range(1, 5)]
    lines += [recorded(n, f"lost-{n}", GRANTED, **visitor) for n in (5, 6)]
    lines += [
        recorded(7, "reasons", OTHER),
        recorded(8, "gap", GRANTED, conversation__calls=SPAN, conversation__id="k"),
    ]
    (made / "shipped.log").write_bytes(b"".join([*lines, recorded(9, "unanswered")]))
    return made


def replay(folder: Path, *words: str) -> Done:
    return inside("policy", "replay", folder / "shipped.log", "--bundle", folder / "policy.tar.gz", *words)


def test_differences_are_counted_with_examples(folder: Path) -> None:
    done = replay(folder, "--json")
    told = json.loads(done.out)
    assert (done.code, told["replayed"]) == (1, 7)
    assert told["differ"] == {"allow -> deny": 2, "allow -> allow for other reasons": 1}
    first = told["examples"]["allow -> deny"][0]
    assert (first["call"], first["before"], first["after"]) == ("lost-5", ["grants.granted"], ["decision.not_granted"])
    assert sorted(told["not_replayable"].values()) == [1, 1]


def test_people_are_told_the_same(folder: Path) -> None:
    lines = replay(folder).out.splitlines()
    assert lines[0] == "7 decisions replayed, 3 would differ"
    assert lines[1].startswith("  before: what was recorded; after: revision ")
    assert lines[1].endswith("policy.tar.gz")
    assert lines[2].split() == ["2", "allow", "->", "deny"]
    assert "lost-5 get_price for https://login.example#u-1: grants.granted -> decision.not_granted" in lines[3]
    assert any("not replayed: 1 of 1 earlier calls" in line for line in lines)
    assert any("not replayed: policy had no answer" in line for line in lines)


def test_conditions_choose_what_is_replayed(folder: Path) -> None:
    """Exit code 0 if none of it would differ."""
    done = replay(folder, "--until", "2026-11-25T10:00:05Z", "--principal", "u-1")
    assert (done.code, done.out.splitlines()[0]) == (0, "4 decisions replayed, 0 would differ")


def test_nothing_to_replay_is_exit_code_64(folder: Path) -> None:
    """It must not pass for "nothing changes", nor for "something does"."""
    done = replay(folder, "--since", "2026-11-25T10:00:08Z")
    assert (done.code, done.out) == (64, "")
    assert "no decision that could be replayed is among the records: 1 of 1 earlier calls" in done.err
    assert replay(folder, "--tool", "other").code == 64


def test_a_policy_that_cannot_be_read_is_exit_code_64(folder: Path) -> None:
    """As `after` and as `before`."""
    log = folder / "shipped.log"
    assert inside("policy", "replay", log, "--bundle", log).code == 64
    done = replay(folder, "--against", str(log))
    assert (done.code, "is not gzip" in done.err) == (64, True)


def test_guards_that_were_recorded_are_no_difference(folder: Path) -> None:
    odd = {"effect": "deny", "guards": ["fact_missing"], "reasons": [{"policy": "grants", "code": "granted"}]}
    (folder / "odd.log").write_bytes(recorded(1, "odd", odd, environment__now="never"))
    done = inside("policy", "replay", folder / "odd.log", "--bundle", folder / "policy.tar.gz")
    assert (done.code, done.out.splitlines()[0]) == (0, "1 decisions replayed, 0 would differ")


def test_compared_with_a_bundle_only_what_the_two_say_counts(folder: Path) -> None:
    """What was recorded by whatever policy is left out of account."""
    done = replay(folder, "--against", str(folder / "policy.tar.gz"), "--json")
    told = json.loads(done.out)
    assert (done.code, told["replayed"], told["differ"]) == (0, 7, {})
    assert told["compared"]["before"] == told["compared"]["after"]


def test_current_needs_something_to_be_compared_with(folder: Path) -> None:
    done = inside("policy", "replay", folder / "shipped.log", "--against", "current")
    assert (done.code, "name the changed policy" in done.err) == (64, True)


CLOSED = """# METADATA
# title: Closed
# description: Some tools rest.
# schemas:
#   - input: schema.input
package sidegate.policies.closed

import rego.v2

# METADATA
# title: Closed
deny contains {"code": "closed", "message": $"{input.tool.name} rests"} if {
	input.tool.name == "TOOL"
}
"""


def test_a_change_of_rego_is_tried_beside_the_policy_in_force(folder: Path, tmp_path: Path) -> None:
    """Against `current` only what the change does is told: the settings' own policy grants nobody get_price, either."""
    assert inside("init", tmp_path).code == 0
    for name, tool in (("policies", "say_hello"), ("changed", "get_price")):
        (tmp_path / name / "closed").mkdir(parents=True)
        (tmp_path / name / "closed" / "closed.rego").write_text(CLOSED.replace("TOOL", tool))
    for name, old, new in (
        ("sidegate.yaml", "# policy_folders: [policies]", "policy_folders: [policies]"),
        ("policy.yaml", "review: enforce}", "review: enforce, closed: enforce}"),
    ):
        text = (tmp_path / name).read_text()
        assert old in text
        (tmp_path / name).write_text(text.replace(old, new))
    given = ("--settings", str(tmp_path / "sidegate.yaml"), "--against", "current", "--json")
    words = ("policy", "replay", folder / "shipped.log", *given)
    done = inside(*words, "--rego", tmp_path / "changed")
    told = json.loads(done.out)
    assert (done.code, told["differ"]) == (1, {"deny -> deny for other reasons": 7})
    example = told["examples"]["deny -> deny for other reasons"][0]
    assert (example["before"], example["after"]) == (["decision.not_granted"], ["closed.closed"])
    assert told["compared"]["after"].endswith(f"policy.yaml with {tmp_path / 'changed'}")
    assert inside(*words, "--rego", tmp_path / "policies").code == 0
