"""A conversation that one pod registered is known to all; a forged handle lets nobody in."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from proxy.adapters.store_valkey_talks import FRESH
from proxy.core.policy_input import timestamp
from proxy.errors import Code
from tests.adapters.valkey_rig import pods_on_server
from tests.contracts.store_kit import refusing, register
from tests.contracts.store_values import NOON, caller, checked, registered, tool

STOCK = tool("get_stock")


async def test_a_handle_given_by_one_pod_serves_in_all_until_it_is_replaced_in_any(tmp_path: Path) -> None:
    async with pods_on_server(tmp_path) as pods, pods.pod("a") as a, pods.pod("b") as b:
        made = await a.conversations.register(registered("talk"))
        for _ in range(2):  # the second time from memory
            assert await b.conversations.conversation(handle_hash=made.handle_hash) == made
        pods.clock.advance(FRESH)
        refreshed = await a.conversations.register(replace(made, handle_hash="new"))
        assert await b.conversations.conversation(handle_hash=made.handle_hash) is None
        assert await b.conversations.conversation(handle_hash="new") == refreshed


async def test_a_caller_that_was_known_from_memory_reserves_nothing_once_it_was_registered_anew(tmp_path: Path) -> None:
    """Roles may be fewer by now: the call is refused, and the next one is identified by what is registered."""
    async with pods_on_server(tmp_path) as pods, pods.pod("a") as a, pods.pod("b") as b:
        made = await a.conversations.register(registered("talk"))
        assert await b.conversations.conversation(conversation_id="talk") == made
        fewer = replace(made, principal=replace(made.principal, roles=()))
        await a.conversations.register(fewer)
        assert await b.conversations.conversation(conversation_id="talk") == made
        with refusing(Code.STATE_UNAVAILABLE):
            await b.calls.reserve("c", caller("talk"), checked(STOCK))
        assert await b.conversations.conversation(conversation_id="talk") == fewer


async def test_of_two_users_that_register_one_id_in_two_pods_one_gets_it(tmp_path: Path) -> None:
    async with pods_on_server(tmp_path) as pods, pods.pod("a") as a, pods.pod("b") as b:
        await a.conversations.register(registered("talk"))
        with refusing(Code.CONFLICTING_CONVERSATION):
            await b.conversations.register(registered("talk", "eve", handle_hash="evil"))


async def test_a_forged_handle_leads_nowhere(tmp_path: Path) -> None:
    """The row names the handle, not the key that leads to it."""
    async with pods_on_server(tmp_path) as pods, pods.pod() as store:
        await store.conversations.register(registered("talk"))
        pods.server.command("SET", store.link.seal.name("handle", "forged").decode(), "talk")
        assert await store.conversations.conversation(handle_hash="forged") is None


async def test_a_handle_is_kept_for_a_while_after_its_end_so_that_its_bearer_is_told(tmp_path: Path) -> None:
    async with pods_on_server(tmp_path) as pods, pods.pod() as store:
        made = await store.conversations.register(registered("talk", expires_at=NOON + timedelta(hours=1)))
        left = pods.server.command("TTL", store.link.seal.name("handle", made.handle_hash).decode())
        assert 30 * 86400 < int(left[1:]) <= 30 * 86400 + 3600


async def test_switches_thrown_in_two_pods_all_stand(tmp_path: Path) -> None:
    """Neither overwrites the other's."""
    async with pods_on_server(tmp_path) as pods, pods.pod("a") as a, pods.pod("b") as b:
        for number in range(5):
            for store, name in ((a, "a"), (b, "b")):
                await store.conversations.throw({"scope": "tool", "name": f"{name}{number}"}, standing=True)
        await a.conversations.throw({"scope": "tool", "name": "b0"}, standing=False)
        assert len(a.switches) == 9
        assert {switch["since"] for switch in a.switches.values()} == {timestamp(pods.clock.now())}
        who = await register(a)
        await a.calls.reserve("c", who, checked(STOCK))
