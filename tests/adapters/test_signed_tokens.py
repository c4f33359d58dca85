"""JWTs against real keys: what an issuer signed, for how long it is believed, and attestations."""

import hashlib
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from proxy.adapters.jwks import FileKeys
from proxy.adapters.signed_tokens import MAX_REMEMBERED, AttestationVerifier, Issuer, JwtVerifier
from proxy.adapters.verifiers import ChainedVerifier
from proxy.core.claims import IssuerRules
from proxy.errors import Code, Refusal
from proxy.model import Principal
from tests.contracts.signed import CLAIMS, ISSUER, Verifying, handmade
from tests.contracts.tokens import (
    EC_KEY,
    ED_KEY,
    OTHER_KEY,
    RSA_KEY,
    START,
    Given,
    ManualClock,
    TokenVerifierContract,
    assert_tells_nothing_of,
    key_set,
    public,
    seconds,
    signed,
)


@pytest.fixture
def verifying(tmp_path: Path) -> Verifying:
    return Verifying(tmp_path)


class TestJwtVerifier(TokenVerifierContract):
    @pytest.fixture
    def given(self, verifying: Verifying) -> Given:
        end = START + timedelta(hours=1)
        principal = Principal(issuer=ISSUER, subject=CLAIMS["sub"], roles=("buyer",), expires_at=end)
        return Given(
            verifier=verifying.verifier,
            token=signed(CLAIMS),
            principal=principal,
            clock=verifying.clock,
            bad={
                "other audience": signed(CLAIMS | {"aud": "other"}),
                "no audience": signed({key: CLAIMS[key] for key in CLAIMS if key != "aud"}),
                "other issuer": signed(CLAIMS | {"iss": "https://evil.example"}),
                "no issuer": signed({key: CLAIMS[key] for key in CLAIMS if key != "iss"}),
                "no end": signed({key: CLAIMS[key] for key in CLAIMS if key != "exp"}),
                "not yet valid": signed(CLAIMS | {"nbf": seconds(plus=31)}),
                "of the future": signed(CLAIMS | {"iat": seconds(plus=31)}),
                "expired": signed(CLAIMS | {"exp": seconds(plus=-30)}),
                "a JWE": signed(CLAIMS) + ".x.y",
            },
        )


class TestChainedVerifier(TestJwtVerifier):
    @pytest.fixture
    def given(self, verifying: Verifying) -> Given:
        given = TestJwtVerifier.given.__wrapped__(self, verifying)  # type: ignore[attr-defined]  # the fixture's function
        given.verifier = ChainedVerifier(opaque=None, jwts=given.verifier)
        assert isinstance(given, Given)
        return given


@pytest.mark.parametrize(
    ("key", "algorithm", "key_id"),
    [(EC_KEY, "ES256", "k1"), (RSA_KEY, "RS256", "rsa"), (RSA_KEY, "PS256", "rsa"), (ED_KEY, "EdDSA", "ed")],
)
async def test_each_accepted_algorithm_verifies(verifying: Verifying, key: Any, algorithm: str, key_id: str) -> None:
    assert (await verifying.verifier.verify(signed(CLAIMS, key, algorithm, key_id))).roles == ("buyer",)
    assert (await verifying.verifier.verify(signed(CLAIMS, key, algorithm, key_id, typ="at+jwt"))).roles == ("buyer",)


async def test_clocks_may_differ_by_half_a_minute(verifying: Verifying) -> None:
    early = CLAIMS | {"nbf": seconds(plus=30), "iat": seconds(plus=30)}
    assert (await verifying.verifier.verify(signed(early))).subject
    late = CLAIMS | {"exp": seconds(plus=-29)}
    assert (await verifying.verifier.verify(signed(late))).subject


async def test_a_withdrawn_key_ends_within_a_minute_although_tokens_are_remembered(verifying: Verifying) -> None:
    token = signed(CLAIMS)
    await verifying.verifier.verify(token)
    verifying.path.write_bytes(key_set(public(OTHER_KEY, "k2")))
    verifying.clock.move(59)
    await verifying.verifier.verify(token)
    verifying.clock.move(1)
    assert "no key" in (await verifying.refusal(token)).message


async def test_a_remembered_token_does_not_outlive_its_end(verifying: Verifying) -> None:
    token = signed(CLAIMS | {"exp": seconds(plus=10)})
    await verifying.verifier.verify(token)
    verifying.clock.move(39)
    await verifying.verifier.verify(token)
    verifying.clock.move(1)
    assert "expired" in (await verifying.refusal(token)).message


async def test_the_memory_of_tokens_is_bounded(verifying: Verifying) -> None:
    verifier = verifying.verifier
    token = signed(CLAIMS)
    principal = await verifier.verify(token)
    for number in range(MAX_REMEMBERED + 10):
        verifier._remember(number.to_bytes(32, "big"), principal, 30.0)
    assert len(verifier._remembered) == MAX_REMEMBERED
    assert await verifier.verify(token) == principal


async def test_the_token_that_was_not_used_for_longest_is_forgotten_first(verifying: Verifying) -> None:
    verifier = verifying.verifier
    principal = await verifier.verify(signed(CLAIMS))
    for number in range(MAX_REMEMBERED):
        verifier._recall((0).to_bytes(32, "big"))
        verifier._remember(number.to_bytes(32, "big"), principal, 30.0)
    verifier._recall((0).to_bytes(32, "big"))
    verifier._remember(b"one more", principal, 30.0)
    assert verifier._recall((0).to_bytes(32, "big")) == principal
    assert verifier._recall((1).to_bytes(32, "big")) is None


async def test_each_issuers_keys_vouch_for_that_issuer_alone(tmp_path: Path) -> None:
    clock = ManualClock()
    issuers = []
    for name, key in (("one", EC_KEY), ("two", OTHER_KEY)):
        path = tmp_path / name
        path.write_bytes(key_set(public(key, "k1")))
        rules = IssuerRules(issuer=name, audience=("sidegate",), algorithms=("ES256",))
        issuers.append(Issuer(rules=rules, keys=FileKeys(path, clock)))
    verifier = JwtVerifier(issuers, clock)
    assert (await verifier.verify(signed(CLAIMS | {"iss": "one"}, EC_KEY))).issuer == "one"
    assert (await verifier.verify(signed(CLAIMS | {"iss": "two"}, OTHER_KEY))).issuer == "two"
    for name, key in (("one", OTHER_KEY), ("two", EC_KEY)):
        with pytest.raises(Refusal, match="no key"):
            await verifier.verify(signed(CLAIMS | {"iss": name}, key))
    with pytest.raises(ValueError, match="twice"):
        JwtVerifier([issuers[0], issuers[0]], clock)


class Asked:
    """A TokenVerifier that notes what it is asked."""

    def __init__(self) -> None:
        self.tokens: list[str] = []

    async def verify(self, token: str) -> Principal:
        self.tokens.append(token)
        return Principal(issuer="i", subject="s")


async def test_exactly_one_verifier_sees_a_token_by_its_shape() -> None:
    opaque, jwts = Asked(), Asked()
    chained = ChainedVerifier(opaque=opaque, jwts=jwts)
    for token in ("abc", "a.b.c", "a.b", "a.b.c.d.e"):
        await chained.verify(token)
    assert (opaque.tokens, jwts.tokens) == (["abc", "a.b", "a.b.c.d.e"], ["a.b.c"])
    with pytest.raises(Refusal, match="not accepted here"):
        await ChainedVerifier(opaque=None, jwts=jwts).verify("abc")
    with pytest.raises(Refusal, match="not accepted here"):
        await ChainedVerifier(opaque=opaque, jwts=None).verify("a.b.c")


ATTESTED: dict[str, Any] = {
    "conversation": "c1",
    "principal": f"{ISSUER}#ben",
    "turn": 1,
    "sha256": hashlib.sha256(b"hello").hexdigest(),
    "iat": seconds(),
    "exp": seconds(plus=300),
    "jti": "j1",
}


def test_attestations_are_asymmetric_signatures(verifying: Verifying) -> None:
    for algorithms in (["HS256"], ["none"], []):
        with pytest.raises(ValueError, match="algorithms must be"):
            AttestationVerifier(verifying.keys, algorithms, verifying.clock)


async def test_an_attestation_counts_once_and_only_by_the_application_key(verifying: Verifying) -> None:
    verifier = AttestationVerifier(verifying.keys, ["ES256"], verifying.clock)
    attestation = await verifier.attest(signed(ATTESTED))
    assert (attestation.conversation, attestation.turn, attestation.jti) == ("c1", 1, "j1")
    verifier.spend(attestation)
    with pytest.raises(Refusal, match="used before"):
        verifier.spend(await verifier.attest(signed(ATTESTED)))
    for forged in (
        signed(ATTESTED, OTHER_KEY),
        signed(ATTESTED, RSA_KEY, "RS256", "rsa"),
        handmade({"alg": "none"}, ATTESTED) + "AA",
        signed(CLAIMS),
    ):
        with pytest.raises(Refusal) as refused:
            await verifier.attest(forged)
        assert refused.value.code == Code.UNAUTHENTICATED
        assert_tells_nothing_of(forged, refused.value)
    verifying.clock.move(330)
    with pytest.raises(Refusal, match="expired"):
        await verifier.attest(signed(ATTESTED))
