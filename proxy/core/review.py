"""Reviews: what a held call leaves for a person to decide, and what a yes binds (design section 12)."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from proxy.earlier import EarlierCall
from proxy.model import Agent, Dialect, Principal


class ReviewStatus(StrEnum):
    """States of a review. Only `pending` and `approved` are open."""

    PENDING = "pending"
    APPROVED = "approved"
    SPENT = "spent"
    REJECTED = "rejected"
    EXPIRED = "expired"
    CANCELLED = "cancelled"

    @property
    def open(self) -> bool:
        """Whether something can still come of it."""
        return self in (ReviewStatus.PENDING, ReviewStatus.APPROVED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Review:
    """A held call's record (design section 12). `reasons` is what policies said: {policy: [reason]}, word for word."""

    id: str
    call_id: str
    digest: str
    conversation: str
    principal: Principal
    agent: Agent
    tool: str
    version: str
    entry: str  # digest of the catalog entry that was judged
    dialect: Dialect
    tool_call_id: str
    arguments: bytes  # as rendered for people: secrets masked
    replayable: bool  # nothing masked, so that `resume` works after a restart, too
    reason: str | None
    reasons: Mapping[str, Any]
    approvers: tuple[tuple[str, ...], ...]  # one group list a reason: a reviewer must be in each that is not empty
    scope: str
    earlier: tuple[EarlierCall, ...]
    policy_revision: str
    trace_id: str
    requested_at: datetime
    expires_at: datetime
    status: ReviewStatus = ReviewStatus.PENDING
    by: str | None = None
    comment: str | None = None
    resolved_at: datetime | None = None
    uses: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Approval:
    """A reviewer's yes bound to one digest, as a fact for the second decision."""

    review_id: str
    by: str
    at: datetime
    covers: Mapping[str, Any]
