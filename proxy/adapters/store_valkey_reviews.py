"""Port Reviews of the shared store: held in one pod, answered through any (design section 12)."""

from collections.abc import Callable, Sequence
from contextlib import nullcontext, suppress
from dataclasses import replace

from proxy.adapters.again import again_and_again
from proxy.adapters.journal import Journal
from proxy.adapters.store_valkey_calls import SharedCalls
from proxy.adapters.store_valkey_fold import review as folded
from proxy.adapters.store_valkey_holds import HeldCalls
from proxy.adapters.store_valkey_link import Link
from proxy.adapters.store_valkey_talks import TRIES, Draft, Talk, Talks
from proxy.adapters.store_valkey_time import StoreTime
from proxy.adapters.store_valkey_troubles import unavailable
from proxy.adapters.store_valkey_waiting import Waiting
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


class _OvertakenError(Exception):
    """Reviews have changed between a look at the server and the step that relies on it."""


class SharedReviews:
    """Each change is guarded by the counter of reviews, so the first answer wins and an approval is spent once."""

    def __init__(
        self,
        *,
        link: Link,
        talks: Talks,
        holds: HeldCalls,
        calls: SharedCalls,
        journal: Journal,
        time: StoreTime,
        limits: HoldLimits,
    ) -> None:
        self._link = link
        self._talks = talks
        self._holds = holds
        self._calls = calls
        self._journal = journal
        self._time = time
        self._limits = limits
        self.waiting = Waiting(link, time)
        holds.changed = self._noticed

    async def request(self, review: Review) -> Review:
        """An open review of an identical call that nobody waits on, the rejection that answers it already, or this one.
        The call's reservation becomes the hold."""
        ahead = self._time.ahead
        review = replace(review, requested_at=review.requested_at - ahead, expires_at=review.expires_at - ahead)
        await self._holds.fresh()
        known = set(self._holds.all)
        async with self.waiting.alive_for_all(review.id):
            for _ in range(TRIES):
                await self._holds.sync()
                await self._end_due()
                await self._end_void(review.conversation)
                seq = self._holds.seq
                # Whoever has asked since this began is still there.
                live = await self.waiting.live_anywhere(self._open_in(review.conversation)) | (
                    self._holds.all.keys() - known
                )
                with suppress(_OvertakenError):
                    return await self._requested(review, live, seq)
        raise unavailable("reviews change too fast")

    async def outcome(self, review_id: str, seconds: float, *, live: bool = True) -> Review:
        """Wait until it is no longer pending, until it expires, or for `seconds`."""
        await self._holds.fresh()
        hold = await self._ended_if_due(self._get(review_id))
        if hold.review.status is not ReviewStatus.PENDING or self.waiting.released:
            return hold.review
        async with self.waiting.alive_for_all(review_id) if live else nullcontext():
            await self.waiting.changed(review_id, seconds, deadline(hold.review))
        return (await self._ended_if_due(self._get(review_id))).review

    async def resolve(self, review_id: str, status: ReviewStatus, by: str, comment: str | None) -> Review:
        """Approve or reject. First answer wins, durably."""
        if status not in (ReviewStatus.APPROVED, ReviewStatus.REJECTED):
            raise ValueError(f"a review is answered with approved or rejected, not {status}")
        await self._holds.fresh()
        await self._ended_if_due(self._get(review_id))

        def refuse(hold: Hold) -> None:
            if hold.review.status is ReviewStatus.EXPIRED:
                raise Refusal(Code.REVIEW_EXPIRED, "nobody answered in time, which was a no", review_id=review_id)
            if hold.review.status is not ReviewStatus.PENDING:
                raise concluded(f"{hold.review.by} was first: this review is {hold.review.status}", hold.review)

        return await self._conclude(review_id, status, by, comment, refuse)

    async def cancel(self, review_id: str, why: str) -> Review:
        """End an open review that nobody needs any more."""
        await self._holds.fresh()
        await self._ended_if_due(self._get(review_id))
        return await self._conclude(review_id, ReviewStatus.CANCELLED, SIDEGATE, why, _refuse_closed)

    async def find(self, *, review_id: str | None = None, call_id: str | None = None) -> Sequence[Review]:
        """By id, by a call that waits on it, or all that are known (open ones and the last thousand others), newest first."""
        await self._holds.fresh()
        await self._end_due()
        if review_id is None and call_id is None:
            return [h.review for h in sorted(self._holds.all.values(), key=lambda h: h.requested_seq, reverse=True)]
        hold = self._holds.of_call(call_id or "") if review_id is None else self._found(review_id)
        return [] if hold is None else [hold.review]

    async def watch(self, every: float) -> None:
        """Expire what is due, every so many seconds. Does not end."""
        await again_and_again(self._time, every, self.expire, "the sweep over holds")

    def release_all(self) -> None:
        """The process ends: let all who wait, and all who come yet, go with the review as it stands."""
        self.waiting.release_all()

    async def expire(self) -> int:
        """End all that are due, approved ones that were never used among them. Returns how many."""
        await self._holds.sync()
        return await self._end_due()

    async def _requested(self, review: Review, live: set[str], seq: int) -> Review:
        records: list[dict[str, object]] = []
        given: list[Review] = []

        def step(talk: Talk) -> Draft:
            records.clear()
            if self._holds.seq != seq:
                raise _OvertakenError
            conversation = talk.conversation
            if not talk.version:
                raise Refusal(Code.UNKNOWN_CONVERSATION, "this conversation is not registered")
            known = known_answer(self._holds.of_conversation(review.conversation), review, live, self._time.now())
            _, _, own = talk.reserved.get(review.call_id, (None, None, None))
            hold = None
            if known is None:
                refuse_over_limits(self._holds.waiting(review), review, conversation, self._limits)
                if review.id in self._holds.all:
                    raise ValueError(f"review {review.id} exists")
                records.append(requested_record(review, own, conversation))
            elif known.status.open and known.call_id != review.call_id:
                records.append({**attached_record(known.id, review.call_id)})
                hold = self._holds.all[known.id]
            released = self._calls.released(talk, review.call_id)
            changed = folded(records[0], talk, hold, seq=seq + 1) if records else None
            given[:] = [changed.review if changed is not None else known or review]
            return Draft(counts=released, hold=changed)

        await self._talks.change(review.conversation, step, reviews=True)
        self._calls.leave(review.call_id)
        for record in records:
            await self._journal.flushed(self._journal.append(record))
        return given[0]

    async def _conclude(
        self, name: str, status: ReviewStatus, by: str, comment: str | None, refuse: Callable[[Hold], None]
    ) -> Review:
        at = self._time.now()
        record, given = dict[str, object](), list[Review]()

        def step(talk: Talk) -> Draft:
            hold = self._get(name)
            refuse(hold)
            record.update(resolved_record(hold.review, status, by, comment, at))
            changed = folded(record, talk, hold, seq=self._holds.seq + 1)
            given[:] = [changed.review]
            return Draft(hold=changed)

        await self._talks.change(self._get(name).review.conversation, step, reviews=True)
        await self._journal.flushed(self._journal.append(record))
        return given[0]

    async def _end_due(self) -> int:
        due, count = {hold.review.id: hold for hold in self._holds.due(self._time.now())}, 0

        async def end(name: str) -> None:
            nonlocal count
            count += (await self._ended_if_due(due[name])) is not due[name]

        await self._link.each_there(due, end)  # what cannot be ended here is over by its deadline, all the same
        return count

    async def _ended_if_due(self, hold: Hold) -> Hold:
        review = hold.review
        if not review.status.open or self._time.now() < deadline(review):
            return hold
        with suppress(_ClosedError):
            await self._conclude(review.id, ReviewStatus.EXPIRED, SIDEGATE, unused(review), _leave_closed)
        return self._get(review.id)

    async def _end_void(self, conversation: str) -> None:
        talk = await self._talks.read(conversation)
        for hold in self._holds.of_conversation(conversation):
            if hold.review.status is ReviewStatus.APPROVED and void(hold, talk.conversation):
                with suppress(_ClosedError):
                    await self._conclude(hold.review.id, ReviewStatus.CANCELLED, SIDEGATE, VOID, _leave_closed)

    def _open_in(self, conversation: str) -> list[str]:
        return [h.review.id for h in self._holds.of_conversation(conversation) if h.review.status.open]

    def _noticed(self, review_id: str) -> None:
        if self._holds.all[review_id].review.status is not ReviewStatus.PENDING:
            self.waiting.wake(review_id)

    def _found(self, review_id: str) -> Hold | None:
        if review_id in self._holds.unreadable:
            raise unavailable(self._holds.unreadable[review_id])
        return self._holds.all.get(review_id)

    def _get(self, review_id: str) -> Hold:
        hold = self._found(review_id)
        if hold is None:
            raise Refusal(Code.UNKNOWN_CALL, "no such review is known")
        return hold


class _ClosedError(Exception):
    """Somebody else has ended it already."""


def _refuse_closed(hold: Hold) -> None:
    if not hold.review.status.open:
        raise concluded(f"this review is {hold.review.status} already", hold.review)


def _leave_closed(hold: Hold) -> None:
    if not hold.review.status.open:
        raise _ClosedError
