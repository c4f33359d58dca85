"""Registering conversations and turns where an application key must vouch for the text."""

import hashlib
from pathlib import Path
from typing import Any

import pytest

from proxy.errors import Code
from proxy.model import Registration
from proxy.register import Registrar
from tests.contracts.office import Office, refused
from tests.contracts.tokens import EC_KEY, OTHER_KEY, assert_tells_nothing_of, key_set, public, seconds, signed


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


async def test_where_claims_are_believed_an_attestation_is_not_quietly_ignored() -> None:
    office = Office()
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
