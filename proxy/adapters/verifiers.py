"""Token verifiers as the settings name them.

What verifies signatures is imported where it is needed: PyJWT and cryptography take 50 ms of a start.
"""

from typing import TYPE_CHECKING

import aiohttp

from proxy.adapters.token_file import TokenFile
from proxy.core import claims
from proxy.core.claims import ClaimNames, IssuerRules
from proxy.errors import Code, Refusal
from proxy.model import Principal
from proxy.ports import Clock, TokenVerifier
from proxy.settings import Issuer as IssuerSettings
from proxy.settings import Settings, Tokens

if TYPE_CHECKING:
    from proxy.adapters.jwks import Keys
    from proxy.adapters.signed_tokens import AttestationVerifier, Issuer

ATTESTATION_ALGORITHMS = ("ES256", "RS256", "EdDSA")


class ChainedVerifier:
    """TokenVerifier that tells opaque tokens from JWTs by their shape, so that exactly one verifier sees a token."""

    def __init__(self, *, opaque: TokenVerifier | None, jwts: TokenVerifier | None) -> None:
        self._opaque = opaque
        self._jwts = jwts

    async def verify(self, token: str) -> Principal:
        """See TokenVerifier."""
        verifier = self._jwts if claims.is_jwt(token) else self._opaque
        if verifier is None:
            raise claims.refused("tokens of this kind are not accepted here")
        return await verifier.verify(token)


class ReviewersAlone:
    """TokenVerifier of the review port. A token that the agent port takes, too (a copied line, a JWT with both audiences), is no
    reviewer's: whoever holds it could be the agent (design section 12)."""

    def __init__(self, reviewers: TokenVerifier, users: TokenVerifier) -> None:
        self._reviewers = reviewers
        self._users = users

    async def verify(self, token: str) -> Principal:
        """See TokenVerifier. While it cannot be told whether a user has it, nobody has."""
        reviewer = await self._reviewers.verify(token)
        try:
            await self._users.verify(token)
        except Refusal as no:
            if no.code is Code.UNAUTHENTICATED:
                return reviewer
            raise
        raise claims.refused("this token is a user's on the agent port, too")


def verifier(tokens: Tokens, session: aiohttp.ClientSession, clock: Clock) -> ChainedVerifier:
    """Opaque tokens and JWTs side by side. Raises UnusableFileError or ValueError for what can never work."""
    opaque = None
    if tokens.file is not None:
        opaque = TokenFile(tokens.file, clock)
        opaque.check()
    jwts = None
    if tokens.issuers:
        from proxy.adapters.signed_tokens import JwtVerifier

        jwts = JwtVerifier([_issuer(issuer, session, clock) for issuer in tokens.issuers], clock)
    return ChainedVerifier(opaque=opaque, jwts=jwts)


def attestations(settings: Settings, clock: Clock) -> "AttestationVerifier | None":
    """Who vouches for registered text; None where registration is claimed."""
    if settings.registration != "attested" or settings.attestation is None:
        return None
    from proxy.adapters.jwks import FileKeys
    from proxy.adapters.signed_tokens import AttestationVerifier

    keys = FileKeys(settings.attestation, clock)
    keys.check()
    return AttestationVerifier(keys, ATTESTATION_ALGORITHMS, clock)


def _issuer(given: IssuerSettings, session: aiohttp.ClientSession, clock: Clock) -> "Issuer":
    from proxy.adapters.signed_tokens import Issuer

    rules = IssuerRules(
        issuer=given.issuer,
        audience=(given.audience,),
        algorithms=given.algorithms,
        claims=ClaimNames(**given.claims),
    )
    return Issuer(rules=rules, keys=_keys(given, session, clock))


def _keys(given: IssuerSettings, session: aiohttp.ClientSession, clock: Clock) -> "Keys":
    from proxy.adapters.jwks import FileKeys, UrlKeys

    if given.jwks_file is not None:
        keys = FileKeys(given.jwks_file, clock)
        keys.check()
        return keys
    if given.jwks_url is None:
        raise ValueError(f"issuer {given.issuer} needs jwks_url or jwks_file")
    return UrlKeys(given.jwks_url, session, clock)
