"""Port Reviews of the embedded store: holds, approvals and those who wait for them (design section 12)."""

from collections.abc import Sequence
from contextlib import nullcontext, suppress

from proxy.adapters.again import again_and_again
from proxy.adapters.store_calls import EmbeddedCalls
from proxy.adapters.store_log import StateLog
from proxy.adapters.waiters import Waiters
from proxy.core.conversation import Conversation
from proxy.core.hold_records import (
    SIDEGATE,
    VOID,
    attached_record,
    known_answer,
    requested_record,
    resolved_record,
    unused,
)
from proxy.core.hold_rules import Hold, HoldLimits, concluded, deadline, refuse_over_limits, void
from proxy.core.review import Review, ReviewStatus
from proxy.errors import Code, Refusal
from proxy.ports import Clock


class EmbeddedReviews:
    """Checks and writes happen without an await between them, so the first answer wins and one approval is spent once."""

    def __init__(self, log: StateLog, clock: Clock, calls: EmbeddedCalls, limits: HoldLimits) -> None:
        self._log = log
        self._clock = clock
        self._calls = calls
        self._limits = limits
        self._waiters = Waiters(clock)
        self._written: dict[str, int] = {}  # review -> its last record, until that is known to be on disk

    async def request(self, review: Review) -> Review:
        """An open review of an identical call that nobody waits on, the rejection that answers it already, or this one.
        The call's reservation becomes the hold."""
        self._log.refuse_if_behind()
        conversation = self._log.state.conversation(review.conversation)
        if conversation is None:
            raise Refusal(Code.UNKNOWN_CONVERSATION, "this conversation is not registered")
        self._sweep()
        self._cancel_void(conversation)
        known = self._known_answer(review)
        if known is None:
            known = self._create(review, conversation)
        elif known.status.open and known.call_id != review.call_id:
            self._log.write(attached_record(known.id, review.call_id))
        self._calls.release(review.call_id)
        self._log.leave(review.call_id)
        with self._waiters.alive(known.id):
            await self._durable(known.id)
            return self._get(known.id).review

    async def outcome(self, review_id: str, seconds: float, *, live: bool = True) -> Review:
        """Wait until it is no longer pending, until it expires, or for `seconds`."""
        self._expire_if_due(self._get(review_id))
        with self._waiters.alive(review_id) if live else nullcontext():
            review = self._get(review_id).review
            if review.status is ReviewStatus.PENDING and not self._waiters.released:
                await self._waiters.changed(review_id, seconds, deadline(review))
                self._expire_if_due(self._get(review_id))
            await self._durable(review_id)
            return self._get(review_id).review

    async def resolve(self, review_id: str, status: ReviewStatus, by: str, comment: str | None) -> Review:
        """Approve or reject. First answer wins, durably."""
        if status not in (ReviewStatus.APPROVED, ReviewStatus.REJECTED):
            raise ValueError(f"a review is answered with approved or rejected, not {status}")
        hold = self._expire_if_due(self._get(review_id))
        if hold.review.status is ReviewStatus.EXPIRED:
            raise Refusal(Code.REVIEW_EXPIRED, "nobody answered in time, which was a no", review_id=review_id)
        if hold.review.status is not ReviewStatus.PENDING:
            raise concluded(f"{hold.review.by} was first: this review is {hold.review.status}", hold.review)
        review = self._conclude(hold, status, by, comment)
        await self._durable(review_id)
        return review

    async def cancel(self, review_id: str, why: str) -> Review:
        """End an open review that nobody needs any more."""
        hold = self._expire_if_due(self._get(review_id))
        if not hold.review.status.open:
            raise concluded(f"this review is {hold.review.status} already", hold.review)
        review = self._conclude(hold, ReviewStatus.CANCELLED, SIDEGATE, why)
        await self._durable(review_id)
        return review

    async def find(self, *, review_id: str | None = None, call_id: str | None = None) -> Sequence[Review]:
        """By id, by a call that waits on it, or all that are known (open ones and the last thousand others), newest first."""
        self._sweep()
        state = self._log.state
        if review_id is None and call_id is None:
            return [hold.review for hold in reversed(state.holds.all.values())]
        hold = state.holds.of_call(call_id or "") if review_id is None else state.holds.all.get(review_id)
        return [] if hold is None else [hold.review]

    async def watch(self, every: float) -> None:
        """Expire what is due, every so many seconds. Does not end; what cannot be written is tried again at the next look."""
        await again_and_again(self._clock, every, self.expire, "the sweep over holds")

    def release_all(self) -> None:
        """The process ends: let all who wait, and all who come yet, go with the review as it stands."""
        self._waiters.release_all()

    async def expire(self) -> int:
        """End all that are due, approved ones that were never used among them. Returns how many."""
        count = self._sweep()
        for name in list(self._written):
            if name not in self._log.state.holds.all:
                self._written.pop(name, None)
            with suppress(Refusal):  # not on disk, it is found expired again at the next start
                await self._durable(name)
        return count

    def _known_answer(self, wanted: Review) -> Review | None:
        holds = self._log.state.holds.of_conversation(wanted.conversation)
        return known_answer(holds, wanted, self._waiters.live, self._clock.now())

    def _create(self, review: Review, conversation: Conversation) -> Review:
        holds = self._log.state.holds
        if review.id in holds.all:
            raise ValueError(f"review {review.id} exists")
        refuse_over_limits(holds.waiting(review), review, conversation, self._limits)
        own = self._calls.reservation(review.call_id)
        self._written[review.id] = self._log.write(requested_record(review, own, conversation))
        return review

    def _conclude(self, hold: Hold, status: ReviewStatus, by: str, comment: str | None) -> Review:
        name = hold.review.id
        record = resolved_record(hold.review, status, by, comment, self._clock.now())
        self._written[name] = self._log.write(record)
        self._waiters.wake(name)
        return self._get(name).review

    def _sweep(self) -> int:
        due = self._log.state.holds.due(self._clock.now())
        for hold in due:
            self._expire_if_due(hold)
        return len(due)

    def _expire_if_due(self, hold: Hold) -> Hold:
        review = hold.review
        if not review.status.open or self._clock.now() < deadline(review):
            return hold
        self._conclude(hold, ReviewStatus.EXPIRED, SIDEGATE, unused(review))
        return self._get(review.id)

    def _cancel_void(self, conversation: Conversation) -> None:
        for hold in self._log.state.holds.open(conversation.id):
            if hold.review.status is ReviewStatus.APPROVED and void(hold, conversation):
                self._conclude(hold, ReviewStatus.CANCELLED, SIDEGATE, VOID)

    def _get(self, review_id: str) -> Hold:
        hold = self._log.state.holds.all.get(review_id)
        if hold is None:
            raise Refusal(Code.UNKNOWN_CALL, "no such review is known")
        return hold

    async def _durable(self, review_id: str) -> None:
        seq = self._written.get(review_id)
        if seq is None:
            return
        await self._log.durable(seq)
        if self._written.get(review_id) == seq:
            self._written.pop(review_id)
