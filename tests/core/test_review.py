"""States of a review."""

import pytest

from proxy.core.review import ReviewStatus
from tests.contracts.store_values import caller, checked, review, tool


@pytest.mark.parametrize("status", list(ReviewStatus))
def test_only_pending_and_approved_are_open(status: ReviewStatus) -> None:
    """Everything else is the end."""
    assert status.open is (status in {ReviewStatus.PENDING, ReviewStatus.APPROVED})


def test_a_new_review_is_pending_and_nobodys_yes() -> None:
    """An answer is never a default."""
    new = review("c", caller("talk"), checked(tool("t")))
    assert (new.status, new.by, new.comment, new.resolved_at, new.uses) == (ReviewStatus.PENDING, None, None, None, 0)
