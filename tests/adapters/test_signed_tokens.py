"""JWTs against real keys: what an issuer signed, what it did not, and what only looks signed."""

import base64
import hashlib
import hmac
import json
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from proxy.adapters.jwks import FileKeys
from proxy.adapters.signed_tokens import MAX_REMEMBERED, AttestationVerifier, ChainedVerifier, Issuer, JwtVerifier
from proxy.core.claims import IssuerRules
from proxy.errors import Code, Refusal
from proxy.model import Principal
from tests.contracts.tokens import (
    CANARY,
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

ISSUER = "https://id.example"
CLAIMS: dict[str, Any] = {
    "iss": ISSUER,
    "aud": "sidegate",
    "sub": f"{CANARY}-subject",
    "exp": seconds(plus=3600),
    "realm_access": {"roles": ["buyer"]},
}
ALGORITHMS = ("ES256", "RS256", "PS256", "EdDSA")
KEYS = (public(EC_KEY, "k1"), public(RSA_KEY, "rsa"), public(ED_KEY, "ed"))


def encoded(value: Mapping[str, Any] | bytes) -> str:
    text = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(text).rstrip(b"=").decode()


def handmade(header: Mapping[str, Any], claims: Mapping[str, Any], secret: bytes | None = None) -> str:
    """A token with any header, signed with HMAC where there is a secret."""
    text = f"{encoded(header)}.{encoded(claims)}"
    return f"{text}.{encoded(b'' if secret is None else hmac.digest(secret, text.encode(), 'sha256'))}"


class Verifying:
    """A verifier of one issuer with keys in a file, and its clock."""

    def __init__(self, tmp_path: Path, *keys: Mapping[str, Any], issuer: str = ISSUER) -> None:
        self.clock = ManualClock()
        self.path = tmp_path / "jwks.json"
        self.path.write_bytes(key_set(*(keys or KEYS)))
        self.keys = FileKeys(self.path, self.clock)
        rules = IssuerRules(issuer=issuer, audience=("sidegate",), algorithms=ALGORITHMS)
        self.verifier = JwtVerifier([Issuer(rules=rules, keys=self.keys)], self.clock)

    async def refusal(self, token: str) -> Refusal:
        with pytest.raises(Refusal) as refused:
            await self.verifier.verify(token)
        assert refused.value.code == Code.UNAUTHENTICATED
        assert_tells_nothing_of(token, refused.value)
        return refused.value


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


async def test_none_is_no_algorithm(verifying: Verifying) -> None:
    for name in ("none", "None", "NONE", ""):
        token = handmade({"alg": name, "kid": "k1"}, CLAIMS)
        assert "segments" in (await verifying.refusal(token)).message
        assert "algorithm" in (await verifying.refusal(token + "AA")).message


async def test_a_public_key_is_no_shared_secret(verifying: Verifying) -> None:
    forms = [
        RSA_KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
        RSA_KEY.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        json.dumps(public(RSA_KEY, "rsa")).encode(),
    ]
    for secret in forms:
        token = handmade({"alg": "HS256", "kid": "rsa"}, CLAIMS, secret)
        assert "algorithm" in (await verifying.refusal(token)).message


def test_symmetric_algorithms_and_none_cannot_be_configured() -> None:
    for algorithm in ("HS256", "HS512", "none", "ES256K", "RSA1_5"):
        with pytest.raises(ValueError, match="algorithms must be"):
            IssuerRules(issuer=ISSUER, audience=("sidegate",), algorithms=("ES256", algorithm))


async def test_an_algorithm_is_accepted_only_from_the_issuers_list_and_only_by_a_key_of_its_type(
    verifying: Verifying,
) -> None:
    assert "algorithm" in (await verifying.refusal(signed(CLAIMS, RSA_KEY, "RS512", "rsa"))).message
    assert "no key" in (await verifying.refusal(signed(CLAIMS, RSA_KEY, "RS256", "k1"))).message
    assert "no key" in (await verifying.refusal(signed(CLAIMS, EC_KEY, "ES256", "rsa"))).message


@pytest.mark.parametrize(
    "key_id",
    ["unknown", "../../../etc/passwd", "' OR 1=1 --", "K1", " k1", "k1\0", "http://evil.example/k1", "a" * 600],
)
async def test_a_key_id_is_only_ever_compared(verifying: Verifying, key_id: str) -> None:
    await verifying.refusal(signed(CLAIMS, key_id=key_id))
    await verifying.refusal(signed(CLAIMS, OTHER_KEY, key_id=key_id))


async def test_a_key_id_that_is_no_text_is_refused(verifying: Verifying) -> None:
    for key_id in (1, ["k1"], {"k1": 1}, True, ""):
        text = f"{encoded({'alg': 'ES256', 'kid': key_id})}.{encoded(CLAIMS)}"
        assert "names its key" in (await verifying.refusal(text + "." + "A" * 86)).message


async def test_keys_and_addresses_of_keys_in_the_header_are_ignored(verifying: Verifying) -> None:
    for header in (
        {"jwk": public(OTHER_KEY, "k1")},
        {"jku": "http://127.0.0.1:1/keys"},
        {"x5u": "http://127.0.0.1:1/cert"},
        {"x5c": ["MIIB"]},
    ):
        assert "no key" in (await verifying.refusal(signed(CLAIMS, OTHER_KEY, **header))).message
        assert (await verifying.verifier.verify(signed(CLAIMS, **header))).roles == ("buyer",)


async def test_critical_header_parameters_and_other_types_are_refused(verifying: Verifying) -> None:
    headers: list[dict[str, Any]] = [
        {"crit": ["exp"], "exp": 1},
        {"crit": []},
        {"crit": ["b64"], "b64": True},
        {"b64": False},
    ]
    for header in headers:
        text = f"{encoded({'alg': 'ES256', 'kid': 'k1', **header})}.{encoded(CLAIMS)}"
        assert "critical" in (await verifying.refusal(text + "." + "A" * 86)).message
    for kind in ("logout+jwt", "dpop+jwt", "", "JOSE"):
        text = f"{encoded({'alg': 'ES256', 'kid': 'k1', 'typ': kind})}.{encoded(CLAIMS)}"
        assert "type" in (await verifying.refusal(text + "." + "A" * 86)).message


async def test_a_weak_rsa_key_verifies_nothing(tmp_path: Path) -> None:
    weak = rsa.generate_private_key(public_exponent=65537, key_size=1024)
    verifying = Verifying(tmp_path, public(weak, "weak"))
    text = f"{encoded({'alg': 'RS256', 'kid': 'weak'})}.{encoded(CLAIMS)}"
    signature = encoded(weak.sign(text.encode(), PKCS1v15(), SHA256()))
    assert "no key" in (await verifying.refusal(f"{text}.{signature}")).message


async def test_signed_claims_with_a_key_twice_are_refused(verifying: Verifying) -> None:
    text = json.dumps(CLAIMS)[:-1] + ', "sub": "admin"}'
    assert "twice" in (await verifying.refusal(signed(text.encode()))).message
    assert "JSON" in (await verifying.refusal(signed(b"[]"))).message


async def test_a_token_over_16_kib_is_refused_whoever_signed_it(verifying: Verifying) -> None:
    assert "longer" in (await verifying.refusal(signed(CLAIMS | {"pad": "x" * 13_000}))).message


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
