"""Records told to people."""

import json
from typing import Any

import orjson
import pytest

from proxy.core.chain import GENESIS, seal_line
from proxy.core.story import Selection, ascii_json, headline, tell
from proxy.core.story_facts import codes

PRINCIPAL = {"id": "https://idp#jane", "name": "Jane Doe"}
HELD = {
    "id": "r1",
    "call_id": "c2",
    "conversation": "k1",
    "tool": "get_price",
    "trace_id": "t2",
    "principal": PRINCIPAL,
}


def line(**record: Any) -> bytes:
    return seal_line(GENESIS, orjson.dumps({"seq": 7, "at": "2027-01-15T08:00:00.123456Z", **record}))[0]


def told(**record: Any) -> str:
    return "\n".join(tell(line(**record)))


def test_an_intent_tells_who_what_why_and_on_which_decision() -> None:
    text = told(
        kind="intent",
        call="c1",
        tool="get_stock",
        version="2",
        principal=PRINCIPAL,
        agent={"namespace": "shop", "service_account": "buyer", "pod": None},
        arguments=orjson.Fragment(b'{"amount":1.10,"big":18446744073709551617}'),
        reason="the user asked",
        decision={"effect": "allow", "reasons": [{"policy": "grants", "code": "role_grant"}]},
        approval={"review": "r1", "by": "bob"},
        credential="stock-read",
        revision="rev9",
        digest="d1",
        trace="t1",
    )
    assert text.startswith("2027-01-15 08:00:00.123Z  call c1: get_stock v2 is allowed and will run\n")
    for part in (
        "Jane Doe (https://idp#jane)",
        "shop/buyer",
        '{"amount":1.10,"big":18446744073709551617}',  # as written, not as a double
        "the user asked",
        "allow - grants: role_grant",
        "review r1 by bob",
        "stock-read",
        "rev9",
        "d1",
        "t1",
    ):
        assert part in text


def test_a_terminal_tells_outcome_whether_it_ran_result_and_time() -> None:
    result = {"digest": "d2", "size": 120, "rows": 3, "empty": False}
    text = told(kind="terminal", call="c1", tool="get_stock", outcome="done", result=result, durations={"total": 35.2})
    assert "call c1: get_stock done" in text
    assert "120 bytes, 3 rows, sha256 d2" in text
    assert "total 35.2 ms" in text
    refused = told(kind="terminal", asked_tool="get_stok", outcome="refused", code="unknown_tool", ran="no")
    assert "get_stok refused: unknown_tool, it did not run" in refused
    crashed = told(kind="terminal", call="c1", outcome="unknown", code="outcome_unknown", ran="unknown", recovered=True)
    assert "whether it ran is unknown (said at the next start, after a crash)" in crashed


@pytest.mark.parametrize(
    ("record", "sentence"),
    [
        (
            {"kind": "registered", "conversation": "k1", "registration": "claimed", "expires_at": "2027"},
            "conversation k1 registered (claimed), valid until 2027",
        ),
        ({"kind": "review_requested", "review": HELD}, "call c2: get_price is held for a person: review r1"),
        (
            {"kind": "review_resolved", "review": "r1", "status": "approved", "by": "bob", "comment": "fine"},
            "review r1 approved by bob: fine",
        ),
        (
            {"kind": "stop", "scope": "tool", "name": "mail", "standing": True, "by": "ops"},
            "stop thrown over tool mail by ops",
        ),
        ({"kind": "stop", "scope": "all", "name": "", "standing": False}, "stop lifted over all"),
        ({"kind": "reload", "revision": "rev2"}, "catalog and policy revision rev2 in force"),
        (
            {"kind": "gap", "lost": {"intent": 3}, "since": "a", "until": "b"},
            "GAP: not written between a and b: 3 intent",
        ),
        ({"kind": "seal", "segment": "s", "offset": 5, "length": 9}, "sealed: 9 torn bytes at byte 5 of s"),
        ({"kind": "segment", "chain": "pod", "reason": "size"}, "journal of pod goes on in a new segment (size)"),
        ({"kind": "novelty"}, "novelty"),
    ],
)
def test_every_kind_has_its_sentence(record: dict[str, Any], sentence: str) -> None:
    assert sentence in told(**record)


@pytest.mark.parametrize(
    "kind",
    [
        "intent",
        "terminal",
        "registered",
        "review_requested",
        "review_resolved",
        "stop",
        "reload",
        "gap",
        "seal",
        "segment",
    ],
)
@pytest.mark.parametrize("junk", [None, 5, "x", [], {}, [{}], {"a": [1]}])
def test_absent_and_odd_fields_are_borne(kind: str, junk: Any) -> None:
    keys = (
        "call",
        "tool",
        "principal",
        "agent",
        "arguments",
        "decision",
        "approval",
        "result",
        "review",
        "durations",
        "refusal",
        "lost",
    )
    assert tell(line(kind=kind))
    assert tell(line(kind=kind, **dict.fromkeys(keys, junk), reason=junk, reasons=junk, code=junk))
    codes({"kind": kind, "decision": junk, "reasons": junk, "code": junk})


def test_an_unreadable_line_says_so() -> None:
    assert tell(b"\0\0\0") == ["(an unreadable line)"]


EVIL = "a\x1b[31m\r\n\x9b2J\u202egnp\u200b\U000e0041\x7f"


def test_no_field_can_control_the_terminal() -> None:
    keys = [
        "call",
        "tool",
        "version",
        "agent",
        "reason",
        "code",
        "outcome",
        "credential",
        "revision",
        "digest",
        "trace",
        "ran",
        "by",
        "comment",
        "status",
        "scope",
        "name",
        "conversation",
        "registration",
        "expires_at",
        "segment",
        "chain",
    ]
    every = dict.fromkeys(keys, EVIL) | {
        "principal": {"id": EVIL, "name": EVIL},
        "agent": {"pod": EVIL},
        "arguments": {EVIL: EVIL},
        "decision": {"effect": EVIL, "reasons": [{"policy": EVIL, "code": EVIL}]},
        "approval": {"review": EVIL, "by": EVIL},
        "durations": {EVIL: EVIL},
        "result": {"size": EVIL, "rows": EVIL, "digest": EVIL},
        "refusal": {"message": EVIL},
        "review": EVIL,
        "lost": {EVIL: EVIL},
    }
    for kind in (
        "intent",
        "terminal",
        "registered",
        "review_requested",
        "review_resolved",
        "stop",
        "gap",
        "seal",
        "segment",
        EVIL,
    ):
        raw = line(**{**every, "kind": kind})
        for text in (*tell(raw), headline(raw), ascii_json(raw)):
            assert text.isprintable(), (kind, text)
        assert json.loads(ascii_json(raw)) == orjson.loads(raw)


def test_a_story_has_the_records_of_its_conversation_trace_or_call_and_their_reviews() -> None:
    records: list[dict[str, Any]] = [
        {"kind": "gap"},
        {"kind": "intent", "call": "c1", "conversation": "k1", "trace": "t1"},
        {"kind": "review_requested", "review": HELD},
        {"kind": "gap"},
        {"kind": "intent", "call": "c9", "conversation": "k2", "trace": "t9"},
        {"kind": "review_resolved", "review": "r1"},
        {"kind": "review_resolved", "review": "r2"},
        {"kind": "intent", "call": "c3", "conversation": "k1", "trace": "t3", "resumes": "c2", "review": "r1"},
    ]

    def chosen(name: str) -> list[int]:
        selection = Selection(name)
        return [index for index, record in enumerate(records) if selection.takes(record)]

    assert chosen("k1") == [1, 2, 3, 5, 7]
    assert chosen("c2") == [2, 3, 5, 7]
    assert chosen("t2") == [2, 3, 5, 7]
    assert chosen("r1") == [2, 3, 5, 7]
    assert chosen("c1") == [1, 3]
    assert chosen("t9") == [4]
    assert chosen("nobody") == []
