"""Verifying JSON Web Tokens: users' tokens of configured issuers, attestations of an application key.

PyJWT verifies the signature and nothing else. Times are checked against our Clock by core.claims.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import jwt

from proxy.adapters.jwks import Keys
from proxy.core import claims
from proxy.core.attestation import Attestation, SpentAttestations, read_attestation
from proxy.model import Principal
from proxy.ports import Clock

REMEMBER = 60.0  # seconds that a verified token is believed without a look at the keys: how long a withdrawn key may still work
MAX_REMEMBERED = 4096

_JWS = jwt.PyJWS()


@dataclass(frozen=True, slots=True, kw_only=True)
class Issuer:
    """A configured issuer: what is accepted from it, and its keys."""

    rules: claims.IssuerRules
    keys: Keys


@dataclass(frozen=True, slots=True)
class _Remembered:
    principal: Principal
    until: float  # monotonic
    ends: datetime


class JwtVerifier:
    """TokenVerifier over the JWTs of configured issuers. The issuer that a token names chooses whose keys must have signed it."""

    def __init__(self, issuers: Sequence[Issuer], clock: Clock) -> None:
        self._issuers = {issuer.rules.issuer: issuer for issuer in issuers}
        if len(self._issuers) != len(issuers):
            raise ValueError("an issuer is configured twice")
        self._clock = clock
        self._remembered: OrderedDict[bytes, _Remembered] = OrderedDict()

    async def verify(self, token: str) -> Principal:
        """See TokenVerifier."""
        key = hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
        principal = self._recall(key)
        if principal is None:
            issuer = self._issuers.get(claims.unverified_issuer(token))
            if issuer is None:
                raise claims.refused("the token is from an issuer that is not configured")
            payload = await _verified(token, issuer.rules.algorithms, issuer.keys, "token")
            principal = claims.principal(claims.read_claims(payload), issuer.rules, self._clock.now())
            self._remember(key, principal, issuer.rules.leeway)
        return principal

    def _recall(self, key: bytes) -> Principal | None:
        found = self._remembered.get(key)
        if found is None:
            return None
        if self._clock.monotonic() >= found.until or self._clock.now() >= found.ends:
            del self._remembered[key]
            return None
        self._remembered.move_to_end(key)
        return found.principal

    def _remember(self, key: bytes, principal: Principal, leeway: float) -> None:
        if principal.expires_at is None:
            return
        ends = principal.expires_at + timedelta(seconds=leeway)
        self._remembered[key] = _Remembered(principal, self._clock.monotonic() + REMEMBER, ends)
        if len(self._remembered) > MAX_REMEMBERED:
            self._remembered.popitem(last=False)


class AttestationVerifier:
    """Verifies attestations of registered text by an application key; each is accepted once."""

    def __init__(self, keys: Keys, algorithms: Sequence[str], clock: Clock, *, leeway: float = 30.0) -> None:
        claims.check_algorithms(algorithms)
        self._keys = keys
        self._algorithms = tuple(algorithms)
        self._clock = clock
        self._leeway = leeway
        self._spent = SpentAttestations()

    async def attest(self, jws: str) -> Attestation:
        """The claims of a compact JWS. Raises Refusal unauthenticated."""
        payload = await _verified(jws, self._algorithms, self._keys, "attestation")
        return read_attestation(payload, self._clock.now(), self._leeway)

    def spend(self, attestation: Attestation) -> None:
        """Use it up. Raises Refusal unauthenticated if it has been used before, overloaded if too many are remembered."""
        self._spent.spend(attestation, self._clock.now(), attestation.expires_at + timedelta(seconds=self._leeway))


async def _verified(token: str, algorithms: Sequence[str], keys: Keys, what: str) -> bytes:
    header = claims.read_header(token, algorithms, what)
    for key in await keys.find(header.key_id, header.algorithm):
        payload = _payload(token, header.algorithm, key)
        if payload is not None:
            return payload
    raise claims.refused(f"the {what}'s signature is by no key that is accepted")


def _payload(token: str, algorithm: str, key: jwt.PyJWK) -> bytes | None:
    try:
        complete = _JWS.decode_complete(
            token, key, algorithms=[algorithm], options={"verify_signature": True, "enforce_minimum_key_length": True}
        )
    except (jwt.PyJWTError, ValueError):
        return None
    payload = complete["payload"]
    return payload if isinstance(payload, bytes) else None
