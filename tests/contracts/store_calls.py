"""Contract of port Calls: numbers, facts, commits and ends, whatever the store."""

import itertools
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from proxy.core.tool import Tool
from proxy.earlier import EarlierCall, Outcome
from proxy.errors import Code
from proxy.model import Caller, ToolCount
from tests.contracts.store_kit import Place, Store, hold, refusing, register, run
from tests.contracts.store_values import caller, checked, fresh, intent, refused, registered, review, terminal, tool

STOCK = tool("get_stock", system="stock", labels=["quantities"])
PRICES = tool("get_prices", system="pricing", labels=["prices"])
MAIL = tool("read_mail", system="mail", trusted=False)


class CallsContract:
    """Every store passes these."""

    async def test_a_new_conversation_is_clean_and_complete(self, place: Place) -> None:
        async with place.opened() as store:
            facts = await store.calls.reserve("c", await register(store), checked(STOCK))
            history = facts.history
            assert facts.seq == 1
            assert (history.complete, history.calls_complete, history.untrusted_read) == (True, True, False)
            assert (history.marks, history.tools, history.counters, history.calls) == ({}, {}, {}, ())

    async def test_facts_are_what_lower_numbers_brought(self, place: Place) -> None:
        async with place.opened() as store:
            who = await register(store)
            await run(store, who, checked(STOCK))
            await run(store, who, checked(STOCK), ending={"ok": False, "code": Code.TOOL_FAILED, "ran": "yes"})
            facts = await store.calls.reserve("c", who, checked(PRICES))
            assert facts.seq == 3
            assert facts.history.marks == {"system:stock": 1, "effect:read": 1, "label:quantities": 1}
            assert facts.history.tools == {"get_stock": ToolCount(started=2, ok=1)}
            assert facts.history.counters == {"calls": 2}
            assert facts.history.calls[0] == EarlierCall(
                seq=1, tool="get_stock", system="stock", effect="read", labels=("quantities",), outcome=Outcome.DONE
            )

    async def test_a_reserved_call_counts_for_every_higher_number_as_executing(self, place: Place) -> None:
        async with place.opened() as store:
            who = await register(store)
            await store.calls.reserve("first", who, checked(MAIL))
            facts = await store.calls.reserve("second", who, checked(STOCK))
            history = facts.history
            assert history.marks == {"system:mail": 1, "effect:read": 1}
            assert history.untrusted_read
            assert history.tools == {"read_mail": ToolCount(started=1, ok=0)}
            assert history.counters == {"calls": 1}
            assert history.principal_counters == {"calls": 1}
            assert [(call.seq, call.outcome) for call in history.calls] == [(1, Outcome.EXECUTING)]

    async def test_a_refused_call_vanishes_without_a_trace(self, place: Place) -> None:
        async with place.opened() as store:
            who = await register(store)
            what = checked(MAIL)
            facts = await store.calls.reserve("gone", who, what)
            await store.calls.settle(terminal("gone", who, what, facts, **refused()), durable=True)
            history = (await store.calls.reserve("next", who, checked(STOCK))).history
            assert (history.marks, history.tools, history.counters, history.calls) == ({}, {}, {}, ())
            assert (history.untrusted_read, history.calls_complete) == (False, True)
            assert history.principal_counters == {}

    async def test_numbers_grow_and_are_never_given_twice(self, place: Place) -> None:
        async with place.opened() as store:
            who = await register(store)
            what = checked(STOCK)
            first = await store.calls.reserve("a", who, what)
            await store.calls.settle(terminal("a", who, what, first, **refused()), durable=False)
            second = await store.calls.reserve("b", who, what)
            again = await store.calls.reserve("b", who, what)
            other = await store.calls.reserve("c", who, what)
            assert [first.seq, second.seq, again.seq, other.seq] == [1, 2, 3, 4]

    async def test_a_call_that_reserves_again_sees_all_till_then_but_never_itself(self, place: Place) -> None:
        async with place.opened() as store:
            who = await register(store)
            await store.calls.reserve("held", who, checked(PRICES))
            await run(store, who, checked(STOCK))
            again = await store.calls.reserve("held", who, checked(PRICES))
            assert [call.tool for call in again.history.calls] == ["get_stock"]
            assert again.history.counters == {"calls": 1}

    @pytest.mark.parametrize("order", sorted(set(itertools.permutations("aaabbb"))), ids="".join)
    async def test_of_two_calls_that_may_not_meet_at_most_one_passes(
        self, place: Place, order: tuple[str, ...]
    ) -> None:
        """Steps of each: reserve and decide; commit or be refused; end. Whatever the interleaving."""
        async with place.opened() as store:
            who = await register(store)
            steps = {
                "a": self._steps(store, who, STOCK, "label:prices"),
                "b": self._steps(store, who, PRICES, "label:quantities"),
            }
            passed = [name for name in order if await anext(steps[name])]
            assert len(passed) == 1

    async def _steps(self, store: Store, who: Caller, found: Tool, forbidden: str) -> AsyncIterator[bool]:
        call, what = fresh("call"), checked(found)
        facts = await store.calls.reserve(call, who, what)
        allowed = forbidden not in facts.history.marks
        yield False
        if allowed:
            await store.calls.commit(intent(call, who, what, facts), durable=False)
        else:
            await store.calls.settle(terminal(call, who, what, facts, **refused()), durable=False)
        yield allowed
        if allowed:
            await store.calls.settle(terminal(call, who, what, facts), durable=False)
        yield False

    async def test_marks_of_a_commit_are_never_taken_back_but_counts_are_if_nothing_was_sent(
        self, place: Place
    ) -> None:
        async with place.opened() as store:
            who = await register(store)
            ending = {"outcome": "refused", "ok": False, "code": Code.TOOL_UNREACHABLE, "ran": "no"}
            await run(store, who, checked(MAIL), ending=ending)
            history = (await store.calls.reserve("c", who, checked(STOCK))).history
            assert history.untrusted_read
            assert history.marks == {"system:mail": 1, "effect:read": 1}
            assert (history.tools, history.counters, history.calls) == ({}, {}, ())
            assert history.principal_counters == {}
            assert history.calls_complete

    async def test_a_call_of_unknown_outcome_was_started_but_did_not_end_well(self, place: Place) -> None:
        async with place.opened() as store:
            who = await register(store)
            await run(
                store, who, checked(STOCK), ending={"outcome": "unknown", "ok": False, "code": Code.OUTCOME_UNKNOWN}
            )
            history = (await store.calls.reserve("c", who, checked(STOCK))).history
            assert history.tools == {"get_stock": ToolCount(started=1, ok=0)}
            assert [call.outcome for call in history.calls] == [Outcome.UNKNOWN]
            assert history.counters == {"calls": 1}

    async def test_a_mark_names_the_lowest_number_that_brought_it_whatever_the_order_of_commits(
        self, place: Place
    ) -> None:
        async with place.opened() as store:
            who = await register(store)
            slow, fast = checked(STOCK), checked(STOCK)
            first = await store.calls.reserve("slow", who, slow)
            second = await store.calls.reserve("fast", who, fast)
            await store.calls.commit(intent("fast", who, fast, second), durable=False)
            await store.calls.commit(intent("slow", who, slow, first), durable=False)
            history = (await store.calls.reserve("c", who, checked(PRICES))).history
            assert history.marks["label:quantities"] == 1
            assert [call.seq for call in history.calls] == [1, 2]

    async def test_twenty_calls_are_shown_and_counts_go_on_growing(self, place: Place) -> None:
        async with place.opened() as store:
            who = await register(store)
            for count in range(60):
                facts = await run(store, who, checked(STOCK))
                assert facts.history.calls_complete == (count <= 20)
                assert facts.history.tools.get("get_stock", ToolCount()).started == count
            assert [call.seq for call in facts.history.calls] == list(range(40, 60))

    async def test_held_calls_are_shown_to_others_and_bring_nothing(self, place: Place) -> None:
        async with place.opened() as store:
            who = await register(store)
            what = checked(PRICES)
            await hold(store, who, what)
            others = (await store.calls.reserve("c", who, checked(STOCK))).history
            assert [(call.seq, call.tool, call.outcome) for call in others.calls] == [(1, "get_prices", Outcome.HELD)]
            assert (others.marks, others.tools, others.counters) == ({}, {}, {})
            assert others.calls_complete
            same = (await store.calls.reserve("d", who, what)).history
            assert [call.tool for call in same.calls] == ["get_stock"]

    async def test_a_call_is_a_hold_and_no_reservation_from_the_moment_it_is_held(self, place: Place) -> None:
        async with place.opened() as store:
            who, what = await register(store), checked(MAIL)
            for call in ("first", "attached"):
                await store.calls.reserve(call, who, what)
                await store.reviews.request(review(call, who, what))
            others = (await store.calls.reserve("c", who, checked(STOCK))).history
            assert [call.outcome for call in others.calls] == [Outcome.HELD]
            assert (others.marks, others.tools, others.untrusted_read) == ({}, {}, False)

    async def test_a_hold_that_has_expired_is_not_shown(self, place: Place) -> None:
        async with place.opened() as store:
            who = await register(store)
            await hold(store, who, checked(PRICES))
            place.clock.advance(3600)
            assert (await store.calls.reserve("c", who, checked(STOCK))).history.calls == ()

    async def test_the_unregistered_have_one_conversation_that_is_never_clean(self, place: Place) -> None:
        async with place.opened() as store:
            history = (await store.calls.reserve("c", caller("~implicit"), checked(STOCK))).history
            assert (history.complete, history.untrusted_read, history.calls_complete) == (False, True, False)

    async def test_a_conversation_that_nobody_registered_takes_no_call(self, place: Place) -> None:
        async with place.opened() as store:
            with refusing(Code.UNKNOWN_CONVERSATION):
                await store.calls.reserve("c", caller("forged"), checked(STOCK))

    async def test_a_conversation_takes_no_call_of_another_principal(self, place: Place) -> None:
        async with place.opened() as store:
            who = await register(store)
            with refusing(Code.CONFLICTING_CONVERSATION):
                await store.calls.reserve("c", caller(who.conversation, "eve"), checked(STOCK))

    async def test_counters_of_a_principal_are_over_all_conversations_and_one_utc_day(self, place: Place) -> None:
        async with place.opened() as store:
            await run(store, await register(store), checked(STOCK), ending={"counters": {"rows": 7}})
            other = await register(store)
            facts = await store.calls.reserve("c", other, checked(STOCK))
            assert facts.history.principal_counters == {"calls": 1, "rows": 7}
            assert facts.history.counters == {}
            place.clock.advance(timedelta(hours=12).total_seconds())
            facts = await store.calls.reserve("c", other, checked(STOCK))
            assert facts.history.principal_counters == {}

    async def test_a_call_is_settled_once(self, place: Place) -> None:
        async with place.opened() as store:
            who, what = await register(store), checked(STOCK)
            await run(store, who, what, call="c")
            with pytest.raises(RuntimeError, match="settled twice"):
                await store.calls.settle(terminal("c", who, what), durable=False)

    async def test_a_call_is_committed_once_and_only_with_its_reservation(self, place: Place) -> None:
        async with place.opened() as store:
            who, what = await register(store), checked(STOCK)
            facts = await store.calls.reserve("c", who, what)
            with pytest.raises(RuntimeError, match="without its reservation"):
                await store.calls.commit(intent("c", who, what, facts, number=9), durable=False)
            await store.calls.commit(intent("c", who, what, facts), durable=False)
            with pytest.raises(RuntimeError, match="without its reservation"):
                await store.calls.commit(intent("c", who, what, facts), durable=False)

    async def test_identical_failures_are_counted_until_something_succeeds_or_the_user_speaks(
        self, place: Place
    ) -> None:
        async with place.opened() as store:
            who, what = await register(store), checked(STOCK)
            name = who.conversation
            for ending in (refused(), {"ok": False, "code": Code.TOOL_FAILED, "ran": "yes"}):
                await run(store, who, what, ending=ending)
            assert store.calls.repeated(name, what.digest) == 2
            assert store.calls.repeated(name, "another") == 0
            await store.conversations.register(registered(name, turns=1))
            assert store.calls.repeated(name, what.digest) == 2
            await store.conversations.register(registered(name, turns=2))
            assert store.calls.repeated(name, what.digest) == 0
            await run(store, who, what, ending=refused())
            await run(store, who, checked(PRICES))
            assert store.calls.repeated(name, what.digest) == 0

    async def test_a_refusal_that_says_later_is_no_loop(self, place: Place) -> None:
        async with place.opened() as store:
            who, what = await register(store), checked(STOCK)
            for code in (Code.REVIEW_PENDING, Code.POLICY_UNAVAILABLE, Code.ABANDONED):
                await store.calls.settle(terminal(fresh("call"), who, what, None, **refused(code)), durable=False)
            assert store.calls.repeated(who.conversation, what.digest) == 0
            assert store.calls.repeated("never-heard-of", what.digest) == 0

    async def test_what_was_taken_up_outlives_a_restart(self, place: Place) -> None:
        async with place.opened() as store:
            who = await register(store)
            await run(store, who, checked(MAIL), ending={"counters": {"rows": 2}})
            before = await store.calls.reserve("c", who, checked(STOCK))
        async with place.opened() as store:
            assert await store.calls.recover() == 0
            after = await store.calls.reserve("c", who, checked(STOCK))
            assert after.history == before.history
            assert after.seq > 1

    async def test_a_call_that_was_executing_gets_its_end_after_a_restart(self, place: Place) -> None:
        async with place.opened() as store:
            who, what = await register(store), checked(PRICES)
            facts = await store.calls.reserve("lost", who, what)
            await store.calls.commit(intent("lost", who, what, facts), durable=True)
        async with place.opened() as store:
            assert await store.calls.recover() == 1
            assert await store.calls.recover() == 0
            history = (await store.calls.reserve("c", who, checked(STOCK))).history
            assert [call.outcome for call in history.calls] == [Outcome.UNKNOWN]
            assert history.tools == {"get_prices": ToolCount(started=1, ok=0)}
        async with place.opened() as store:
            assert await store.calls.recover() == 0
