"""Records of holds, and which answer a held call finds there already."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from proxy.core.conversation import Conversation
from proxy.core.hold_records import attached_record, known_answer, requested_record, resolved_record, unused
from proxy.core.hold_rules import Hold, hold_from_record
from proxy.core.reservation import new_reservation
from proxy.core.review import Review, ReviewStatus
from proxy.core.state_records import missing_keys
from tests.contracts.store_values import NOON, caller, checked, review, tool

WHO, WHAT = caller("talk"), checked(tool("get_prices", system="pricing", labels=["prices"], trusted=False))


def held(asked: Review, seq: int = 1, **changes: Any) -> Hold:
    record = {**requested_record(asked, None, Conversation(id="talk")), "seq": seq}
    hold = hold_from_record(record)
    return replace(hold, review=replace(hold.review, **changes))


def test_a_request_says_what_the_conversation_had_taken_up_the_call_s_own_included() -> None:
    own = new_reservation("call", WHO, WHAT, 3)
    record = requested_record(review("call", WHO, WHAT), own, Conversation(id="talk", marks={"label:terms": 1}))
    assert record["baseline"] == {"labels": ["prices", "terms"], "untrusted": True}
    assert (record["number"], record["system"], record["labels"]) == (3, "pricing", ["prices"])
    without = requested_record(review("call", WHO, WHAT), None, Conversation(id="talk"))
    assert (without["number"], without["baseline"]) == (None, {"labels": [], "untrusted": False})


def test_all_records_can_be_applied() -> None:
    asked = review("call", WHO, WHAT)
    for record in (
        requested_record(asked, None, Conversation(id="talk")),
        attached_record(asked.id, "other"),
        resolved_record(asked, ReviewStatus.APPROVED, "rita", None, NOON),
    ):
        assert missing_keys(record) == []


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"status": ReviewStatus.APPROVED, "by": "rita"}, "approved by rita, and not used in time"),
        ({"status": ReviewStatus.APPROVED, "by": "rita", "uses": 1}, None),
        ({}, None),
    ],
    ids=["unused", "used", "unanswered"],
)
def test_an_approval_that_was_never_used_is_told_of_at_its_end(changes: dict[str, Any], expected: str | None) -> None:
    assert unused(held(review("call", WHO, WHAT), **changes).review) == expected


def test_an_open_review_without_a_waiter_is_the_answer_and_else_a_rejection() -> None:
    first, again = review("one", WHO, WHAT), review("two", WHO, WHAT)
    open_one = held(first)
    assert known_answer([open_one], again, set(), NOON) == open_one.review
    assert known_answer([open_one], again, {first.id}, NOON) is None
    rejected = held(review("zero", WHO, WHAT), 2, status=ReviewStatus.REJECTED)
    assert known_answer([open_one, rejected], again, {first.id}, NOON) == rejected.review
    assert known_answer([rejected], again, set(), NOON + timedelta(hours=2)) is None
    assert known_answer([rejected], review("two", WHO, checked(tool("get_stock"))), set(), NOON) is None


def test_of_two_rejections_the_newer_answers_whatever_the_order_they_come_in() -> None:
    old = held(review("zero", WHO, WHAT), 1, status=ReviewStatus.REJECTED, comment="old")
    new = held(review("one", WHO, WHAT), 2, status=ReviewStatus.REJECTED, comment="new")
    for holds in ([old, new], [new, old]):
        found = known_answer(holds, review("two", WHO, WHAT), set(), NOON)
        assert found is not None
        assert found.comment == "new"
