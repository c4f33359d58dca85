"""Held in one pod, answered through another: the first answer wins, an approval is spent once, waiting is known to all."""

import asyncio
from pathlib import Path

import pytest

from proxy.core.review import ReviewStatus
from proxy.errors import Code, Refusal
from tests.adapters.valkey_rig import pods_on_server
from tests.contracts.store_kit import hold, refusing, register, spend, until
from tests.contracts.store_values import checked, fresh, intent, review, tool

PRICES = tool("get_prices", system="pricing", labels=["prices"], trusted=False)
YES, NO = ReviewStatus.APPROVED, ReviewStatus.REJECTED


async def test_who_waits_in_one_pod_is_told_what_was_answered_in_another(tmp_path: Path) -> None:
    """By the next beat."""
    async with pods_on_server(tmp_path) as pods, pods.pod("a") as a, pods.pod("b") as b:
        asked = await hold(a, await register(a), checked(PRICES))
        waiting = asyncio.create_task(a.reviews.outcome(asked.id, 60))
        await until(lambda: pods.clock.sleeps_for(60))
        assert [found.id for found in await b.reviews.find()] == [asked.id]
        await b.reviews.resolve(asked.id, YES, "rita", None)
        await a.pods.beat()
        assert (await waiting).status is YES


async def test_of_answers_through_two_pods_one_wins(tmp_path: Path) -> None:
    """Twenty rounds; the journal of one pod has it."""
    async with pods_on_server(tmp_path) as pods, pods.pod("a") as a, pods.pod("b") as b:
        for _ in range(20):
            asked = await hold(a, await register(a), checked(PRICES))
            answers = await asyncio.gather(
                a.reviews.resolve(asked.id, YES, "rita", None),
                b.reviews.resolve(asked.id, NO, "rob", None),
                return_exceptions=True,
            )
            (lost,) = [answer for answer in answers if isinstance(answer, Refusal)]
            assert lost.code is Code.CALL_CONCLUDED
        resolved = [*pods.records("a", kind="review_resolved"), *pods.records("b", kind="review_resolved")]
        assert len(resolved) == 20


async def test_one_approval_is_spent_once_over_two_pods(tmp_path: Path) -> None:
    async with pods_on_server(tmp_path) as pods, pods.pod("a") as a, pods.pod("b") as b:
        who, what = await register(a), checked(PRICES)
        asked = await hold(a, who, what)
        await b.reviews.resolve(asked.id, YES, "rita", None)
        await a.reviews.find()
        ends = await asyncio.gather(*(spend(store, who, what, asked) for store in (a, b, a, b)), return_exceptions=True)
        assert [end for end in ends if end is None] == [None]
        assert {end.code for end in ends if isinstance(end, Refusal)} == {Code.CALL_CONCLUDED}


async def test_an_approval_that_another_pod_has_spent_since_is_not_spent_again(tmp_path: Path) -> None:
    """Both were decided while it was good; who commits first has it."""
    async with pods_on_server(tmp_path) as pods, pods.pod("a") as a, pods.pod("b") as b:
        who, what = await register(a), checked(PRICES)
        asked = await hold(a, who, what)
        await a.reviews.resolve(asked.id, YES, "rita", None)
        decided = [(store, call, await store.calls.reserve(call, who, what)) for store, call in ((a, "c1"), (b, "c2"))]
        (_, one, facts), (_, two, later) = decided
        await a.calls.commit(intent(one, who, what, facts, review=asked.id), durable=True)
        with refusing(Code.CALL_CONCLUDED):
            await b.calls.commit(intent(two, who, what, later, review=asked.id), durable=True)


async def test_a_hold_that_is_waited_on_in_another_pod_takes_no_second_caller(tmp_path: Path) -> None:
    """Until the waiting one has left."""
    async with pods_on_server(tmp_path) as pods, pods.pod("a") as a, pods.pod("b") as b:
        who, what = await register(a), checked(PRICES)
        first = await hold(a, who, what)
        waiting = asyncio.create_task(a.reviews.outcome(first.id, 60))
        await until(lambda: pods.clock.sleeps_for(60))
        second = await hold(b, who, what)
        assert second.id != first.id
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert (await hold(b, who, what)).id in {first.id, second.id}


async def test_a_held_call_is_seen_by_the_next_call_in_another_pod(tmp_path: Path) -> None:
    """A rule about what may meet sees it, however new it is."""
    async with pods_on_server(tmp_path) as pods, pods.pod("a") as a, pods.pod("b") as b:
        who = await register(a)
        await hold(a, who, checked(PRICES))
        facts = await b.calls.reserve("c", who, checked(tool("get_stock")))
        assert [(call.seq, call.tool, call.outcome) for call in facts.history.calls] == [(1, "get_prices", "held")]


async def test_two_pods_that_ask_the_same_at_once_ask_twice(tmp_path: Path) -> None:
    """As within one pod: both callers are there, and each gets an answer of its own."""
    async with pods_on_server(tmp_path) as pods, pods.pod("a") as a, pods.pod("b") as b:
        for _ in range(15):
            who, what = await register(a), checked(PRICES)
            found = await asyncio.gather(*(s.reviews.request(review(fresh("c"), who, what)) for s in (a, b)))
            assert len({each.id for each in found}) == 2
            for each in found:
                await a.reviews.cancel(each.id, "asked")
