"""Contract of port Conversations: who is bound to what, and what is stopped, whatever the store."""

from dataclasses import replace
from datetime import timedelta

import pytest

from proxy.errors import Code
from proxy.model import Principal
from tests.contracts.store_kit import Place, refusing, register, run
from tests.contracts.store_values import AGENT, NOON, caller, checked, principal, registered, tool

STOCK = tool("get_stock", labels=["quantities"])


class ConversationsContract:
    """Every store passes these."""

    async def test_a_conversation_is_found_by_id_and_by_handle_also_after_a_restart(self, place: Place) -> None:
        made = registered("talk", profile="careful")
        async with place.opened() as store:
            assert await store.conversations.register(made) == made
        async with place.opened() as store:
            assert await store.conversations.conversation(conversation_id="talk") == made
            assert await store.conversations.conversation(handle_hash=made.handle_hash) == made
            assert await store.conversations.conversation(conversation_id="other") is None
            assert await store.conversations.conversation(handle_hash="other") is None

    async def test_another_principal_cannot_take_an_id(self, place: Place) -> None:
        async with place.opened() as store:
            await store.conversations.register(registered("talk"))
            with refusing(Code.CONFLICTING_CONVERSATION):
                await store.conversations.register(registered("talk", "eve"))
            found = await store.conversations.conversation(conversation_id="talk")
            assert found is not None
            assert found.principal == principal("ada")

    async def test_another_agent_cannot_take_an_id_but_a_new_pod_can_go_on(self, place: Place) -> None:
        async with place.opened() as store:
            await store.conversations.register(registered("talk"))
            with refusing(Code.CONFLICTING_CONVERSATION):
                await store.conversations.register(registered("talk", agent=replace(AGENT, service_account="other")))
            await store.conversations.register(registered("talk", agent=replace(AGENT, pod="buyer-1")))

    async def test_a_refresh_changes_roles_and_handle_counts_turns_and_keeps_what_was_read(self, place: Place) -> None:
        async with place.opened() as store:
            who = await register(store, "talk")
            await run(store, who, checked(STOCK))
            fewer = Principal(issuer=who.principal.issuer, subject="ada", roles=())
            later = NOON + timedelta(minutes=5)
            refreshed = registered("talk", principal=fewer, handle_hash="new", registered_at=later, turns=3)
            found = await store.conversations.register(refreshed)
            assert (found.principal.roles, found.handle_hash, found.turns, found.registered_at) == ((), "new", 3, NOON)
            assert (await store.conversations.register(replace(refreshed, turns=1))).turns == 3
            assert await store.conversations.conversation(handle_hash="hash-of-talk") is None
            assert await store.conversations.conversation(handle_hash="new") == found
            facts = await store.calls.reserve("c", who, checked(STOCK))
            assert "label:quantities" in facts.history.marks

    async def test_a_handle_belongs_to_one_conversation(self, place: Place) -> None:
        async with place.opened() as store:
            await store.conversations.register(registered("talk"))
            with refusing(Code.CONFLICTING_CONVERSATION):
                await store.conversations.register(registered("other", handle_hash="hash-of-talk"))

    async def test_an_expired_conversation_is_a_tombstone_and_never_clean_again(self, place: Place) -> None:
        async with place.opened() as store:
            await run(store, await register(store, "talk"), checked(STOCK))
        place.clock.advance(9 * 3600)
        async with place.opened() as store:
            found = await store.conversations.conversation(conversation_id="talk")
            assert found is not None
            assert found.expires_at < place.clock.now()
            with refusing(Code.CONFLICTING_CONVERSATION):
                later = place.clock.now() + timedelta(hours=1)
                await store.conversations.register(registered("talk", "eve", expires_at=later))
            await store.conversations.register(registered("talk", expires_at=later))
            facts = await store.calls.reserve("c", caller("talk"), checked(STOCK))
            assert "label:quantities" in facts.history.marks

    async def test_an_expired_token_registers_nothing(self, place: Place) -> None:
        async with place.opened() as store:
            with refusing(Code.CONVERSATION_EXPIRED):
                await store.conversations.register(registered("talk", expires_at=NOON))
            assert await store.conversations.conversation(conversation_id="talk") is None

    @pytest.mark.parametrize("name", ["", "~implicit", "a/b", "a b", "a\n", "é", "x" * 129], ids=repr)
    async def test_odd_ids_are_refused(self, place: Place, name: str) -> None:
        async with place.opened() as store:
            with refusing(Code.INVALID_CALL):
                await store.conversations.register(registered(name))
            assert await store.conversations.conversation(conversation_id=name) is None

    @pytest.mark.parametrize(
        ("scope", "name"),
        [
            ("all", None),
            ("conversation", "talk"),
            ("principal", "https://id.shop.test#ada"),
            ("principal", "ada"),
            ("agent", "shop/buyer"),
            ("agent", "buyer-0"),
            ("tool", "get_stock"),
            ("system", "stock"),
        ],
    )
    async def test_a_stop_stands_also_after_a_restart_until_it_is_lifted(
        self, place: Place, scope: str, name: str | None
    ) -> None:
        switch = {"scope": scope, "name": name, "by": "olga"}
        async with place.opened() as store:
            who = await register(store, "talk")
            assert store.conversations.stopped(who, checked(STOCK)) is None
            await store.conversations.throw(switch, standing=True)
        async with place.opened() as store:
            assert "stopped" in str(store.conversations.stopped(who, checked(STOCK)))
            await store.conversations.throw(switch, standing=False)
            assert store.conversations.stopped(who, checked(STOCK)) is None
        async with place.opened() as store:
            assert store.conversations.stopped(who, checked(STOCK)) is None

    async def test_a_stop_concerns_only_what_it_names(self, place: Place) -> None:
        async with place.opened() as store:
            who = await register(store, "talk")
            for scope in ("conversation", "principal", "agent", "tool", "system"):
                await store.conversations.throw({"scope": scope, "name": "another"}, standing=True)
            await store.conversations.throw({"scope": "tool", "name": "get_stock"}, standing=True)
            assert store.conversations.stopped(who, checked(tool("get_prices"))) is None
            assert store.conversations.stopped(who, None) is None

    @pytest.mark.parametrize(
        "switch", [{}, {"scope": "world", "name": "x"}, {"scope": "tool"}, {"scope": "tool", "name": 1}]
    )
    async def test_a_stop_that_names_nothing_known_is_refused(self, place: Place, switch: dict[str, object]) -> None:
        async with place.opened() as store:
            with refusing(Code.INVALID_CALL):
                await store.conversations.throw(switch, standing=True)
