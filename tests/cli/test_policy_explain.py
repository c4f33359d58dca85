"""`sidegate policy explain` on recorded calls; tests/e2e/test_audit_ticket.py has it over a sidecar's own log."""

import json
from pathlib import Path
from typing import Any

import pytest

from proxy.core.chain import GENESIS, seal_line
from tests.cli.command import HOSTILE, Done, harmless, inside
from tests.cli.recorded_calls import GRANTED, bundle_in, recorded

DENIED = {"effect": "deny", "reasons": [{"policy": "decision", "code": "not_granted"}]}
FAILED = {"seq": 7, "kind": "terminal", "call": "failed", "outcome": "refused", "ran": "yes", "code": "tool_failed"}
UNASKED = {"seq": 9, "kind": "terminal", "call": "unasked", "outcome": "refused", "ran": "no", "code": "invalid_json"}


def written(record: dict[str, Any]) -> bytes:
    timed = record | {"at": "2026-11-25T10:00:09Z"}
    return seal_line(GENESIS, json.dumps(timed, separators=(",", ":")).encode())[0]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle and a shipped log."""
    made = tmp_path_factory.mktemp("explain")
    bundle_in(made)
    lines = [
        b"not a record\n",
        recorded(1, "allowed", GRANTED),
        recorded(2, "denied", DENIED, principal__roles=["visitor"]),
        recorded(3, "no-decision"),
        recorded(4, "odd", DENIED, environment__now="never"),
        recorded(5, "hostile", DENIED, principal__roles=[HOSTILE], tool__name="get_price"),
        *(written(record) for record in (UNASKED, UNASKED | {"call": "stopped", "code": "stopped"})),
        recorded(6, "failed", GRANTED, kind="intent"),
        written(FAILED),
    ]
    (made / "shipped.log").write_bytes(b"".join(lines))
    return made


def explain(folder: Path, name: str, *words: str) -> Done:
    return inside("policy", "explain", name, folder / "shipped.log", "--bundle", folder / "policy.tar.gz", *words)


def told(folder: Path, name: str) -> tuple[int, dict[str, Any]]:
    done = explain(folder, name, "--json")
    (one,) = json.loads(done.out)
    return done.code, one


def test_what_was_decided_is_what_is_decided(folder: Path) -> None:
    """By call or by trace."""
    for name in ("allowed", "t-allowed"):
        code, one = told(folder, name)
        assert (code, one["call"], one["agrees"]) == (0, "allowed", True)
        assert one["revision"] != one["recorded"]["revision"]
    (reason,) = one["reasons"]
    assert (reason["policy"], reason["code"], reason["title"]) == ("grants", "granted", "A grant covers this call")


def test_a_refusal_names_what_missed_and_what_would_be_allowed(folder: Path) -> None:
    code, one = told(folder, "denied")
    (reason,) = one["reasons"]
    assert (code, reason["code"]) == (0, "not_granted")
    assert "the principal has visitor" in reason["settings"][0]
    assert "policy.tar.gz was built from: grants.tools.get_price.visitor: {}" in reason["fix"]
    assert "with the role buyer, too" in one["otherwise"]["allowed"]


def test_a_call_that_policy_gave_no_answer_about_is_told_what_it_would_have_been(folder: Path) -> None:
    code, one = told(folder, "no-decision")
    assert (code, one["effect"], one["agrees"]) == (0, "allow", None)
    assert "no decision was recorded" in explain(folder, "no-decision").out


def test_another_decision_than_the_recorded_one_is_exit_code_1(folder: Path) -> None:
    """Here by guards, which are told in words."""
    code, one = told(folder, "odd")
    assert (code, one["agrees"]) == (1, False)
    assert one["guards"] == {"fact_missing": "a fact that rules need is absent or of another type"}
    assert "guard      fact_missing: a fact" in explain(folder, "odd").out


def test_a_call_that_never_came_to_policy_needs_none(folder: Path) -> None:
    done = inside("policy", "explain", "unasked", folder / "shipped.log", "--settings", folder / "none.yaml")
    assert done.code == 0
    assert "refused: invalid_json" in done.out
    assert "call unasked: no tool that could be read for nobody known" in done.out
    assert "it was refused before policy was asked" in done.out
    assert "ended      invalid_json by the strict reader of what agents send, not by policy: the body" in done.out
    done = inside("policy", "explain", "stopped", folder / "shipped.log", "--settings", folder / "none.yaml")
    assert (done.code, "stopped by an operator's stop switch (`sidegate stop list` shows" in done.out) == (0, True)


def test_a_call_that_policy_allowed_and_whose_tool_failed_says_so(folder: Path) -> None:
    """What policy decided stands in its intent, how it ended in another record."""
    code, one = told(folder, "failed")
    assert (code, one["effect"], one["agrees"]) == (0, "allow", True)
    assert one["ended"].startswith("tool_failed by the tool, not by policy: ")
    assert told(folder, "denied")[1]["ended"] == ""
    assert told(folder, "allowed")[1]["ended"] == ""


def test_an_older_revision_is_said_to_be_one(folder: Path) -> None:
    """With what to give for the rules of then; not where it is the same."""
    assert "changed    policy or catalog has changed since: below is what" in explain(folder, "allowed").out
    same = recorded(1, "same", GRANTED).replace(b"p" * 64, told(folder, "allowed")[1]["revision"].encode())
    (folder / "same.log").write_bytes(same)
    done = inside("policy", "explain", "same", folder / "same.log", "--bundle", folder / "policy.tar.gz")
    assert "by the same revision" in done.out
    assert "changed " not in done.out


def test_text_of_others_is_shown_and_not_obeyed(folder: Path) -> None:
    done = explain(folder, "hostile")
    assert "the principal has red" in done.out
    assert harmless(done.all)


def test_what_is_not_there_is_a_sentence(folder: Path) -> None:
    done = explain(folder, "nobody")
    assert done.code == 1
    assert "no decision about nobody is among the records" in done.err
    log = folder / "shipped.log"
    assert inside("policy", "explain", "allowed", log, "--settings", folder / "none.yaml").code == 64
    assert inside("policy", "explain", "allowed", log, "--bundle", log).code == 64
    assert inside("policy", "explain", "allowed", folder / "nowhere", "--bundle", folder / "policy.tar.gz").code == 64
