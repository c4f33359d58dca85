"""Of pods that change one conversation at once each comes through, and none misses what a lower number brought."""

import asyncio
import itertools
from pathlib import Path

from proxy.adapters.store_valkey import SharedStore
from proxy.adapters.store_valkey_rows import FORMAT
from proxy.core.conversation import IMPLICIT
from proxy.core.tool import Tool
from proxy.errors import Code
from proxy.model import Caller, Registration
from tests.adapters.valkey_rig import pods_on_server
from tests.contracts.store_kit import refusing, register, run
from tests.contracts.store_values import caller, checked, fresh, intent, refused, terminal, tool

STOCK = tool("get_stock", system="stock", labels=["quantities"])
PRICES = tool("get_prices", system="pricing", labels=["prices"])


async def test_calls_of_two_pods_in_one_conversation_each_see_exactly_the_lower_numbers(tmp_path: Path) -> None:
    """Eighty at once through two pods: numbers 1 to 80, and number n sees n - 1 others."""
    async with pods_on_server(tmp_path) as pods, pods.pod("a") as a, pods.pod("b") as b:
        who = await register(a)
        stores = itertools.cycle((a, b))
        found = await asyncio.gather(
            *(next(stores).calls.reserve(fresh("call"), who, checked(STOCK)) for _ in range(80))
        )
        seen = {facts.seq: facts.history.counters.get("calls", 0) for facts in found}
        assert seen == {number: number - 1 for number in range(1, 81)}
        assert {f.seq: f.history.principal_counters.get("calls", 0) for f in found} == seen


async def test_of_two_calls_that_may_not_meet_at_most_one_passes_through_two_pods(tmp_path: Path) -> None:
    """Thirty rounds at once: whoever comes second sees the first, whichever pods they use."""
    async with pods_on_server(tmp_path) as pods, pods.pod("a") as a, pods.pod("b") as b:
        for _ in range(30):
            who = await register(a)
            ends = await asyncio.gather(_one(a, who, STOCK, "label:prices"), _one(b, who, PRICES, "label:quantities"))
            assert sum(ends) == 1


async def _one(store: SharedStore, who: Caller, found: Tool, forbidden: str) -> bool:
    """One call from its reservation to its end; whether it passed."""
    call, what = fresh("call"), checked(found)
    facts = await store.calls.reserve(call, who, what)
    allowed = forbidden not in facts.history.marks
    if allowed:
        await store.calls.commit(intent(call, who, what, facts), durable=False)
    ending = {} if allowed else refused()
    await store.calls.settle(terminal(call, who, what, facts, **ending), durable=False)
    return allowed


async def test_what_one_pod_has_read_the_other_knows_at_once(tmp_path: Path) -> None:
    """Labels, counts and failures: also where the other has the conversation in memory as it was."""
    async with pods_on_server(tmp_path) as pods, pods.pod("a") as a, pods.pod("b") as b:
        who, what = await register(a), checked(STOCK)
        await run(b, who, what)
        await run(a, who, what, ending={"ok": False, "code": Code.TOOL_FAILED, "ran": "yes"})
        facts = await b.calls.reserve("c", who, checked(PRICES))
        assert facts.seq == 3
        assert "label:quantities" in facts.history.marks
        assert b.calls.repeated(who.conversation, what.digest) == 1


async def test_what_nobody_registered_is_each_pod_s_own(tmp_path: Path) -> None:
    """All unregistered calls of all pods in one row would only be in each other's way."""
    nobody = caller(IMPLICIT)
    assert nobody.registration is Registration.CLAIMED
    async with pods_on_server(tmp_path) as pods, pods.pod("a") as a, pods.pod("b") as b:
        first = await a.calls.reserve("c", nobody, checked(STOCK))
        second = await b.calls.reserve("d", nobody, checked(STOCK))
        assert (first.seq, second.seq, second.history.untrusted_read) == (1, 1, True)


async def test_idle_conversations_leave_memory_and_come_back_as_they_were(tmp_path: Path) -> None:
    async with pods_on_server(tmp_path) as pods, pods.pod(in_memory=3) as store:
        callers = [await register(store) for _ in range(20)]
        for who in callers:
            await run(store, who, checked(STOCK))
        assert store.in_memory <= 4
        for who in callers:
            assert (await store.calls.reserve(fresh("c"), who, checked(STOCK))).seq == 2


async def test_a_field_that_this_version_does_not_know_refuses_also_in_a_row_of_its_own_format(tmp_path: Path) -> None:
    """A version that forgets to count the format on is no crash of ours, and passes nothing over."""
    async with pods_on_server(tmp_path) as pods, pods.pod() as store:
        who, other = await register(store), await register(store)
        pods.rewrite_later(store.link.seal.name("talk", who.conversation).decode(), format_=FORMAT)
        for _ in range(2):
            with refusing(Code.STATE_UNAVAILABLE):
                await store.calls.reserve("c", who, checked(STOCK))
            await run(store, other, checked(STOCK))


async def test_what_a_step_refuses_leaves_nothing_behind(tmp_path: Path) -> None:
    async with pods_on_server(tmp_path) as pods, pods.pod() as store:
        with refusing(Code.UNKNOWN_CONVERSATION):
            await store.calls.reserve("c", caller("never-heard-of"), checked(STOCK))
        what = checked(STOCK)
        await store.calls.settle(
            terminal("c", caller("never-heard-of"), what, outcome="refused", ok=False, code="denied"), durable=False
        )
        assert await store.conversations.conversation(conversation_id="never-heard-of") is None
        assert pods.server.command("EXISTS", store.link.seal.name("talk", "never-heard-of").decode()) == b":0\r\n"
