"""Token verifiers as the settings name them."""

import aiohttp

from proxy.adapters.jwks import FileKeys, Keys, UrlKeys
from proxy.adapters.signed_tokens import AttestationVerifier, ChainedVerifier, Issuer, JwtVerifier
from proxy.adapters.token_file import TokenFile
from proxy.core.claims import ClaimNames, IssuerRules
from proxy.ports import Clock
from proxy.settings import Issuer as IssuerSettings
from proxy.settings import Settings, Tokens

ATTESTATION_ALGORITHMS = ("ES256", "RS256", "EdDSA")


def verifier(tokens: Tokens, session: aiohttp.ClientSession, clock: Clock) -> ChainedVerifier:
    """Opaque tokens and JWTs side by side. Raises UnusableFileError or ValueError for what can never work."""
    opaque = None
    if tokens.file is not None:
        opaque = TokenFile(tokens.file, clock)
        opaque.check()
    jwts = None
    if tokens.issuers:
        jwts = JwtVerifier([_issuer(issuer, session, clock) for issuer in tokens.issuers], clock)
    return ChainedVerifier(opaque=opaque, jwts=jwts)


def attestations(settings: Settings, clock: Clock) -> AttestationVerifier | None:
    """Who vouches for registered text; None where registration is claimed."""
    if settings.registration != "attested" or settings.attestation is None:
        return None
    keys = FileKeys(settings.attestation, clock)
    keys.check()
    return AttestationVerifier(keys, ATTESTATION_ALGORITHMS, clock)


def _issuer(given: IssuerSettings, session: aiohttp.ClientSession, clock: Clock) -> Issuer:
    rules = IssuerRules(
        issuer=given.issuer,
        audience=(given.audience,),
        algorithms=given.algorithms,
        claims=ClaimNames(**given.claims),
    )
    return Issuer(rules=rules, keys=_keys(given, session, clock))


def _keys(given: IssuerSettings, session: aiohttp.ClientSession, clock: Clock) -> Keys:
    if given.jwks_file is not None:
        keys = FileKeys(given.jwks_file, clock)
        keys.check()
        return keys
    if given.jwks_url is None:
        raise ValueError(f"issuer {given.issuer} needs jwks_url or jwks_file")
    return UrlKeys(given.jwks_url, session, clock)
