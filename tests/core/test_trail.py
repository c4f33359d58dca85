"""What is known of a call, and the two records that it leaves."""

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import orjson
import pytest

from proxy.core.policy_input import decision_input
from proxy.core.review import Approval
from proxy.core.state_records import missing_keys
from proxy.core.story import tell
from proxy.core.trail import MAX_TOOL_NAME, Trail, durable_before_sending, intent_record, outcome_of, terminal_record
from proxy.earlier import Outcome
from proxy.errors import Code, Ran, Refusal
from proxy.model import Dialect, Effect, Facts, Result, ToolCall, ToolEffect, UnreadableCall
from tests.contracts.store_values import NOON, NOTHING
from tests.telemetry.samples import (
    ALLOWED,
    CALL,
    CALLER,
    CHECKED,
    DENIED,
    PARENT,
    RESULT,
    SECRET,
    SNAPSHOT,
    review,
    trail,
)

FACTS = Facts(seq=7, history=NOTHING)
YES = Approval(review_id="r-1", by="id#rita", at=NOON, covers={})


def decided(**changes: Any) -> Trail:
    """A call that was allowed, with its document as it was sent."""
    made = trail(PARENT, decision=changes.pop("decision", ALLOWED))
    made.facts = FACTS
    made.arguments = b'{"q":"masked"}'
    made.document = decision_input(
        CALL, made.call_id, CHECKED, CALLER, FACTS, arguments=made.arguments, approval=None, now=NOON
    )
    for name, value in changes.items():
        setattr(made, name, value)
    return made


def written(record: Mapping[str, Any]) -> dict[str, Any]:
    """As it stands in the journal."""
    read: dict[str, Any] = json.loads(orjson.dumps(record))
    return read


def ended(call: Trail, **given: Any) -> dict[str, Any]:
    return written(terminal_record(call, seconds=1.5, **given))


def test_the_intent_says_who_does_what_by_which_decision_and_what_it_adds_to_the_conversation() -> None:
    """Everything that the state and a reader of the audit need, arguments masked."""
    record = written(intent_record(decided(), credential="prices"))
    expected = {
        "kind": "intent",
        "call": decided().call_id,
        "tool_call": "toolu_1",
        "dialect": "anthropic",
        "trace": PARENT.trace_id,
        "tool": "price.list",
        "version": "2",
        "digest": CHECKED.digest,
        "conversation": "conv-1",
        "number": 7,
        "system": "pricing",
        "effect": "read",
        "labels": ["confidential", "margin"],
        "untrusted": True,
        "review": None,
        "credential": "prices",
        "counters": {"calls": 1},
        "arguments": {"q": "masked"},
        "revision": SNAPSHOT.revision,
    }
    assert {key: record[key] for key in expected} == expected
    assert record["principal"] == {"id": CALLER.principal.id, "name": "Anna"}
    assert record["marks"] == ["system:pricing", "effect:read", "label:confidential", "label:margin"]
    assert record["decision"]["reasons"] == [{"policy": "grants", "code": "granted"}]
    assert missing_keys(record) == ["day"]  # which the store knows
    assert missing_keys(ended(decided())) == []


def test_the_input_is_kept_as_it_was_sent_but_for_earlier_calls() -> None:
    """They are a range of numbers."""
    call = decided()
    sent = json.loads(call.document or b"")
    sent["conversation"]["calls"] = None
    assert written(intent_record(call, credential=None))["input"] == sent


def test_an_approval_is_named_by_the_intent_that_spends_it() -> None:
    """With the person who gave it."""
    record = written(intent_record(decided(approval=YES), credential=None))
    assert (record["review"], record["approval"]) == ("r-1", {"review": "r-1", "by": "id#rita"})


@pytest.mark.parametrize("missing", ["checked", "facts"])
def test_a_call_that_skipped_a_step_has_no_intent(missing: str) -> None:
    """A fault of ours, not an execution."""
    with pytest.raises(ValueError, match="after it was checked"):
        intent_record(decided(**{missing: None}), credential=None)


def test_a_result_is_recorded_by_its_facts_and_never_itself() -> None:
    """Digest, size, rows; rows are counted."""
    result = Result(body=b'["c4n4ry"]', size=10, digest="d", rows=1, problems=("/0: must be integer",))
    record = ended(decided(committed=True), result=result)
    assert record["result"] == {
        "digest": "d",
        "size": 10,
        "rows": 1,
        "empty": False,
        "problems": ["/0: must be integer"],
    }
    assert (record["ok"], record["ran"], record["code"], record["rows"]) == (True, "yes", None, 1)
    assert record["counters"] == {"rows": 1}
    assert "c4n4ry" not in str(record)
    assert ended(decided(committed=True), result=RESULT)["counters"] == {}


def test_the_end_of_a_call_that_ran_tells_alone_by_whom_why_and_with_what_it_was_allowed() -> None:
    """Its intent may be in another file of shipped logs. What is long - input, arguments, what was said - is there only."""
    record = ended(decided(committed=True, approval=YES), result=RESULT)
    assert record["decision"] == {
        "effect": "allow",
        "guards": [],
        "reasons": [{"policy": "grants", "code": "granted"}],
        "warn": {},
        "policy": ALLOWED.revision,
    }
    assert (record["revision"], record["credential"]) == (SNAPSHOT.revision, "prices")
    assert record["approval"] == {"review": "r-1", "by": "id#rita"}
    story = "\n".join(tell(orjson.dumps({"seq": 1, "at": "2026-11-25T12:00:00Z", **record, "hash": "0" * 64}) + b"\n"))
    for what in ("Anna", "allow - grants: granted", "review r-1 by id#rita", "prices", SNAPSHOT.revision):
        assert what in story


def test_a_call_that_was_never_sent_brings_along_all_that_was_judged_of_it() -> None:
    """A committed one has that in its intent. No credential was used."""
    no = Refusal(Code.DENIED, "no", reasons=(("arguments", "over_limit"),), details={"at": 7}, review_id="r-9")
    record = ended(decided(decision=DENIED), refusal=no)
    assert record["input"]["call"]["tool"] == "price.list"
    assert record["decision"]["effect"] == "deny"
    assert record["refusal"] == {"message": "no", "reasons": [["arguments", "over_limit"]], "details": {"at": 7}}
    assert (record["ok"], record["ran"], record["code"], record["review"]) == (False, "no", "denied", "r-9")
    assert record["decision"]["said"] == DENIED.said
    assert "credential" not in record
    assert not {"input", "arguments"} & set(ended(decided(committed=True)))


def test_reasons_of_all_effects_are_recorded_also_those_that_did_not_decide() -> None:
    """A denied call was perhaps granted by another policy."""
    reasons = ended(decided(decision=DENIED), refusal=Refusal(Code.DENIED, "no"))["decision"]["reasons"]
    assert reasons == [{"policy": "arguments", "code": "over_limit"}, {"policy": "grants", "code": "granted"}]


def test_neither_handle_nor_token_nor_arguments_as_sent_are_in_a_record() -> None:
    """What the request presented is proof, not data. (The stated reason is the agent's own text.)"""
    call = decided(call=replace(CALL, reason=None))
    for record in (written(intent_record(call, credential="prices")), ended(call, result=RESULT)):
        assert SECRET not in str(record)


def test_durations_are_milliseconds_of_each_stage_and_in_all() -> None:
    """Two decisions of one call add up."""
    call = decided()
    call.took("decide", 0.25)
    assert ended(call)["durations"] == {"decide": 500.0, "total": 1500.0}


def test_an_unreadable_call_and_an_unknown_tool_are_named_as_asked_and_cut() -> None:
    """What is no tool is never in the place of one."""
    no = Refusal(Code.INVALID_CALL, "no")
    broken = UnreadableCall(id="c1", tool="x" * 1000, dialect=Dialect.NATIVE, refusal=no)
    call = trail(PARENT)
    call.call = broken
    record = ended(call, refusal=no)
    assert (record["tool"], record["conversation"], record["principal"], record["number"]) == (None, None, None, None)
    assert record["asked_tool"] == "x" * MAX_TOOL_NAME


def test_an_upgraded_call_says_what_was_asked_and_what_was_changed() -> None:
    """A call of the newest version says neither."""
    upgraded = replace(CHECKED, asked="1", changes=("renamed vendor to supplier_id",))
    record = written(intent_record(decided(checked=upgraded), credential=None))
    assert (record["version"], record["asked_version"], record["changes"]) == (
        "2",
        "1",
        ["renamed vendor to supplier_id"],
    )
    assert "asked_version" not in written(intent_record(decided(), credential=None))


def test_a_caller_that_left_and_a_call_that_resumes_another_are_marked() -> None:
    """Only then."""
    record = ended(decided(caller_gone=True, resumes="c0"))
    assert (record["caller_gone"], record["resumes"]) == (True, "c0")
    assert not {"caller_gone", "resumes"} & set(ended(decided()))


@pytest.mark.parametrize(
    ("committed", "ran", "expected"),
    [
        (False, Ran.NO, Outcome.REFUSED),
        (False, Ran.YES, Outcome.REFUSED),
        (False, Ran.UNKNOWN, Outcome.REFUSED),
        (True, Ran.NO, Outcome.REFUSED),
        (True, Ran.YES, Outcome.DONE),
        (True, Ran.UNKNOWN, Outcome.UNKNOWN),
    ],
)
def test_what_others_see_follows_from_whether_it_was_sent_and_ran(committed: bool, ran: Ran, expected: Outcome) -> None:
    """A call that was sent counts, whatever came of it."""
    assert outcome_of(Refusal(Code.TOOL_FAILED, "no", ran=ran), committed=committed) is expected


def test_a_tool_that_ran_and_failed_is_done_and_not_well() -> None:
    """A required predecessor that failed is none."""
    record = ended(decided(committed=True), refusal=Refusal(Code.TOOL_FAILED, "no"))
    assert (record["outcome"], record["ok"], record["ran"], record["code"]) == ("done", False, "yes", "tool_failed")


def test_an_abandoned_call_is_abandoned() -> None:
    """It is no refusal, so it does not count towards repeated calls."""
    assert outcome_of(Refusal(Code.ABANDONED, "gone"), committed=False) is Outcome.ABANDONED


@pytest.mark.parametrize("effect", list(ToolEffect))
def test_only_a_read_may_be_sent_before_its_intent_is_on_disk(effect: ToolEffect) -> None:
    """It waits before its result is seen instead."""
    assert durable_before_sending(effect) is (effect is not ToolEffect.READ)


def test_an_answer_carries_what_its_caller_needs() -> None:
    """Decision and revision as far as they are known."""
    answer = decided().answer(result=RESULT)
    assert (answer.call, answer.decision, answer.revision, answer.result) == (
        CALL,
        Effect.ALLOW,
        SNAPSHOT.revision,
        RESULT,
    )
    bare = trail(PARENT).answer(refusal=Refusal(Code.INVALID_CALL, "no"))
    assert (bare.decision, bare.revision, bare.trace) == (None, "", PARENT)


def test_a_reason_of_the_agents_is_a_claim_and_stands_apart() -> None:
    """Under its own key; a call without one has none."""
    silent: ToolCall = replace(CALL, reason=None)
    assert written(intent_record(decided(), credential=None))["reason"] == CALL.reason
    assert "reason" not in written(intent_record(decided(call=silent), credential=None))
    assert review().reason == CALL.reason
