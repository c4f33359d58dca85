"""Whatever OPA, or somebody in its place, answers: only a whole, typed, consistent allow is an allow."""

import json
from collections.abc import Callable
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core import decision as reader
from proxy.core.decision import read_decision, read_mismatch, read_shadow, read_visible
from proxy.errors import Code, Refusal
from proxy.model import Decision, Effect, Reason
from tests.core.broken_decisions import ALLOW, REASON, Path, breakable, mutants, typed


def body(result: Any) -> bytes:
    return orjson.dumps({"result": result})


def changed(**keys: Any) -> bytes:
    return body({**ALLOW, **keys})


def refusal(act: Callable[[], object]) -> Refusal:
    with pytest.raises(Refusal) as caught:
        act()
    return caught.value


def cause(text: bytes) -> object:
    refused = refusal(lambda: read_decision(text))
    assert refused.code is Code.POLICY_INVALID
    assert refused.details is not None
    return refused.details["cause"]


def outcome(read: Callable[[bytes], Any], text: bytes) -> object:
    """The effect that was read, or the code that refused; nothing else may come out."""
    try:
        return read(text).effect
    except Refusal as refused:
        return refused.code


def test_a_decision_is_read_with_every_field() -> None:
    read = read_decision(body(ALLOW))
    granted = Reason(
        policy="grants",
        code="granted",
        message="may read",
        fix="nothing",
        details={"role": "buyer", "limit": 5},
        approvers=("leads",),
        scope="once",
        severity="low",
    )
    said = {"deny": {}, "review": {}, "allow": {"grants": [REASON]}}
    assert read == Decision(effect=Effect.ALLOW, allow=(granted,), warn=ALLOW["warn"], revision="r1", said=said)


def test_a_bare_code_is_a_whole_reason_and_an_absent_scope_means_once() -> None:
    read = read_decision(changed(allow={"grants": [{"code": "c"}]}))
    assert read.allow == (Reason(policy="grants", code="c"),)


def test_reasons_of_all_policies_are_flattened_and_what_was_said_stays_word_for_word() -> None:
    deny = {"a": [{"code": "c1"}, {"code": "c2", "details": [1.5]}], "b": [{"code": "c3"}]}
    read = read_decision(changed(effect="deny", deny=deny, guards=["policy_missing"]))
    assert [(r.policy, r.code) for r in read.deny] == [("a", "c1"), ("a", "c2"), ("b", "c3")]
    assert read.guards == ("policy_missing",)
    assert read.said["deny"] == deny


def test_a_deny_with_nothing_said_says_not_granted() -> None:
    read = read_decision(changed(effect="deny", allow={}))
    assert read.deny == (Reason(policy="decision", code="not_granted"),)
    assert read.said["deny"] == {}


def test_a_deny_by_a_guard_alone_keeps_the_guard_as_its_reason() -> None:
    assert read_decision(changed(effect="deny", guards=["fact_missing"])).deny == ()


def test_an_allow_beside_a_review_is_read_since_an_approval_may_cover_it() -> None:
    read = read_decision(changed(review={"combination": [{"code": "c"}]}))
    assert (read.effect, len(read.review)) == (Effect.ALLOW, 1)


@pytest.mark.parametrize("at", list(breakable()), ids=lambda at: ".".join(map(str, at)))
def test_no_broken_decision_comes_out_as_an_allow(at: Path) -> None:
    """Each key of a valid allow deleted, extended, or replaced by a value of each JSON type."""
    for mutant in mutants(at):
        expected = set(mutant) == {"result"} and isinstance(mutant["result"], dict) and typed(mutant["result"])
        assert (outcome(read_decision, json.dumps(mutant).encode()) is Effect.ALLOW) == expected, mutant


@pytest.mark.parametrize(
    "keys",
    [
        {"deny": {"p": [{"code": "c"}]}},
        {"guards": ["g"]},
        {"allow": {}},
        {"effect": "review"},
        {"effect": "review", "review": {"p": [{"code": "c"}]}, "allow": {}},
        {"effect": "review", "review": {"p": [{"code": "c"}]}, "guards": ["g"]},
        {"effect": "review", "review": {"p": [{"code": "c"}]}, "deny": {"p": [{"code": "c"}]}},
        {"effect": "deny"},
        {"effect": "deny", "review": {"p": [{"code": "c"}]}},
    ],
)
def test_an_effect_that_contradicts_what_was_said_is_refused(keys: dict[str, Any]) -> None:
    assert cause(changed(**keys)) == "contradiction"


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"schema": 2}, "unknown_schema"),
        ({"schema": True}, "unknown_schema"),
        ({"effect": "permit"}, "unknown_effect"),
        ({"effect": "ALLOW"}, "unknown_effect"),
        ({"deny": {"p": []}}, "empty"),
        ({"deny": {"p": "no"}}, "wrong_type"),
        ({"deny": {"p": True}}, "wrong_type"),
        ({"deny": {"p": ["no"]}}, "wrong_type"),
        ({"deny": {"p": [{"message": "no code"}]}}, "missing_key"),
        ({"deny": {"": [{"code": "c"}]}}, "empty"),
        ({"allow": {"p": [{"code": "c", "scope": "forever"}]}}, "unknown_scope"),
        ({"allow": {"p": [{"code": "c", "mesage": "x"}]}}, "extra_key"),
        ({"obligations": {"p": [{"kind": "redact"}]}}, "unknown_obligation"),
        ({"obligations": {"p": [{}]}}, "wrong_type"),
        ({"obligations": {"p": []}}, "empty"),
        ({"revision": ""}, "empty"),
        ({"warn": {"p": []}}, "wrong_type"),
        ({"allow": {"p": [{"code": "c" * 129}]}}, "too_long"),
        ({"allow": {"p": [{"code": "c", "message": "m" * 2001}]}}, "too_long"),
        ({"allow": {"p": [{"code": "c", "fix": "m" * 2001}]}}, "too_long"),
        ({"allow": {"p": [{"code": "c"}] * 257}}, "too_many"),
        ({"allow": {"p": [{"code": "c"}] * 200, "q": [{"code": "c"}] * 57}}, "too_many"),
        ({"allow": {f"p{n}": [{"code": "c"}] for n in range(257)}}, "too_many"),
        ({"warn": {f"p{n}": {} for n in range(257)}}, "too_many"),
        ({"guards": ["g"] * 257}, "too_many"),
        ({"allow": {"p": [{"code": "c", "approvers": ["g"] * 257}]}}, "too_many"),
        ({"allow": {"p": [{"code": "c", "details": "d" * reader.MAX_BODY}]}}, "too_large"),
    ],
)
def test_each_oddity_has_its_stable_word(keys: dict[str, Any], expected: str) -> None:
    assert cause(changed(**keys)) == expected


def test_the_bounds_themselves_are_still_read() -> None:
    reasons = [{"code": "c" * 128, "message": "m" * 2000, "fix": "f" * 2000}] * 200
    assert len(read_decision(changed(allow={"p": reasons, "q": [{"code": "c"}] * 56})).allow) == 256


@pytest.mark.parametrize(
    "text", [b"", b"{", b"<html>", b'{"result": NaN}', b"\xef\xbb\xbf{}", b"{}{}", b"\xff", b"[" * 5000]
)
def test_what_is_not_json_is_policy_invalid(text: bytes) -> None:
    assert cause(text) == "not_json"


@pytest.mark.parametrize(
    "text", [b"null", b"[]", b"1", b'"allow"', b'{"result": null}', b'{"result": true}', b'{"result": []}']
)
def test_an_answer_or_a_result_of_another_type_is_policy_invalid(text: bytes) -> None:
    assert cause(text) == "wrong_type"


def test_undefined_is_no_answer_and_so_policy_unavailable() -> None:
    for read in (read_decision, read_visible, read_mismatch, read_shadow):
        refused = refusal(lambda read=read: read(b"{}"))  # type: ignore[misc]  # mypy sees no type in a lambda's default
        assert (refused.code, refused.details) == (Code.POLICY_UNAVAILABLE, {"cause": "undefined"})


def test_a_warning_beside_the_result_is_refused() -> None:
    """OPA warns so when the request had no `input`: then nothing of the call was judged."""
    warning = {"code": "api_usage_warning", "message": "'input' key missing from the request"}
    assert cause(orjson.dumps({"result": ALLOW, "warning": warning})) == "warning"
    assert cause(orjson.dumps({"warning": warning})) == "warning"


def test_a_decision_id_beside_the_result_is_read_over_and_any_other_key_refused() -> None:
    assert read_decision(orjson.dumps({"result": ALLOW, "decision_id": "4ca6"})).effect is Effect.ALLOW
    assert cause(orjson.dumps({"result": ALLOW, "metrics": {}})) == "extra_key"
    assert cause(orjson.dumps({"decision_id": "4ca6", "metrics": {}})) == "missing_key"


def test_a_refusal_names_the_place_but_never_repeats_the_policys_text_to_the_model() -> None:
    refused = refusal(lambda: read_decision(changed(allow={"p": [{"code": "c", "secret-word": 1}]})))
    assert refused.details == {"cause": "extra_key", "at": "allow.p"}
    assert "secret-word" not in str(refused)
    assert refused.message == "the policy service gave no valid decision; nothing was executed"


@pytest.mark.parametrize("read", [read_visible, read_mismatch])
def test_lists_of_names_are_read_as_sets(read: Callable[[bytes], frozenset[str]]) -> None:
    assert read(body(["a", "b"])) == {"a", "b"}
    assert read(body([])) == frozenset()
    for wrong in (None, "a", {"a": 1}, ["a", 1], [None], [""], [["a"]]):
        assert refusal(lambda wrong=wrong: read(body(wrong))).code is Code.POLICY_INVALID  # type: ignore[misc]  # as above


def test_what_policies_on_trial_said_is_passed_on_as_said() -> None:
    assert read_shadow(body({"p": {"deny": "odd"}})) == {"p": {"deny": "odd"}}
    assert refusal(lambda: read_shadow(body([]))).code is Code.POLICY_INVALID


@given(st.binary(max_size=200))
def test_no_bytes_raise_anything_but_a_refusal(text: bytes) -> None:
    for read in (read_decision, read_visible, read_mismatch, read_shadow):
        assert outcome(read, text) in (Code.POLICY_INVALID, Code.POLICY_UNAVAILABLE)


def test_long_answers_are_not_kept() -> None:
    """A policy that repeats arguments in `details` says something else each time, up to a mebibyte."""
    small, large = changed(revision="kept"), changed(revision="let-go", warn={"p": {"said": "x" * 5000}})
    assert read_decision(small) is read_decision(small)
    assert read_decision(large) == read_decision(large)
    assert read_decision(large) is not read_decision(large)
