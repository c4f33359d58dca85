"""Registering conversations and turns on the word of the agent's application."""

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest

from proxy.core.identity import hash_handle
from proxy.core.registry import Registered
from proxy.errors import Code, Refusal
from proxy.model import Agent, Presented, Registration
from proxy.register import MAX_AGE, Registrar, Turn, read_turn
from tests.contracts.office import AGENT, BEN, Office, refused
from tests.contracts.registered import MemoryConversations
from tests.contracts.tokens import START


@pytest.fixture
def office() -> Office:
    return Office()


async def test_registering_binds_id_principal_and_agent_and_keeps_only_the_handles_hash(office: Office) -> None:
    handle, registered = await office.put(text="hello", profile="day")
    assert registered == Registered(
        conversation="c1",
        handle_hash=hash_handle(handle),
        principal=BEN,
        agent=AGENT,
        registration=Registration.CLAIMED,
        profile="day",
        turns=1,
        registered_at=START,
        expires_at=START + timedelta(hours=1),
    )
    assert office.store.known == {"c1": registered}
    assert handle not in repr(registered)
    assert (await office.identify(Presented(handle=handle))).principal == BEN


async def test_handles_have_256_random_bits() -> None:
    office = Office()
    registrar = Registrar(identify=office.identify)
    handles = {(await registrar.register(f"c{n}", "ben", b"{}"))[0] for n in range(50)}
    assert len(handles) == 50
    assert {len(handle) for handle in handles} == {43}


async def test_a_token_without_end_gives_a_registration_with_one(office: Office) -> None:
    _, registered = await office.put(token="bot")
    assert registered.expires_at == START + timedelta(seconds=MAX_AGE)


async def test_a_token_in_its_last_seconds_of_leeway_registers_nothing(office: Office) -> None:
    office.clock.move(3600)
    await refused(office.put(), Code.UNAUTHENTICATED)
    assert office.store.known == {}


async def test_a_refresh_takes_new_roles_and_end_and_ends_the_old_handle(office: Office) -> None:
    first, before = await office.put(text="hello", profile="day")
    later = replace(BEN, roles=("lead",), expires_at=START + timedelta(hours=9))
    office.tokens.principals["ben"] = later
    office.clock.move(2 * 3600)
    second, registered = await office.put()
    assert registered == replace(
        before, handle_hash=hash_handle(second), principal=later, expires_at=START + timedelta(hours=9)
    )
    assert (await office.identify(Presented(handle=second))).principal.roles == ("lead",)
    await refused(office.identify(Presented(handle=first)), Code.UNKNOWN_CONVERSATION)


async def test_a_refresh_that_presents_its_handle_keeps_it(office: Office) -> None:
    handle, before = await office.put()
    assert await office.put(handle=handle) == (handle, before)


async def test_a_refresh_with_another_handle_is_refused(office: Office) -> None:
    await office.put()
    other, _ = await office.put("c2")
    await refused(office.put(handle=other), Code.CONFLICTING_CONVERSATION)
    await refused(office.put("new", handle=other), Code.CONFLICTING_CONVERSATION)
    await refused(office.put(handle="unknown"), Code.CONFLICTING_CONVERSATION)


async def test_a_second_principal_tenant_or_agent_on_one_id_is_a_conflict(office: Office) -> None:
    _, before = await office.put()
    await refused(office.put(token="ann"), Code.CONFLICTING_CONVERSATION)
    office.tokens.principals["ben"] = replace(BEN, tenant="other")
    await refused(office.put(), Code.CONFLICTING_CONVERSATION)
    office.tokens.principals["ben"] = BEN
    elsewhere = Registrar(identify=replace(office.identify, agent=Agent(service_account="other")))
    await refused(elsewhere.register("c1", "ben", b"{}"), Code.CONFLICTING_CONVERSATION)
    assert office.store.known == {"c1": before}
    office.clock.move(3 * 3600)
    office.tokens.principals["ann"] = replace(BEN, subject="ann", expires_at=START + timedelta(hours=9))
    await refused(office.put(token="ann"), Code.CONFLICTING_CONVERSATION)


async def test_the_profile_is_bound_with_the_conversation(office: Office) -> None:
    handle, _ = await office.put(profile="day")
    await refused(office.put(profile="night"), Code.CONFLICTING_CONVERSATION)
    await refused(office.post(handle=handle, text="x", profile="night"), Code.CONFLICTING_CONVERSATION)
    assert (await office.post(handle=handle, text="x", profile="day")).profile == "day"
    await office.put("plain")
    await refused(office.put("plain", profile="night"), Code.CONFLICTING_CONVERSATION)


async def test_registering_needs_a_good_token(office: Office) -> None:
    await refused(office.put(token=None), Code.UNAUTHENTICATED)
    await refused(office.put(token="forged"), Code.UNAUTHENTICATED)
    assert office.store.known == {}


@pytest.mark.parametrize("name", ["", "~implicit", "a b", "x" * 129, "a/b", "ä"])
async def test_ids_have_their_characters(office: Office, name: str) -> None:
    await refused(office.put(name), Code.INVALID_CALL)
    await refused(office.post(name, token="ben", text="x"), Code.INVALID_CALL)


async def test_each_text_is_a_turn_and_quoted_content_alone_is_none(office: Office) -> None:
    handle, registered = await office.put()
    assert registered.turns == 0
    assert (await office.post(handle=handle, text="one")).turns == 1
    assert (await office.post(token="ben", text="two", quoted="mail")).turns == 2
    assert (await office.post(handle=handle, quoted="mail")).turns == 2
    refreshed = (await office.put(text="three"))[1]
    assert refreshed.turns == 3


async def test_texts_at_the_same_time_are_each_a_turn(office: Office) -> None:
    class Slow(MemoryConversations):
        async def register(self, registered: Registered) -> Registered:
            await asyncio.sleep(0)
            return await super().register(registered)

    slow = Slow()
    registrar = Registrar(identify=replace(office.identify, conversations=slow))
    await registrar.register("c1", "ben", b"{}")
    adding = [registrar.add_request("c1", Presented(token="ben"), b'{"text": "x"}') for _ in range(10)]
    assert sorted(one.turns for one in await asyncio.gather(*adding)) == list(range(1, 11))
    assert len(registrar._locks) == 0


async def test_a_turn_needs_proof_of_the_conversation_in_the_path(office: Office) -> None:
    handle, _ = await office.put()
    await office.put("c2")
    await refused(office.post("c1", text="x"), Code.UNAUTHENTICATED)
    await refused(office.post("c2", handle=handle, text="x"), Code.CONFLICTING_CONVERSATION)
    await refused(office.post("c1", token="ann", text="x"), Code.UNKNOWN_CONVERSATION)
    await refused(office.post("absent", token="ben", text="x"), Code.UNKNOWN_CONVERSATION)
    body, both = b'{"text": "x"}', Presented(token="ben", conversation="c2")
    await refused(office.registrar.add_request("c1", both, body), Code.CONFLICTING_CONVERSATION)
    await refused(office.post(handle=handle), Code.INVALID_CALL)
    office.clock.move(3600)
    await refused(office.post(handle=handle, text="x"), Code.CONVERSATION_EXPIRED)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", Code.INVALID_JSON),
        (b"{", Code.INVALID_JSON),
        (b'{"text": "a", "text": "b"}', Code.INVALID_JSON),
        (b"[]", Code.INVALID_CALL),
        (b"null", Code.INVALID_CALL),
        (b'{"Text": "a"}', Code.INVALID_CALL),
        (b'{"roles": ["admin"]}', Code.INVALID_CALL),
        (b'{"principal": "ann"}', Code.INVALID_CALL),
        (b'{"text": ["a"]}', Code.INVALID_CALL),
        (b'{"text": 5}', Code.INVALID_CALL),
        (b'{"text": ""}', Code.INVALID_CALL),
        (b'{"text": null}', Code.INVALID_CALL),
        (b'{"quoted": {}}', Code.INVALID_CALL),
        (b'{"profile": "a b"}', Code.INVALID_CALL),
        (b'{"profile": "%s"}' % (b"x" * 65), Code.INVALID_CALL),
    ],
)
def test_the_body_is_closed_and_strict(body: bytes, code: Code) -> None:
    with pytest.raises(Refusal) as refusal:
        read_turn(body)
    assert refusal.value.code == code


def test_a_turn_is_read_as_it_is() -> None:
    assert read_turn(b"{}") == Turn()
    text = b'{"text": "a", "quoted": "b", "profile": "p", "attestation": "j"}'
    assert read_turn(text) == Turn(text="a", quoted="b", profile="p", attestation="j")


async def test_quoted_text_is_remembered_at_registration_and_at_every_later_turn(office: Office) -> None:
    handle, registered = await office.put(text="hello")
    assert not registered.quoted
    later = await office.registrar.add_request("c1", Presented(handle=handle), b'{"text": "see", "quoted": "a mail"}')
    assert later.quoted
    _, again = await office.put(text="more")
    assert again.quoted
