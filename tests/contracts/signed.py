"""A verifier of one issuer on real keys, and tokens made by hand."""

import base64
import hmac
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from proxy.adapters.jwks import FileKeys
from proxy.adapters.signed_tokens import Issuer, JwtVerifier
from proxy.core.claims import IssuerRules
from proxy.errors import Code, Refusal
from tests.contracts.tokens import (
    CANARY,
    EC_KEY,
    ED_KEY,
    RSA_KEY,
    ManualClock,
    assert_tells_nothing_of,
    key_set,
    public,
    seconds,
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
