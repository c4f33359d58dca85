"""One conversation as a fold."""

from datetime import timedelta

import orjson
import pytest

from proxy.core.conversation import (
    KEPT_CALLS,
    KEPT_FAILURES,
    Conversation,
    conversation_from_json,
    conversation_to_json,
    counts_as_failure,
    ended_as,
    take_back,
)
from proxy.earlier import Outcome
from proxy.errors import Code
from proxy.model import Facts
from tests.contracts.store_values import NOON, NOTHING, caller, checked, intent, registered, tool


def begun(conversation: Conversation, number: int) -> None:
    facts = Facts(seq=number, history=NOTHING)
    conversation.begin(intent(f"call-{number}", caller("talk"), checked(tool("get_stock")), facts))


def test_the_last_fifty_calls_are_kept_by_number_and_all_are_counted() -> None:
    conversation = Conversation(id="talk")
    for number in [*range(2, KEPT_CALLS + 11), 1]:
        begun(conversation, number)
    assert [call.seq for call in conversation.calls] == list(range(11, KEPT_CALLS + 11))
    assert conversation.total == conversation.tools["get_stock"][0] == KEPT_CALLS + 10


def test_failures_are_remembered_for_a_bounded_number_of_calls() -> None:
    conversation = Conversation(id="talk")
    for number in range(KEPT_FAILURES + 1):
        conversation.answered(f"digest-{number}", Code.DENIED, ok=False)
    conversation.answered("digest-1", Code.DENIED, ok=False)
    assert len(conversation.failures) == KEPT_FAILURES
    assert "digest-0" not in conversation.failures
    assert conversation.failures["digest-1"] == 2
    conversation.answered(None, Code.INVALID_JSON, ok=False)
    assert None not in conversation.failures


def test_holds_of_the_last_hour_are_counted_and_older_ones_forgotten() -> None:
    conversation = Conversation(id="talk")
    for minutes in (0, 30, 60, 89):
        conversation.held(None, NOON + timedelta(minutes=minutes))
    assert conversation.holds == [NOON + timedelta(minutes=minutes) for minutes in (30, 60, 89)]


@pytest.mark.parametrize(
    ("outcome", "code", "ran", "seen"),
    [
        ("done", None, None, Outcome.DONE),
        ("done", Code.TOOL_FAILED, None, Outcome.DONE),
        ("unknown", Code.OUTCOME_UNKNOWN, None, Outcome.UNKNOWN),
        ("refused", Code.TOOL_UNREACHABLE, None, Outcome.REFUSED),
        ("refused", Code.TOOL_FAILED, None, Outcome.DONE),
        ("refused", Code.TOOL_TIMEOUT, None, Outcome.UNKNOWN),
        ("refused", Code.TOOL_UNREACHABLE, "unknown", Outcome.UNKNOWN),
        ("refused", Code.TOOL_TIMEOUT, "no", Outcome.REFUSED),
        ("abandoned", Code.ABANDONED, "yes", Outcome.DONE),
        ("refused", None, None, Outcome.UNKNOWN),
        ("refused", "a_code_of_tomorrow", None, Outcome.UNKNOWN),
    ],
)
def test_a_committed_call_vanishes_only_if_nothing_was_sent(
    outcome: str, code: str | None, ran: str | None, seen: Outcome
) -> None:
    assert ended_as({"outcome": outcome, "code": code, "ran": ran}) is seen


@pytest.mark.parametrize("code", [None, Code.DENIED, Code.INVALID_ARGUMENTS, Code.TOOL_FAILED, "a_code_of_tomorrow"])
def test_what_will_not_change_by_waiting_counts_as_a_failure(code: str | None) -> None:
    assert counts_as_failure(code)


def test_counters_are_given_back_and_never_fall_below_nothing() -> None:
    counters = {"calls": 2, "rows": 5, "money": 1}
    take_back(counters, {"calls": 1, "rows": 5, "money": 9, "other": 1})
    assert counters == {"calls": 1}


def test_a_conversation_comes_back_from_its_row() -> None:
    conversation = Conversation(id="talk", untrusted=True, rejections=2)
    conversation.register(registered("talk"))
    begun(conversation, 4)
    conversation.held(5, NOON)
    conversation.answered("digest", Code.DENIED, ok=False)
    conversation.handed = 9
    assert conversation_from_json(orjson.loads(orjson.dumps(conversation_to_json(conversation)))) == conversation


def test_quoted_text_makes_a_conversation_untrusted_for_good() -> None:
    """What somebody pasted may be anybody's words (design section 7)."""
    conversation = Conversation(id="talk")
    conversation.register(registered("talk"))
    assert not conversation.untrusted
    conversation.register(registered("talk", quoted=True))
    conversation.register(registered("talk"))
    assert conversation.untrusted
