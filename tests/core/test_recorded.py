"""Recorded decisions, and OPA's input rebuilt: what was asked then, or a sentence why that cannot be known."""

import json
from collections.abc import Mapping
from typing import Any

import pytest

from proxy.core.chain import GENESIS, seal_line
from proxy.core.recorded import NOT_ASKED, Judged, Recorded

TOOL = {"name": "t", "system": "s", "effect": "read", "labels": ["l"]}


def at(second: int) -> str:
    return f"2026-11-25T10:00:{second:02}.000000Z"


def line(seq: int, record: Mapping[str, Any], **exact: bytes) -> bytes:
    """A journal line; `exact` are values written as they are."""
    body = json.dumps({"seq": seq, "at": at(seq), **record}, separators=(",", ":")).encode()
    for name, value in exact.items():
        body = body.replace(f'"{name}":null'.encode(), f'"{name}":'.encode() + value)
    return seal_line(GENESIS, body)[0]


def document(now: int, calls: Any, digest: str = "own") -> dict[str, Any]:
    return {
        "conversation": {"id": "k", "calls": calls},
        "call": {"digest": digest, "arguments": {"amount": None}},
        "tool": TOOL,
        "environment": {"now": at(now)},
    }


def intent(call: str, number: int, **more: Any) -> dict[str, Any]:
    facts = {"tool": "t", "system": "s", "effect": "read", "labels": ["l"]}
    return {"kind": "intent", "call": call, "conversation": "k", "number": number, "review": None, **facts, **more}


def terminal(call: str, number: int | None, outcome: str, **more: Any) -> dict[str, Any]:
    given = {"outcome": outcome, "code": None if outcome == "done" else "tool_failed", "ran": "yes"}
    return {"kind": "terminal", "call": call, "conversation": "k", "number": number, **given, **more}


def requested(call: str, number: int, digest: str = "h") -> dict[str, Any]:
    review = {
        "id": f"r-{call}",
        "call_id": call,
        "conversation": "k",
        "tool": "t",
        "digest": digest,
        "expires_at": at(50),
    }
    return {
        "kind": "review_requested",
        "review": review,
        "number": number,
        "system": "s",
        "effect": "read",
        "labels": ["l"],
    }


def shown(seq: int, outcome: str) -> dict[str, Any]:
    return {"seq": seq, "tool": "t", "system": "s", "effect": "read", "labels": ["l"], "outcome": outcome}


def judged(records: list[dict[str, Any]], name: str = "own", **exact: bytes) -> Judged:
    recorded = Recorded(lambda record: record["call"] == name)
    for seq, record in enumerate(records, 1):
        recorded.take(
            line(seq, record, **(exact if record["call"] == name else {})) if "call" in record else line(seq, record)
        )
    (found,) = recorded.judged()
    return found


def span(first: int, last: int, count: int, *held: int) -> dict[str, Any]:
    return {"first": first, "last": last, "count": count, **({"held": list(held)} if held else {})}


def calls(found: Judged) -> Any:
    assert found.document is not None, found.gap
    return json.loads(found.document)["conversation"]["calls"]


def own(now: int, number: int, told: Any) -> dict[str, Any]:
    return terminal("own", number, "refused", code="denied", ran="no", input=document(now, told))


def test_numbers_are_those_that_were_sent() -> None:
    """A double would be another amount."""
    found = judged([own(1, 1, None)], amount=b"12345678901234567890.10")
    assert found.document is not None
    assert b'"amount":12345678901234567890.10' in found.document
    assert calls(found) == []


@pytest.mark.parametrize(
    ("records", "expected"),
    [
        ([intent("a", 1), terminal("a", 1, "done")], [shown(1, "done")]),
        ([intent("a", 1), terminal("a", 1, "unknown")], [shown(1, "unknown")]),
        ([intent("a", 1)], [shown(1, "executing")]),
        ([intent("a", 1), terminal("a", 1, "refused", code="tool_unreachable", ran="no")], []),
        ([terminal("a", 1, "refused", code="denied", ran="no", input=document(1, None))], []),
        ([requested("a", 1)], [shown(1, "held")]),
        ([requested("a", 1), terminal("a", 1, "refused", code="review_pending", ran="no")], [shown(1, "held")]),
        ([requested("a", 1, "own")], []),
        ([requested("a", 1), {"kind": "review_resolved", "review": "r-a", "status": "rejected"}], []),
        ([requested("a", 1), {"kind": "review_resolved", "review": "r-a", "status": "approved"}], [shown(1, "held")]),
        ([requested("a", 1), intent("b", 2, review="r-a")], [shown(2, "executing")]),
    ],
    ids=[
        *("done", "unknown", "executing", "nothing sent", "denied", "held", "held and answered so"),
        *("held and the same", "rejected", "approved", "spent"),
    ],
)
def test_earlier_calls_are_as_the_call_saw_them(records: list[dict[str, Any]], expected: list[Any]) -> None:
    found = judged([*records, own(40, 3, span(1, 2, len(expected)))])
    assert calls(found) == expected


@pytest.mark.parametrize(
    "later",
    [
        [intent("a", 1), terminal("a", 1, "done")],
        [terminal("a", 1, "refused", code="denied", ran="no", input=document(30, None))],
        [requested("a", 1)],
    ],
    ids=["committed", "refused", "held"],
)
def test_a_call_that_was_still_being_decided_was_seen_as_executing(later: list[dict[str, Any]]) -> None:
    """Its own record came after, and says what it was."""
    assert calls(judged([own(1, 2, span(1, 1, 1)), *later])) == [shown(1, "executing")]


def test_a_hold_whose_time_was_up_was_not_seen_any_more() -> None:
    """Also before a record says so."""
    assert calls(judged([requested("a", 1), own(55, 2, span(1, 1, 0))])) == []
    assert calls(judged([requested("a", 1), own(45, 2, span(1, 1, 1))])) == [shown(1, "held")]


def test_holds_before_the_range_are_named_one_by_one() -> None:
    records = [requested("a", 1), intent("b", 2), intent("c", 3)]
    assert calls(judged([*records, own(40, 4, span(3, 3, 2, 1))])) == [shown(1, "held"), shown(3, "executing")]


def test_a_missing_record_is_a_gap_and_never_a_document() -> None:
    found = judged([intent("b", 2), own(40, 3, span(1, 2, 2))])
    assert found.document is None
    assert found.gap.startswith("1 of 2 earlier calls")


def test_records_of_two_states_are_not_taken_for_one() -> None:
    """Two pods, each with a store of its own, may know conversations of one id."""
    found = judged([intent("a", 1), intent("x", 1), own(40, 2, span(1, 1, 1))])
    assert found.document is None
    assert "several sidecars" in found.gap


def test_a_line_that_was_shipped_twice_counts_once() -> None:
    records = [intent("a", 1), intent("a", 1), terminal("a", 1, "done"), terminal("a", 1, "done")]
    assert calls(judged([*records, own(40, 2, span(1, 1, 1))])) == [shown(1, "done")]


def test_how_a_call_was_judged_stands_in_its_intent_if_it_has_one() -> None:
    decision = {"effect": "allow", "reasons": [{"policy": "grants", "code": "granted"}]}
    records = [intent("own", 1, input=document(1, None), decision=decision), terminal("own", 1, "done")]
    found = judged(records)
    assert (found.record["kind"], found.effect) == ("intent", "allow")
    assert found.codes == frozenset({("grants", "granted")})
    assert judged(records[::-1]).record["kind"] == "intent"
    assert found.code == ""
    assert judged([records[0], terminal("own", 1, "done", code="tool_failed")]).code == "tool_failed"


def test_what_has_no_input_says_why() -> None:
    """Nobody asked policy, or the record that has it is not there."""
    asked = judged([terminal("own", None, "refused", code="unknown_tool", ran="no")])
    assert (asked.document, asked.gap, asked.effect, asked.codes) == (None, NOT_ASKED, "", frozenset())
    assert "intent" in judged([terminal("own", 1, "done")]).gap
    unsent = terminal(
        "own", 1, "refused", code="tool_unreachable", ran="no", decision={"effect": "allow", "reasons": []}
    )
    assert "intent" in judged([unsent]).gap
    short = terminal(
        "own", 1, "refused", code="denied", ran="no", shortened=True, decision={"effect": "deny", "reasons": []}
    )
    assert (judged([short]).effect, "one of many" in judged([short]).gap) == ("deny", True)


@pytest.mark.parametrize(
    "odd",
    [
        b"not json",
        line(1, {"kind": "intent"}),
        line(1, {"kind": "intent", "call": "a", "conversation": "k", "number": 1}),
        line(1, {"kind": "terminal", "call": "a", "outcome": "odd"}),
        line(1, {"kind": "review_requested", "number": 1, "review": "r"}),
        line(1, {"kind": "segment"}),
    ],
)
def test_what_is_no_record_of_ours_is_passed_over(odd: bytes) -> None:
    recorded = Recorded(lambda _: True)
    recorded.take(odd)
    assert list(recorded.judged()) == []


def test_arguments_nested_too_deep_to_be_read_strictly_are_read_plainly() -> None:
    found = judged([own(1, 1, None)], amount=b"[" * 62 + b"12345678901234567890123" + b"]" * 62)
    assert found.document is not None
    assert b"12345678901234567890123" in found.document
