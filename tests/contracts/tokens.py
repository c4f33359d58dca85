"""What every TokenVerifier keeps, with the keys, tokens and the clock that its tests need."""

import json
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from proxy.errors import Code, Refusal
from proxy.model import Principal
from proxy.ports import TokenVerifier

START = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)
CANARY = "c4n4ry"

RSA_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
EC_KEY = ec.generate_private_key(ec.SECP256R1())
ED_KEY = ed25519.Ed25519PrivateKey.generate()
OTHER_KEY = ec.generate_private_key(ec.SECP256R1())


@dataclass
class ManualClock:
    """Port Clock that only a test moves."""

    moment: datetime = START
    ticks: float = 1000.0

    def now(self) -> datetime:
        return self.moment

    def monotonic(self) -> float:
        return self.ticks

    async def sleep(self, seconds: float) -> None:
        self.move(seconds)

    def move(self, seconds: float) -> None:
        self.moment += timedelta(seconds=seconds)
        self.ticks += seconds


def public(key: Any, key_id: str | None, **more: Any) -> dict[str, Any]:
    """The public JWK of a private key."""
    kind = {rsa.RSAPrivateKey: RSAAlgorithm, ec.EllipticCurvePrivateKey: ECAlgorithm}
    algorithm: Any = next((alg for base, alg in kind.items() if isinstance(key, base)), OKPAlgorithm)
    entry: dict[str, Any] = json.loads(algorithm.to_jwk(key.public_key()))
    return entry | ({} if key_id is None else {"kid": key_id}) | more


def key_set(*entries: Mapping[str, Any]) -> bytes:
    """A JWKS document."""
    return json.dumps({"keys": entries}).encode()


def signed(
    claims: Mapping[str, Any] | bytes,
    key: Any = EC_KEY,
    algorithm: str = "ES256",
    key_id: str | None = "k1",
    **header: Any,
) -> str:
    """A compact JWS. `header` adds parameters."""
    payload = claims if isinstance(claims, bytes) else json.dumps(claims).encode()
    headers = header if key_id is None else {"kid": key_id, **header}
    return jwt.PyJWS().encode(payload, key, algorithm=algorithm, headers=headers)


def seconds(moment: datetime = START, plus: float = 0) -> int:
    """A NumericDate."""
    return int(moment.timestamp() + plus)


def texts_of(error: BaseException) -> str:
    """Everything that an exception and those before it could print, hidden ones included."""
    seen: list[str] = []
    pending: list[BaseException | None] = [error]
    while pending:
        one = pending.pop()
        if one is not None:
            details = getattr(one, "details", None), getattr(one, "fix", None)
            seen += [str(one), repr(one), repr(one.args), repr(details), *traceback.format_exception_only(one)]
            pending += [one.__cause__, one.__context__]
    return "\n".join(seen)


def assert_tells_nothing_of(token: str, error: BaseException) -> None:
    """No part of a token that could be used or recognized stands in an error."""
    text = texts_of(error)
    parts = [part for part in token.split(".") if len(part) >= 6]
    assert not [part for part in (*parts, CANARY) if part in text]


@dataclass(kw_only=True)
class Given:
    """A verifier under test, a token that it accepts, and whose it is."""

    verifier: TokenVerifier
    token: str
    principal: Principal
    clock: ManualClock
    bad: Mapping[str, str] = field(default_factory=dict)  # further tokens to be refused, by what is wrong with them


class TokenVerifierContract:
    """Subclass it with a fixture `given` of type Given. The token must end an hour after START."""

    async def test_a_good_token_names_its_principal_every_time(self, given: Given) -> None:
        assert await given.verifier.verify(given.token) == given.principal
        assert await given.verifier.verify(given.token) == given.principal

    async def test_a_token_ends(self, given: Given) -> None:
        await given.verifier.verify(given.token)
        given.clock.move(3600 + 31)
        with pytest.raises(Refusal) as refused:
            await given.verifier.verify(given.token)
        assert refused.value.code == Code.UNAUTHENTICATED
        assert "expired" in refused.value.message

    @pytest.mark.parametrize(
        "token",
        [
            "",
            " ",
            ".",
            "..",
            "a.b.c",
            "....",
            f"{CANARY}-unknown-token",
            "e30.e30.",
            "eyJhbGciOiJub25lIn0.e30.e30",
            "\0\r\n",
            "\ud800.\ud800.\ud800",
            "ä.ö.ü",
            "a" * 1_000_000,
            f"{'a' * 500_000}.{'b' * 500_000}.c",
            "[" * 10_000 + ".x.y",
        ],
        ids=range(15),
    )
    async def test_what_is_no_token_is_unauthenticated(self, given: Given, token: str) -> None:
        with pytest.raises(Refusal) as refused:
            await given.verifier.verify(token)
        assert refused.value.code == Code.UNAUTHENTICATED
        assert_tells_nothing_of(token, refused.value)

    async def test_a_token_that_differs_in_one_place_is_unauthenticated(self, given: Given) -> None:
        for place in range(0, len(given.token) - 1, 7):  # the last one holds bits that count for nothing
            if given.token[place] != ".":
                changed = given.token[:place] + ("A" if given.token[place] != "A" else "B") + given.token[place + 1 :]
                with pytest.raises(Refusal) as refused:
                    await given.verifier.verify(changed)
                assert refused.value.code == Code.UNAUTHENTICATED
                assert_tells_nothing_of(changed, refused.value)

    async def test_tokens_that_are_wrong_in_this_verifiers_own_ways_are_unauthenticated(self, given: Given) -> None:
        for why, token in given.bad.items():
            with pytest.raises(Refusal) as refused:
                await given.verifier.verify(token)
            assert refused.value.code == Code.UNAUTHENTICATED, why
            assert_tells_nothing_of(token, refused.value)
