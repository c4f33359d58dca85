"""Held calls in the story: requested, answered, linked."""

from dataclasses import replace

from proxy.core.review import ReviewStatus
from proxy.core.trail import Trail
from proxy.errors import Code, Refusal
from proxy.model import (
    Presented,
)
from proxy.telemetry import names
from tests.telemetry.samples import (
    CALL,
    HELD,
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
    assert requested.attributes == {
        names.REVIEW_ID: "r-1",
        names.REVIEW_STATUS: "pending",
        names.DECISION_ID: known.call_id,
        names.TOOL_NAME: "price.list",
    }
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
