"""What is found by indexes is what a look at all reviews would find, whatever has happened to them."""

from dataclasses import replace
from datetime import datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from proxy.core.hold_rules import MAX_AGE, Hold, Waiting, deadline
from proxy.core.holds import CONCLUDED_REVIEWS, Holds
from proxy.core.registry import workload
from proxy.core.review import Review, ReviewStatus
from tests.contracts.store_values import AGENT, NOON, caller, checked, review, tool

WHAT = checked(tool("get_prices"))
NAMES = ("a", "b", "c")
STEP = timedelta(minutes=3)


def hold(
    number: int, *, talk: str = "talk", user: str = "anna", account: str = "a", minutes: int = 10, at: datetime = NOON
) -> Hold:
    """A pending review; its id tells its number, and each comes from another pod of its agent."""
    who = replace(caller(talk), agent=replace(AGENT, service_account=account, pod=f"pod-{number}"))
    who = replace(who, principal=replace(who.principal, subject=user))
    end = NOON + timedelta(minutes=minutes)
    asked = review(f"call-{number}", who, WHAT, id=f"r-{number}", requested_at=at, expires_at=end)
    return Hold(
        review=asked,
        number=number,
        system="stock",
        effect="read",
        labels=(),
        baseline_labels=frozenset(),
        baseline_untrusted=False,
        requested_seq=number,
    )


def concluded(one: Hold, status: ReviewStatus = ReviewStatus.REJECTED) -> Hold:
    return replace(one, review=replace(one.review, status=status), concluded_seq=one.requested_seq + 1000)


def approved(one: Hold, at: datetime) -> Hold:
    """For the conversation, which moves its deadline."""
    given_for = replace(one.review, status=ReviewStatus.APPROVED, scope="conversation", by="rita", resolved_at=at)
    return replace(one, review=given_for)


def counted(open_holds: list[Hold], asked: list[Review], wanted: Review) -> Waiting:
    """By looking at all."""
    own = workload(wanted.agent)
    new = [review for review in asked if review.requested_at > wanted.requested_at - timedelta(hours=1)]
    return Waiting(
        sum(h.review.conversation == wanted.conversation for h in open_holds),
        sum(h.review.principal.id == wanted.principal.id for h in open_holds),
        sum(workload(h.review.agent) == own for h in open_holds),
        len(open_holds),
        sum(review.principal.id == wanted.principal.id for review in new),
        sum(workload(review.agent) == own for review in new),
    )


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["ask", "approve", "end", "attach", "forget"]),
        st.integers(0, 7),
        st.sampled_from(NAMES),
        st.sampled_from(NAMES),
        st.integers(0, 40),
    ),
    max_size=40,
)


@given(STEPS, st.integers(0, 45))
def test_indexes_say_what_a_look_at_all_would(steps: list[tuple[str, int, str, str, int]], minutes: int) -> None:
    known, asked = Holds(), list[Review]()
    for step, number, talk, user, minute in steps:
        name = f"r-{number}"
        before = known.all.get(name)
        if step == "ask" and before is None:
            one = hold(number, talk=talk, user=user, account=user + talk, minutes=minute, at=NOON + minute * STEP)
            known.take(one)
            asked.append(one.review)
        elif before is None:
            continue
        elif step == "forget":
            assert known.forget(name) is before
        elif step == "attach":
            known.take(replace(before, attached=(*before.attached, f"later-{minute}-{number}")))
        elif before.review.status.open:
            at = NOON + timedelta(minutes=minute)
            known.take(approved(before, at) if step == "approve" else concluded(before))
    open_holds = [h for h in known.all.values() if h.review.status.open]
    assert known.open() == open_holds
    for talk in NAMES:
        wanted = hold(99, talk=talk, user="b", account=f"b{talk}", at=NOON + 40 * STEP).review
        assert known.waiting(wanted) == counted(open_holds, asked, wanted)
        assert known.of_conversation(talk) == [h for h in known.all.values() if h.review.conversation == talk]
        assert known.open(talk) == [h for h in open_holds if h.review.conversation == talk]
    for one in known.all.values():
        assert all(known.of_call(call) == one for call in (one.review.call_id, *one.attached))
    now = NOON + timedelta(minutes=minutes)
    late = [h for h in open_holds if deadline(h.review) <= now]
    for _ in range(2):
        assert sorted(known.due(now), key=lambda h: h.review.id) == sorted(late, key=lambda h: h.review.id)


def test_a_deadline_that_comes_nearer_counts() -> None:
    """An approval for a conversation ends before its review would have."""
    known, first = Holds(), hold(1, minutes=60)
    known.take(first)
    known.take(approved(first, NOON))
    assert known.due(NOON + MAX_AGE - timedelta(seconds=1)) == []
    assert known.due(NOON + MAX_AGE) == [known.all["r-1"]]


def test_what_could_not_be_ended_is_due_again() -> None:
    known = Holds()
    known.take(hold(1, minutes=1))
    later = NOON + timedelta(minutes=2)
    assert known.due(later) == known.due(later) == [known.all["r-1"]]
    known.take(concluded(known.all["r-1"], ReviewStatus.EXPIRED))
    assert known.due(later) == []


def test_the_first_concluded_are_forgotten_and_said() -> None:
    known = Holds()
    for number in range(CONCLUDED_REVIEWS):
        assert known.take(concluded(hold(number))) == []
    (gone,) = known.take(concluded(hold(CONCLUDED_REVIEWS)))
    assert gone.review.id == "r-0"
    assert len(known.all) == len(known.by_call) == len(known.by_conversation["talk"]) == CONCLUDED_REVIEWS
    for name in list(known.all):
        known.forget(name)
    assert (known.all, known.by_call, known.by_conversation, known.concluded) == ({}, {}, {}, {})


def test_whatever_came_in_any_order_is_arranged() -> None:
    known = Holds()
    for number in (3, 1, 2):
        known.take(concluded(hold(number)))
    known.take(hold(0))
    known.arrange()
    assert list(known.all) == ["r-0", "r-1", "r-2", "r-3"]
    assert list(known.concluded) == ["r-1", "r-2", "r-3"]


def test_what_counts_is_gone_with_the_last_that_is_open() -> None:
    """Memory does not grow with names that were once there."""
    known = Holds()
    known.take(hold(1))
    known.take(concluded(hold(1)))
    assert not known._open
    known.waiting(hold(2, at=NOON + timedelta(hours=1)).review)
    assert not known._asked
    assert not known._asked_at
