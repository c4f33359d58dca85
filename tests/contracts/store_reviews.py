"""Contract of port Reviews: holds and their answers, whatever the store."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from proxy.core.hold_rules import PRINCIPAL_SHARE, HoldLimits
from proxy.core.review import ReviewStatus
from proxy.errors import Code, Refusal
from tests.contracts.store_kit import Place, hold, refusing, register, until
from tests.contracts.store_values import AGENT, caller, checked, fresh, review, tool

STOCK = tool("get_stock", labels=["quantities"])
PRICES = tool("get_prices", system="pricing", labels=["prices"], trusted=False)
YES, NO = ReviewStatus.APPROVED, ReviewStatus.REJECTED


class ReviewsContract:
    """Every store passes these."""

    async def test_a_hold_is_found_by_its_id_by_its_call_and_among_all_newest_first(self, place: Place) -> None:
        async with place.opened() as store:
            who = await register(store)
            first = await hold(store, who, checked(PRICES), call="call-1")
            second = await hold(store, who, checked(PRICES), call="call-2")
            assert await store.reviews.find(review_id=first.id) == [first]
            assert await store.reviews.find(call_id="call-2") == [second]
            assert await store.reviews.find() == [second, first]
            assert await store.reviews.find(review_id="nothing") == []
            assert await store.reviews.find(call_id="nothing") == []

    async def test_holds_and_answers_outlive_a_restart_to_the_last_byte(self, place: Place) -> None:
        async with place.opened() as store:
            who, what = await register(store), checked(PRICES)
            asked = await hold(store, who, what, call="call-1")
            other = await hold(store, who, checked(STOCK))
            await store.reviews.resolve(other.id, YES, "rita", "fine")
        async with place.opened() as store:
            assert await store.reviews.find(call_id="call-1") == [asked]
            (approved,) = await store.reviews.find(review_id=other.id)
            assert (approved.status, approved.by, approved.comment) == (YES, "rita", "fine")
            assert approved.arguments == other.arguments

    async def test_an_identical_call_attaches_to_a_hold_that_nobody_waits_on(self, place: Place) -> None:
        async with place.opened() as store:
            who, what = await register(store), checked(PRICES)
            first = await hold(store, who, what, call="call-1")
            assert await hold(store, who, what, call="call-2") == first
            assert await store.reviews.find(call_id="call-2") == [first]
            assert len(await store.reviews.find()) == 1
        async with place.opened() as store:
            assert await store.reviews.find(call_id="call-2") == [first]

    @pytest.mark.parametrize(
        "changes",
        [
            {"digest": "other"},
            {"entry": "other"},
            {"agent": replace(AGENT, pod="other")},
            {"reasons": {"combination": [{"code": "another"}]}},
        ],
        ids=lambda changes: next(iter(changes)),
    )
    async def test_a_call_that_asks_something_else_is_a_second_hold(
        self, place: Place, changes: dict[str, Any]
    ) -> None:
        async with place.opened() as store:
            who, what = await register(store), checked(PRICES)
            await hold(store, who, what)
            await hold(store, who, what, **changes)
            assert len(await store.reviews.find()) == 2

    async def test_an_identical_call_beside_a_waiting_one_is_a_second_hold(self, place: Place) -> None:
        async with place.opened() as store:
            who, what = await register(store), checked(PRICES)
            first = await hold(store, who, what)
            waiting = asyncio.create_task(store.reviews.outcome(first.id, 60))
            await until(lambda: place.clock.sleeps_for(60))
            second = await hold(store, who, what)
            assert second.id != first.id
            await store.reviews.resolve(first.id, NO, "rita", None)
            assert (await waiting).status is NO

    async def test_two_identical_calls_at_once_are_two_holds(self, place: Place) -> None:
        async with place.opened() as store:
            who, what = await register(store), checked(PRICES)
            found = await asyncio.gather(*(store.reviews.request(review(fresh("call"), who, what)) for _ in range(2)))
            assert found[0].id != found[1].id

    async def test_who_waits_is_told_at_once(self, place: Place) -> None:
        async with place.opened() as store:
            asked = await hold(store, await register(store), checked(PRICES))
            waiting = asyncio.create_task(store.reviews.outcome(asked.id, 60))
            await until(lambda: place.clock.sleeps_for(60))
            await store.reviews.resolve(asked.id, YES, "rita", None)
            assert (await waiting).status is YES
            assert (await store.reviews.outcome(asked.id, 60)).status is YES

    async def test_patience_ends_and_the_hold_stays(self, place: Place) -> None:
        async with place.opened() as store:
            asked = await hold(store, await register(store), checked(PRICES))
            waiting = asyncio.create_task(store.reviews.outcome(asked.id, 4))
            await until(lambda: place.clock.sleeps_for(4))
            place.clock.advance(4)
            assert (await waiting).status is ReviewStatus.PENDING

    async def test_at_the_end_of_the_process_all_who_wait_are_let_go(self, place: Place) -> None:
        async with place.opened() as store:
            asked = await hold(store, await register(store), checked(PRICES))
            waiting = asyncio.create_task(store.reviews.outcome(asked.id, 60))
            await until(lambda: place.clock.sleeps_for(60))
            store.reviews.release_all()
            assert (await waiting).status is ReviewStatus.PENDING
            assert (await store.reviews.outcome(asked.id, 60)).status is ReviewStatus.PENDING

    async def test_a_caller_that_leaves_is_no_live_waiter_any_more(self, place: Place) -> None:
        async with place.opened() as store:
            who, what = await register(store), checked(PRICES)
            asked = await hold(store, who, what)
            waiting = asyncio.create_task(store.reviews.outcome(asked.id, 60))
            await until(lambda: place.clock.sleeps_for(60))
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            assert (await hold(store, who, what)).id == asked.id

    async def test_of_twenty_answers_at_once_one_wins_and_the_others_are_told_who(self, place: Place) -> None:
        async with place.opened() as store:
            asked = await hold(store, await register(store), checked(PRICES))
            answers = await asyncio.gather(
                *(store.reviews.resolve(asked.id, YES if n % 2 else NO, f"reviewer-{n}", None) for n in range(20)),
                return_exceptions=True,
            )
            won = [answer for answer in answers if not isinstance(answer, BaseException)]
            lost = [answer for answer in answers if isinstance(answer, Refusal)]
            assert (len(won), len(lost)) == (1, 19)
            assert {refusal.code for refusal in lost} == {Code.CALL_CONCLUDED}
            assert all(str(won[0].by) in refusal.message for refusal in lost)

    async def test_a_review_id_names_one_review(self, place: Place) -> None:
        async with place.opened() as store:
            who = await register(store)
            asked = await hold(store, who, checked(PRICES))
            with pytest.raises(ValueError, match="exists"):
                await store.reviews.request(review("call", who, checked(PRICES), id=asked.id))

    async def test_an_answer_to_nothing_known_is_refused(self, place: Place) -> None:
        async with place.opened() as store:
            with refusing(Code.UNKNOWN_CALL):
                await store.reviews.resolve("nothing", YES, "rita", None)
            with refusing(Code.UNKNOWN_CALL):
                await store.reviews.outcome("nothing", 1)

    async def test_a_hold_expires_by_the_clock_whoever_looks(self, place: Place) -> None:
        async with place.opened() as store:
            who, what = await register(store), checked(PRICES)
            asked = await hold(store, who, what)
            waiting = asyncio.create_task(store.reviews.outcome(asked.id, 9999))
            await until(lambda: place.clock.sleeps_for(3600))
            place.clock.advance(3600)
            assert (await waiting).status is ReviewStatus.EXPIRED
            with refusing(Code.REVIEW_EXPIRED):
                await store.reviews.resolve(asked.id, YES, "rita", None)
            later = review(
                "call", who, what, requested_at=place.clock.now(), expires_at=place.clock.now().replace(hour=23)
            )
            assert (await store.reviews.request(later)).id == later.id

    async def test_what_has_expired_is_neither_attached_to_nor_counted(self, place: Place) -> None:
        async with place.opened(HoldLimits(total=1)) as store:
            who, what = await register(store), checked(PRICES)
            asked = await hold(store, who, what)
            place.clock.advance(3600)
            later = place.clock.now().replace(hour=23)
            assert (await hold(store, who, what, requested_at=place.clock.now(), expires_at=later)).id != asked.id

    async def test_a_no_answers_the_same_call_again_without_asking(self, place: Place) -> None:
        async with place.opened() as store:
            who, what = await register(store), checked(PRICES)
            asked = await hold(store, who, what)
            no = await store.reviews.resolve(asked.id, NO, "rita", "never")
            assert await hold(store, who, what) == no
            assert (await hold(store, who, checked(PRICES))).status is ReviewStatus.PENDING
            place.clock.advance(3600)
            later = place.clock.now().replace(hour=23)
            anew = await hold(store, who, what, requested_at=place.clock.now(), expires_at=later)
            assert anew.status is ReviewStatus.PENDING

    async def test_after_three_rejections_a_conversation_is_not_shown_to_reviewers_again(self, place: Place) -> None:
        async with place.opened() as store:
            who = await register(store)
            for _ in range(3):
                asked = await hold(store, who, checked(PRICES))
                await store.reviews.resolve(asked.id, NO, "rita", None)
            with refusing(Code.DENIED):
                await hold(store, who, checked(PRICES))
            assert (await hold(store, await register(store), checked(PRICES))).status is ReviewStatus.PENDING

    async def test_the_unregistered_may_not_hold(self, place: Place) -> None:
        async with place.opened() as store:
            with refusing(Code.DENIED):
                await hold(store, caller("~implicit"), checked(PRICES))

    @pytest.mark.parametrize(
        ("limits", "conversations", "principals"),
        [
            (HoldLimits(conversation=2), 1, 1),
            (HoldLimits(principal=2), 9, 1),
            (HoldLimits(agent=2), 9, 9),
            (HoldLimits(total=2), 9, 9),
            (HoldLimits(new_per_hour=2), 1, 1),
        ],
        ids=["conversation", "principal", "agent", "total", "per-hour"],
    )
    async def test_over_a_limit_it_is_a_refusal_and_no_queue(
        self, place: Place, limits: HoldLimits, conversations: int, principals: int
    ) -> None:
        async with place.opened(limits) as store:
            for number in range(3):
                name = f"talk-{number % conversations}"
                who = await register(store, name, f"user-{number % principals}")
                if number < 2:
                    await hold(store, who, checked(PRICES))
            with refusing(Code.OVERLOADED):
                await hold(store, who, checked(PRICES))

    async def test_new_holds_per_hour_of_a_user_count_over_conversations_and_a_restart(self, place: Place) -> None:
        """A fresh conversation is no fresh start."""
        limits = HoldLimits(new_per_hour=1)
        for number in range(PRINCIPAL_SHARE):
            async with place.opened(limits) as store:
                asked = await hold(store, await register(store, f"talk-{number}"), checked(PRICES))
                await store.reviews.resolve(asked.id, YES, "rita", None)
        async with place.opened(limits) as store:
            with refusing(Code.OVERLOADED):
                await hold(store, await register(store, "one-more"), checked(PRICES))
            other = await register(store, "of-another", "bea")
            assert (await hold(store, other, checked(PRICES))).status is ReviewStatus.PENDING

    async def test_all_pods_of_an_agent_share_its_limit(self, place: Place) -> None:
        async with place.opened(HoldLimits(agent=2)) as store:
            for number in range(2):
                who = await register(store, f"talk-{number}", f"user-{number}")
                await hold(store, who, checked(PRICES), agent=replace(AGENT, pod=f"pod-{number}"))
            with refusing(Code.OVERLOADED):
                who = await register(store, "talk-2", "user-2")
                await hold(store, who, checked(PRICES), agent=replace(AGENT, pod="pod-2"))

    async def test_holds_per_hour_are_counted_even_when_they_are_answered(self, place: Place) -> None:
        async with place.opened(HoldLimits(new_per_hour=1)) as store:
            who = await register(store)
            asked = await hold(store, who, checked(PRICES))
            await store.reviews.resolve(asked.id, YES, "rita", None)
            with refusing(Code.OVERLOADED):
                await hold(store, who, checked(PRICES))
            place.clock.advance(3600)
            now = place.clock.now()
            await hold(store, who, checked(PRICES), requested_at=now, expires_at=now.replace(hour=20))
