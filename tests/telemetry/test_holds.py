"""Held calls in the story: requested, answered by whomever, linked; also when nobody waits."""

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from proxy.core.hold_records import VOID
from proxy.core.review import Review, ReviewStatus
from proxy.core.trail import Trail
from proxy.errors import Code, Refusal
from proxy.model import (
    Presented,
)
from proxy.ports import Reviews
from proxy.telemetry import names
from proxy.telemetry.attributes import of_call, of_review
from proxy.telemetry.logs import JsonFormatter
from tests.telemetry.exposition import parse
from tests.telemetry.samples import (
    CALL,
    HELD,
    NOW,
    PARENT,
    SECRET,
    UNSAMPLED,
    review,
    trail,
)
from tests.telemetry.watched import Watched


def test_a_held_call_is_seen_while_it_waits() -> None:
    """A span that ends at once, then one for the answer, linked to it, both below the call."""
    watched = Watched(OTEL_TRACES_SAMPLER="always_off")
    span = watched.telemetry.begin(CALL, Presented(trace=UNSAMPLED))
    known = trail(span.context, decision=HELD)
    watched.telemetry.held(known, review())
    (requested,) = watched.memory.spans()
    watched.telemetry.resolved(known, review(ReviewStatus.APPROVED))
    resolved = watched.memory.spans()[1]
    assert (requested.name, resolved.name) == ("review requested", "review resolved")
    assert {requested.parent_id, resolved.parent_id} == {span.context.span_id}
    assert [link.span_id for link in resolved.links] == [requested.span_id]
    assert (requested.links, requested.kind) == ((), "internal")
    assert requested.attributes == of_call(known) | of_review(review())
    assert requested.attributes[names.DECISION] == "review"
    assert resolved.attributes[names.REVIEW_STATUS] == "approved"


def test_a_call_that_comes_again_is_linked_to_the_first_request() -> None:
    """It attaches to the same review, in another trace; one that finds it answered requests nothing."""
    watched = Watched()
    first, second = trail(PARENT, decision=HELD), trail(UNSAMPLED, decision=HELD)
    watched.telemetry.held(first, review())
    watched.telemetry.held(second, review())
    watched.telemetry.held(second, review(ReviewStatus.APPROVED))
    watched.telemetry.resolved(second, review(ReviewStatus.APPROVED))
    requested, again, resolved = watched.memory.spans()
    assert [[link.span_id for link in span.links] for span in (again, resolved)] == [[requested.span_id]] * 2


def held(watched: Watched) -> Trail:
    """A call that waits for a person."""
    known = trail(watched.telemetry.begin(CALL, Presented(trace=PARENT)).context, decision=HELD)
    watched.telemetry.held(known, review())
    return known


def test_an_answer_is_told_in_the_trace_of_the_held_call_when_it_is_given() -> None:
    """By the review port, though no call waits for it; linked to the request."""
    watched = Watched()
    known = held(watched)
    watched.telemetry.answered(review(ReviewStatus.APPROVED, by="boris", after=timedelta(seconds=90)))
    requested, resolved = watched.memory.spans()
    assert (resolved.name, resolved.parent_id, resolved.trace_id) == (
        "review resolved",
        known.trace.span_id,
        known.trace.trace_id,
    )
    assert [link.span_id for link in resolved.links] == [requested.span_id]
    said = resolved.attributes
    assert (said[names.REVIEW_BY], said[names.REVIEW_SECONDS]) == ("boris", 90.0)
    assert (said[names.DECISION_ID], said[names.TOOL_NAME]) == (known.call_id, "price.list")


@pytest.mark.parametrize("first", ["the review port", "the call that waits"])
def test_the_held_call_is_told_once(first: str) -> None:
    """Whoever learns of it first."""
    watched = Watched()
    known = held(watched)
    answer = review(ReviewStatus.REJECTED)
    if first == "the review port":
        watched.telemetry.answered(answer)
    watched.telemetry.resolved(known, answer)
    watched.telemetry.answered(answer)
    assert [span.name for span in watched.memory.spans()] == ["review requested", "review resolved"]


def test_an_answer_to_another_processs_review_is_told_without_a_link() -> None:
    """A desk knows the trace from the record, not the spans in it."""
    watched = Watched()
    watched.telemetry.answered(review(ReviewStatus.APPROVED))
    (resolved,) = watched.memory.spans()
    assert (resolved.trace_id, resolved.parent_id, resolved.links) == (PARENT.trace_id, "", ())


class Known:
    """As much of port Reviews as a watch asks for: reviews as they stand, by id."""

    def __init__(self, *reviews: Review) -> None:
        self.reviews = reviews
        self.asked = 0

    async def request(self, review: Review) -> Review:
        """Not asked."""
        raise NotImplementedError

    async def outcome(self, review_id: str, seconds: float, *, live: bool = True) -> Review:
        """Not asked."""
        raise NotImplementedError

    async def resolve(self, review_id: str, status: ReviewStatus, by: str, comment: str | None) -> Review:
        """Not asked."""
        raise NotImplementedError

    async def find(self, *, review_id: str | None = None, call_id: str | None = None) -> Sequence[Review]:
        """Those with that id."""
        self.asked += 1
        return [review for review in self.reviews if review.id == review_id]


async def looks(watched: Watched, reviews: Reviews, times: int) -> None:
    """So many looks of the watch, a second apart."""
    watch = asyncio.create_task(watched.telemetry.holds.watch(reviews, 1.0))
    before = len(watched.clock.slept)
    async with asyncio.timeout(5):
        while len(watched.clock.slept) <= before + times:  # noqa: ASYNC110 - the clock steps by itself
            await asyncio.sleep(0)
    watch.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await watch


async def test_an_expiry_is_told_though_nobody_is_there() -> None:
    """Once, and the store is asked only when one is due."""
    watched = Watched()
    watched.clock.seconds = NOW.timestamp() - 10
    held(watched)
    reviews = Known(review(ReviewStatus.EXPIRED, by="sidegate", after=timedelta(0)))
    await looks(watched, reviews, 5)
    assert reviews.asked == 0
    await looks(watched, reviews, 10)
    assert reviews.asked == 1
    assert [span.name for span in watched.memory.spans()] == ["review requested", "review resolved"]
    assert watched.memory.spans()[1].attributes[names.REVIEW_STATUS] == "expired"


async def test_an_approval_that_was_not_used_in_time_is_told_as_expired_too() -> None:
    """First the yes, then that nothing came of it; one that was used is done."""
    for status, told in ((ReviewStatus.EXPIRED, ["approved", "expired"]), (ReviewStatus.SPENT, ["approved"])):
        watched = Watched()
        watched.clock.seconds = NOW.timestamp() - 3
        held(watched)
        watched.telemetry.answered(review(ReviewStatus.APPROVED, by="boris", after=timedelta(seconds=-1)))
        await looks(watched, Known(review(status, by="boris", after=timedelta(0))), 6)
        assert [span.attributes[names.REVIEW_STATUS] for span in watched.memory.spans()[1:]] == told


async def test_a_store_that_cannot_be_asked_is_asked_again(caplog: pytest.LogCaptureFixture) -> None:
    """And mentioned once a minute."""
    watched = Watched()
    watched.clock.seconds = NOW.timestamp()
    held(watched)

    class Failing(Known):
        async def find(self, *, review_id: str | None = None, call_id: str | None = None) -> Sequence[Review]:
            self.asked += 1
            raise RuntimeError(SECRET)

    failing = Failing()
    await looks(watched, failing, 5)
    assert failing.asked > 2
    assert len(caplog.records) == 1
    assert SECRET not in JsonFormatter().format(caplog.records[0])
    await looks(watched, Known(review(ReviewStatus.EXPIRED)), 2)
    assert watched.memory.spans()[-1].attributes[names.REVIEW_STATUS] == "expired"


def test_an_answer_whose_request_was_before_a_restart_has_no_link() -> None:
    """It is told all the same."""
    watched = Watched()
    watched.telemetry.resolved(trail(PARENT, decision=HELD), review(ReviewStatus.REJECTED))
    (resolved,) = watched.memory.spans()
    assert (resolved.links, resolved.attributes[names.REVIEW_STATUS]) == ((), "rejected")


def test_a_held_call_says_how_long_and_for_which_review() -> None:
    """Seconds of waiting, also where the answer was no."""

    def waited(known: Trail) -> None:
        known.took("hold", 0.75)

    _, span = Watched().call(HELD, Refusal(Code.REVIEW_REJECTED, SECRET, review_id="r-9"), before=waited)
    assert span is not None
    assert (span.attributes[names.REVIEW_ID], span.attributes[names.WAITED]) == ("r-9", 0.75)


def test_reviews_are_remembered_up_to_a_bound() -> None:
    """Held calls must not fill the memory; the oldest is forgotten first."""
    watched = Watched()
    for number in range(1100):
        watched.telemetry.held(trail(PARENT, decision=HELD), replace(review(), id=f"r-{number}"))
    for number, linked in ((0, 0), (1099, 1)):
        answered = replace(review(ReviewStatus.APPROVED), id=f"r-{number}")
        watched.telemetry.resolved(trail(PARENT, decision=HELD), answered)
        assert len(watched.memory.spans()[-1].links) == linked


def test_a_review_is_counted_once_where_it_was_answered_or_found_unanswered() -> None:
    """With the seconds from request to end. What a call learns of an answer is not another answer, and an approval that
    expires unused was an answer."""
    watched = Watched()
    known = held(watched)
    yes = review(ReviewStatus.APPROVED, by="boris", after=timedelta(seconds=90))
    watched.telemetry.answered(yes)
    watched.telemetry.resolved(known, yes)
    watched.telemetry.holds.answered(review(ReviewStatus.EXPIRED, after=timedelta(seconds=600)))
    assert ended(watched) == {"approved": (1, 90.0)}
    watched = Watched()
    known = held(watched)
    for _ in range(2):
        watched.telemetry.resolved(known, unanswered(ReviewStatus.EXPIRED))
    assert ended(watched) == {"expired": (1, 600.0)}


@pytest.mark.parametrize(
    ("ended_as", "counted"),
    [
        ({"status": ReviewStatus.EXPIRED}, ["expired"]),
        ({"status": ReviewStatus.EXPIRED, "comment": "approved by boris, and not used in time"}, []),
        ({"status": ReviewStatus.EXPIRED, "uses": 1}, []),
        ({"status": ReviewStatus.CANCELLED, "comment": "nobody needs it"}, ["abandoned"]),
        ({"status": ReviewStatus.CANCELLED, "comment": VOID}, []),
        ({"status": ReviewStatus.CANCELLED, "comment": "nobody needs it", "uses": 1}, []),
    ],
)
def test_only_what_nobody_answered_is_counted_where_the_call_was_held(
    ended_as: dict[str, Any], counted: list[str]
) -> None:
    """An approval that another process gave is counted there, whatever becomes of it."""
    watched = Watched()
    known = held(watched)
    watched.telemetry.resolved(known, replace(unanswered(ReviewStatus.EXPIRED), **ended_as))
    assert list(ended(watched)) == counted


def test_an_answer_to_a_review_of_another_process_is_counted_here() -> None:
    """The desk answers; the pod that learns of it does not count it again."""
    desk, pod = Watched(), Watched()
    known = held(pod)
    no = review(ReviewStatus.REJECTED, by="boris", after=timedelta(seconds=5))
    desk.telemetry.answered(no)
    pod.telemetry.resolved(known, no)
    assert (ended(desk), ended(pod)) == ({"rejected": (1, 5.0)}, {})


def unanswered(status: ReviewStatus) -> Review:
    """A review that ended after ten minutes without a person."""
    return replace(review(status, by="sidegate", after=timedelta(seconds=600)), comment=None)


def ended(watched: Watched) -> dict[str, tuple[float, float]]:
    """Count and sum of seconds of reviews that have ended, by outcome."""
    samples = parse(watched.metrics.exposition())[names.REVIEW_WAIT_SECONDS].samples
    name = names.REVIEW_WAIT_SECONDS
    found = {
        labels[0][1]: (count, samples[f"{name}_sum", labels])
        for (sample, labels), count in samples.items()
        if sample == f"{name}_count"
    }
    return {outcome: told for outcome, told in found.items() if told[0]}
