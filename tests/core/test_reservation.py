"""Facts below a number: what others have reserved counts, what is one's own does not."""

from hypothesis import given
from hypothesis import strategies as st

from proxy.core.conversation import Conversation
from proxy.core.reservation import Reservation, facts_below, new_reservation
from proxy.earlier import Outcome
from proxy.model import ToolCount
from tests.contracts.store_values import caller, checked, registered, tool
from tests.core.test_hold_rules import approved

STOCK = tool("get_stock", labels=["quantities"])
MAIL = tool("read_mail", system="mail", trusted=False)


def reserved(number: int, found: object = STOCK, digest: str | None = None) -> Reservation:
    what = checked(STOCK if found is STOCK else MAIL, digest)
    return new_reservation(f"call-{number}", caller("talk"), what, number)


def talk() -> Conversation:
    conversation = Conversation(id="talk")
    conversation.register(registered("talk"))
    return conversation


@given(bringing=st.lists(st.booleans(), max_size=30))
def test_every_lower_reservation_counts_as_a_call_that_executes(bringing: list[bool]) -> None:
    lower = [reserved(number, MAIL if mail else STOCK) for number, mail in enumerate(bringing, 1)]
    own = reserved(len(lower) + 1)
    history = facts_below(own, talk(), lower=lower, holds=[], today={"rows": 1}, reserved_today=len(lower)).history
    assert history.untrusted_read == any(bringing)
    assert history.tools == {
        name: ToolCount(started=count)
        for name, count in (("read_mail", sum(bringing)), ("get_stock", len(bringing) - sum(bringing)))
        if count
    }
    assert history.counters.get("calls", 0) == history.principal_counters.get("calls", 0) == len(lower)
    assert history.principal_counters["rows"] == 1
    assert all(call.outcome is Outcome.EXECUTING for call in history.calls)
    assert [call.seq for call in history.calls] == [r.number for r in lower][-20:]
    assert history.calls_complete == (len(lower) <= 20)
    assert all(history.marks[mark] == min(r.number for r in lower if mark in r.marks) for mark in history.marks)


def test_facts_are_a_copy_that_later_calls_do_not_change() -> None:
    conversation = talk()
    facts = facts_below(reserved(2), conversation, lower=[reserved(1)], holds=[], today={}, reserved_today=1)
    assert conversation.marks == {}
    assert conversation.tools == {}
    assert conversation.counters == {}
    assert facts.history.marks != {}


def test_holds_of_others_are_seen_and_those_of_ones_own_digest_or_taken_up_again_are_not() -> None:
    hold = approved()
    seen = facts_below(reserved(5), talk(), lower=[], holds=[hold], today={}, reserved_today=0)
    assert [(call.seq, call.outcome) for call in seen.history.calls] == [(1, Outcome.HELD)]
    own = reserved(5, digest=hold.review.digest)
    assert facts_below(own, talk(), lower=[], holds=[hold], today={}, reserved_today=0).history.calls == ()
    again = reserved(4, digest=hold.review.digest)
    seen = facts_below(reserved(5), talk(), lower=[again], holds=[hold], today={}, reserved_today=1)
    assert [(call.seq, call.outcome) for call in seen.history.calls] == [(4, Outcome.EXECUTING)]


def test_who_is_not_registered_is_never_clean() -> None:
    facts = facts_below(reserved(1), Conversation(id="odd"), lower=[], holds=[], today={}, reserved_today=0)
    assert (facts.history.complete, facts.history.untrusted_read, facts.history.calls_complete) == (False, True, False)
