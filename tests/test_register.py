"""Registering conversations and turns, claimed and attested."""

import asyncio
import hashlib
import json
from dataclasses import replace
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from proxy.adapters.jwks import FileKeys
from proxy.adapters.signed_tokens import AttestationVerifier
from proxy.core.identity import hash_handle
from proxy.core.registry import Registered
from proxy.errors import Code, Refusal
from proxy.identify import Identify
from proxy.model import Agent, Presented, Principal, Registration
from proxy.register import MAX_AGE, Registrar, Turn, read_turn
from tests.contracts.registered import MemoryConversations, NamedTokens
from tests.contracts.tokens import (
    EC_KEY,
    OTHER_KEY,
    START,
    ManualClock,
    assert_tells_nothing_of,
    key_set,
    public,
    seconds,
    signed,
)

AGENT = Agent(namespace="shop", service_account="buyer-agent", pod="p1")
BEN = Principal(issuer="id", subject="ben", tenant="acme", roles=("buyer",), expires_at=START + timedelta(hours=1))
BOT = Principal(issuer="id", subject="bot")


class Office:
    """A registrar with Ben's and the bot's tokens."""

    def __init__(self, keys: Path | None = None) -> None:
        self.clock = ManualClock()
        self.tokens = NamedTokens({"ben": BEN, "ann": replace(BEN, subject="ann"), "bot": BOT})
        self.store = MemoryConversations()
        self.identify = Identify(conversations=self.store, tokens=self.tokens, clock=self.clock, agent=AGENT)
        self.handles = (f"{number:043d}" for number in count())
        self.registrar = Registrar(
            identify=self.identify,
            attestations=None
            if keys is None
            else AttestationVerifier(FileKeys(keys, self.clock), ["ES256"], self.clock),
            mint=lambda: next(self.handles),
        )

    async def put(
        self, name: str = "c1", token: str | None = "ben", handle: str | None = None, **body: Any
    ) -> tuple[str, Registered]:
        return await self.registrar.register(name, token, json.dumps(body).encode(), handle=handle)

    async def post(
        self, name: str = "c1", handle: str | None = None, token: str | None = None, **body: Any
    ) -> Registered:
        presented = Presented(handle=handle, token=token)
        return await self.registrar.add_request(name, presented, json.dumps(body).encode())


@pytest.fixture
def office() -> Office:
    return Office()


@pytest.fixture
def attested(tmp_path: Path) -> Office:
    path = tmp_path / "jwks.json"
    path.write_bytes(key_set(public(EC_KEY, "k1")))
    return Office(path)


def attestation(text: str, turn: int, jti: str, key: Any = EC_KEY, **change: Any) -> str:
    claims = {
        "conversation": "c1",
        "principal": "id#ben",
        "turn": turn,
        "sha256": hashlib.sha256(text.encode()).hexdigest(),
        "iat": seconds(),
        "exp": seconds(plus=300),
        "jti": jti,
    }
    return signed(claims | change, key)


async def refused(awaitable: Any, code: Code) -> Refusal:
    with pytest.raises(Refusal) as refusal:
        await awaitable
    assert refusal.value.code == code, refusal.value
    return refusal.value


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


async def test_where_claims_are_believed_an_attestation_is_not_quietly_ignored(office: Office) -> None:
    await refused(office.put(text="hello", attestation=attestation("hello", 1, "j1")), Code.INVALID_CALL)


async def test_an_attested_text_counts(attested: Office) -> None:
    handle, registered = await attested.put(text="hello", attestation=attestation("hello", 1, "j1"))
    assert (registered.registration, registered.turns) == (Registration.ATTESTED, 1)
    registered = await attested.post(handle=handle, text="more", attestation=attestation("more", 2, "j2"))
    assert (registered.registration, registered.turns) == (Registration.ATTESTED, 2)
    _, registered = await attested.put()
    assert (registered.registration, registered.turns) == (Registration.ATTESTED, 2)


async def test_nothing_fresh_begins_without_an_attestation(attested: Office) -> None:
    await refused(attested.put(), Code.INVALID_CALL)
    await refused(attested.put(quoted="mail"), Code.INVALID_CALL)
    await refused(attested.put(text="hello"), Code.UNAUTHENTICATED)
    await refused(attested.put(attestation=attestation("", 1, "j1")), Code.INVALID_CALL)
    assert attested.store.known == {}


@pytest.mark.parametrize(
    ("text", "change"),
    [
        ("other", {}),
        ("hello", {"conversation": "c2"}),
        ("hello", {"principal": "id#ann"}),
        ("hello", {"principal": "ben"}),
        ("hello", {"turn": 2}),
        ("hello", {"turn": 0}),
        ("hello", {"profile": "night"}),
        ("hello", {"exp": seconds(plus=-31), "iat": seconds(plus=-60)}),
        ("hello", {"key": OTHER_KEY}),
    ],
)
async def test_an_attestation_that_is_not_for_this_turn_changes_nothing(
    attested: Office, text: str, change: dict[str, Any]
) -> None:
    change = dict(change)
    jws = attestation("hello", change.pop("turn", 1), "j1", change.pop("key", EC_KEY), **change)
    refusal = await refused(attested.put(text=text, attestation=jws), Code.UNAUTHENTICATED)
    assert_tells_nothing_of(jws, refusal)
    assert attested.store.known == {}


async def test_a_profile_counts_only_as_attested(attested: Office) -> None:
    plain = attestation("hello", 1, "j1")
    await refused(attested.put(text="hello", profile="night", attestation=plain), Code.UNAUTHENTICATED)
    signed_profile = attestation("hello", 1, "j2", profile="night")
    _, registered = await attested.put(text="hello", profile="night", attestation=signed_profile)
    assert registered.profile == "night"


async def test_an_attestation_cannot_be_replayed_nor_a_turn_left_out_or_repeated(attested: Office) -> None:
    first = attestation("hello", 1, "j1")
    handle, _ = await attested.put(text="hello", attestation=first)
    await refused(attested.post(handle=handle, text="hello", attestation=first), Code.UNAUTHENTICATED)
    same_jti = attestation("again", 2, "j1")
    refusal = await refused(attested.post(handle=handle, text="again", attestation=same_jti), Code.UNAUTHENTICATED)
    assert "used before" in refusal.message
    skipped = attestation("again", 3, "j3")
    await refused(attested.post(handle=handle, text="again", attestation=skipped), Code.UNAUTHENTICATED)
    assert attested.store.known["c1"].turns == 1


async def test_what_began_as_claimed_does_not_become_attested(attested: Office) -> None:
    claimed = Registrar(identify=attested.identify)
    await claimed.register("c1", "ben", b'{"text": "an alibi"}')
    _, registered = await attested.put(text="hello", attestation=attestation("hello", 2, "j2"))
    assert registered.registration is Registration.CLAIMED
