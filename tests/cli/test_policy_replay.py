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
    assert lines[1].split() == ["2", "allow", "->", "deny"]
    assert "lost-5 get_price for https://login.example#u-1: grants.granted -> decision.not_granted" in lines[2]
    assert any("not replayed: 1 of 1 earlier calls" in line for line in lines)
    assert any("not replayed: policy had no answer" in line for line in lines)


def test_conditions_choose_what_is_replayed(folder: Path) -> None:
    """Exit code 0 if none of it would differ."""
    done = replay(folder, "--until", "2026-11-25T10:00:05Z", "--principal", "u-1")
    assert (done.code, done.out) == (0, "4 decisions replayed, 0 would differ\n")


def test_nothing_to_replay_is_exit_code_1(folder: Path) -> None:
    done = replay(folder, "--since", "2026-11-25T10:00:08Z")
    assert (done.code, done.out) == (1, "")
    assert "no decision that could be replayed is among the records: 1 of 1 earlier calls" in done.err
    assert replay(folder, "--tool", "other").code == 1
