"""JWTs against real keys: what only looks signed."""

import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from proxy.core.claims import IssuerRules
from tests.contracts.signed import CLAIMS, ISSUER, Verifying, encoded, handmade
from tests.contracts.tokens import (
    EC_KEY,
    OTHER_KEY,
    RSA_KEY,
    public,
    signed,
)


@pytest.fixture
def verifying(tmp_path: Path) -> Verifying:
    return Verifying(tmp_path)


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
