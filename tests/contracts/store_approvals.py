"""Contract of approvals: bound to one call, spent once, and gone when they are not used, whatever the store."""

import asyncio
from dataclasses import replace

import pytest

from proxy.core.hold_rules import MAX_USES
from proxy.core.review import Review, ReviewStatus
from proxy.core.tool import CheckedCall, Tool
from proxy.errors import Code
from proxy.model import Caller
from tests.contracts.store_kit import Place, Store, hold, refusing, register, run, spend
from tests.contracts.store_values import AGENT, caller, checked, intent, registered, terminal, tool

STOCK = tool("get_stock", labels=["quantities"])
PRICES = tool("get_prices", system="pricing", labels=["prices"], trusted=False)
YES, NO = ReviewStatus.APPROVED, ReviewStatus.REJECTED


class ApprovalsContract:
    """Every store passes these."""

    async def test_an_approval_is_spent_once(self, place: Place) -> None:
        async with place.opened() as store:
            who, what, approved = await self._approved(store)
            await spend(store, who, what, approved)
            (found,) = await store.reviews.find(review_id=approved.id)
            assert (found.status, found.uses) == (ReviewStatus.SPENT, 1)
            with refusing(Code.CALL_CONCLUDED):
                await spend(store, who, what, approved)
            assert (await hold(store, who, what)).id != approved.id

    async def test_twenty_calls_cannot_share_one_approval(self, place: Place) -> None:
        async with place.opened() as store:
            who, what, approved = await self._approved(store)
            ends = await asyncio.gather(*(spend(store, who, what, approved) for _ in range(20)), return_exceptions=True)
            assert sum(end is None for end in ends) == 1

    async def test_a_spent_approval_stays_spent_after_a_restart(self, place: Place) -> None:
        async with place.opened() as store:
            who, what, approved = await self._approved(store)
            facts = await store.calls.reserve("c", who, what)
            await store.calls.commit(intent("c", who, what, facts, review=approved.id), durable=True)
        async with place.opened() as store:
            await store.calls.recover()
            with refusing(Code.CALL_CONCLUDED):
                await spend(store, who, what, approved)

    async def test_an_approval_serves_no_other_call(self, place: Place) -> None:
        async with place.opened() as store:
            who, what, approved = await self._approved(store)
            await store.conversations.register(registered("elsewhere"))
            with refusing(Code.CALL_CONCLUDED):
                await spend(store, who, checked(PRICES), approved)
            changed = replace(what, tool=replace(what.tool, digest="another entry"))
            with refusing(Code.CALL_CONCLUDED):
                await spend(store, who, changed, approved)
            with refusing(Code.CALL_CONCLUDED):
                await spend(store, caller("elsewhere"), what, approved)
            with refusing(Code.CALL_CONCLUDED):
                await spend(store, replace(who, agent=replace(AGENT, pod="other")), what, approved)
            with refusing(Code.CALL_CONCLUDED):
                await spend(store, who, what, replace(approved, id="nothing"))
            await spend(store, who, what, approved)

    async def test_a_refused_commit_leaves_no_trace(self, place: Place) -> None:
        async with place.opened() as store:
            who, what = await register(store), checked(STOCK)
            asked = await hold(store, who, what)
            with refusing(Code.CALL_CONCLUDED):
                await spend(store, who, what, asked)
            history = (await store.calls.reserve("c", who, checked(PRICES))).history
            assert (history.marks, history.tools, history.counters) == ({}, {}, {})

    async def test_an_approval_that_nobody_uses_in_time_is_a_no(self, place: Place) -> None:
        async with place.opened() as store:
            who, what, approved = await self._approved(store)
            facts = await store.calls.reserve("c", who, what)
            place.clock.advance(3600)
            with refusing(Code.CALL_CONCLUDED):
                await store.calls.commit(intent("c", who, what, facts, review=approved.id), durable=False)
            await store.calls.settle(
                terminal("c", who, what, facts, outcome="refused", ok=False, code="denied"), durable=False
            )
            assert await store.reviews.expire() == 1
            assert await store.reviews.expire() == 0
            (found,) = await store.reviews.find(review_id=approved.id)
            assert (found.status, found.by) == (ReviewStatus.EXPIRED, "sidegate")

    async def test_a_cancelled_hold_can_neither_be_answered_nor_used(self, place: Place) -> None:
        async with place.opened() as store:
            who, what, approved = await self._approved(store)
            ended = await store.reviews.cancel(approved.id, "the agent took it back")
            assert (ended.status, ended.comment) == (ReviewStatus.CANCELLED, "the agent took it back")
            with refusing(Code.CALL_CONCLUDED):
                await spend(store, who, what, approved)
            with refusing(Code.CALL_CONCLUDED):
                await store.reviews.resolve(approved.id, YES, "rita", None)
            with refusing(Code.CALL_CONCLUDED):
                await store.reviews.cancel(approved.id, "again")

    async def test_an_approval_for_the_conversation_is_used_ten_times(self, place: Place) -> None:
        async with place.opened() as store:
            who, what, approved = await self._approved(store, scope="conversation")
            for _ in range(MAX_USES):
                assert (await hold(store, who, what)).id == approved.id
                await spend(store, who, what, approved)
            with refusing(Code.CALL_CONCLUDED):
                await spend(store, who, what, approved)

    async def test_an_approval_for_the_conversation_ends_after_a_quarter_of_an_hour(self, place: Place) -> None:
        async with place.opened() as store:
            who, what, approved = await self._approved(store, scope="conversation")
            place.clock.advance(15 * 60 - 1)
            await spend(store, who, what, approved)
            place.clock.advance(1)
            with refusing(Code.CALL_CONCLUDED):
                await spend(store, who, what, approved)

    @pytest.mark.parametrize(
        ("held", "read"),
        [(PRICES, tool("get_terms", labels=["terms"])), (STOCK, tool("read_mail", system="mail", trusted=False))],
        ids=["label", "untrusted"],
    )
    async def test_an_approval_for_the_conversation_ends_when_something_new_is_read(
        self, place: Place, held: Tool, read: Tool
    ) -> None:
        async with place.opened() as store:
            who, what, approved = await self._approved(store, found=held, scope="conversation")
            await spend(store, who, what, approved)
            await run(store, who, checked(tool("get_more_stock")))
            await spend(store, who, what, approved)
            await run(store, who, checked(read))
            with refusing(Code.CALL_CONCLUDED):
                await spend(store, who, what, approved)
            assert (await hold(store, who, what)).id != approved.id
            (found,) = await store.reviews.find(review_id=approved.id)
            assert found.status is ReviewStatus.CANCELLED

    async def _approved(
        self, store: Store, *, found: Tool = PRICES, scope: str = "once"
    ) -> tuple[Caller, CheckedCall, Review]:
        who, what = await register(store), checked(found)
        asked = await hold(store, who, what, scope=scope)
        return who, what, await store.reviews.resolve(asked.id, YES, "rita", None)
