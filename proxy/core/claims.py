"""What a signature vouches for: header and claims of a JSON Web Token, read strictly (RFC 7519, 8725, 9068)."""

import base64
import binascii
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from proxy.core import strict_json
from proxy.errors import Code, Refusal
from proxy.model import Principal

MAX_TOKEN = 16 * 1024  # characters
MAX_NAME = 512  # characters of a subject, a tenant, a name, a role

# Signatures only, each bound to its key type and curve (RFC 7518, 8037): a public key can then never serve as a shared secret.
ALGORITHMS: Mapping[str, tuple[str, str | None]] = {
    "RS256": ("RSA", None),
    "RS384": ("RSA", None),
    "RS512": ("RSA", None),
    "PS256": ("RSA", None),
    "PS384": ("RSA", None),
    "PS512": ("RSA", None),
    "ES256": ("EC", "P-256"),
    "ES384": ("EC", "P-384"),
    "ES512": ("EC", "P-521"),
    "EdDSA": ("OKP", "Ed25519"),
}
RESERVED_ISSUER = "sidegate"  # the anonymous principal's, and the prober's

_SEGMENTS = re.compile(r"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)")
_TYPES = frozenset({"jwt", "at+jwt", "application/at+jwt"})
_LAST_SECOND = 253_402_300_799  # of year 9999


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimNames:
    """Where an issuer puts what policy reads: a claim's name, or a path with dots (`realm_access.roles`). `attributes`: by the
    attribute's name."""

    roles: str = "realm_access.roles"
    tenant: str = "tenant"
    name: str = "name"
    attributes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuerRules:
    """What is accepted from one issuer; `leeway` in seconds. Raises ValueError on rules that protect nothing."""

    issuer: str
    audience: tuple[str, ...]
    algorithms: tuple[str, ...]
    claims: ClaimNames = field(default_factory=ClaimNames)
    leeway: float = 30.0

    def __post_init__(self) -> None:
        check_issuer(self.issuer)
        check_algorithms(self.algorithms)
        if not self.audience or not all(self.audience):
            raise ValueError("an issuer needs an audience: without one, tokens made for others would be accepted")
        if not 0 <= self.leeway <= 300:
            raise ValueError("leeway must be between 0 and 300 seconds")


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """The two header parameters that are read. Keys and addresses of keys (`jwk`, `jku`, `x5c`, `x5u`) are never read."""

    algorithm: str
    key_id: str | None


def check_issuer(issuer: str) -> None:
    """Raise ValueError unless `issuer` can be part of a principal's id: with a `#` two principals could have one id."""
    if not issuer or "#" in issuer or len(issuer) > MAX_NAME:
        raise ValueError("an issuer must be a text without #")
    if issuer.split("/", maxsplit=1)[0] == RESERVED_ISSUER:
        raise ValueError(f"the issuer name {RESERVED_ISSUER} is reserved")


def check_algorithms(algorithms: Sequence[str]) -> None:
    """Raise ValueError unless every algorithm is an asymmetric signature."""
    if not algorithms or not set(algorithms) <= set(ALGORITHMS):
        raise ValueError(f"algorithms must be some of {', '.join(ALGORITHMS)}")


def is_jwt(token: str) -> bool:
    """Whether a token has the shape of a compact JWS; opaque tokens hold no dots."""
    return token.count(".") == 2


def read_header(token: str, algorithms: Sequence[str], what: str = "token") -> Header:
    """The header of a compact JWS. Raises Refusal unauthenticated; `what` names the JWS in sentences."""
    header = _object(segments(token, what)[0], what)
    algorithm = header.get("alg")
    if not isinstance(algorithm, str) or algorithm not in algorithms:
        raise refused(f"the {what} is signed with an algorithm that is not accepted")
    if "crit" in header or "b64" in header:
        raise refused(f"the {what} has a critical header parameter, and none is understood")
    kind = header.get("typ", "JWT")
    if not isinstance(kind, str) or kind.lower() not in _TYPES:
        raise refused(f"the {what} is of another type than a JWT for access")
    key_id = header.get("kid")
    if key_id is not None and not _is_name(key_id):
        raise refused(f"the {what} names its key in a way that is not understood")
    return Header(algorithm=algorithm, key_id=key_id)


def unverified_issuer(token: str) -> str:
    """Whom a token says it is from: good for choosing whose keys must verify it, and for nothing else."""
    issuer = _object(segments(token)[1], "token").get("iss")
    if not isinstance(issuer, str):
        raise refused("the token names no issuer")
    return issuer


def segments(token: str, what: str = "token") -> tuple[bytes, bytes]:
    """Header and payload of a compact JWS, decoded."""
    if len(token) > MAX_TOKEN:
        raise refused(f"the {what} is longer than {MAX_TOKEN} characters")
    match = _SEGMENTS.fullmatch(token)
    if match is None:
        raise refused(f"the {what} is not three base64url segments")
    try:
        header, payload = (base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)) for part in match.groups()[:2])
    except binascii.Error:
        raise refused(f"the {what} is not three base64url segments") from None
    return header, payload


def read_claims(payload: bytes, what: str = "token") -> Mapping[str, Any]:
    """The claims of a JWS whose signature has been verified."""
    return _object(payload, what)


def principal(claims: Mapping[str, Any], rules: IssuerRules, now: datetime) -> Principal:
    """The principal of verified claims. Raises Refusal unauthenticated; `act` chain as in RFC 8693 section 4.1."""
    if claims.get("iss") != rules.issuer:
        raise refused("the token is from another issuer")
    audience = claims.get("aud")
    named = audience if isinstance(audience, list) else [audience]
    if not any(isinstance(one, str) and one in rules.audience for one in named):
        raise refused("the token was made for another audience")
    expires_at = check_times(claims, now=now, leeway=rules.leeway)
    subject = _text(claims.get("sub"), "sub")
    if subject is None:
        raise refused("the token names no subject")
    return Principal(
        issuer=rules.issuer,
        subject=subject,
        name=_shown(_find(claims, rules.claims.name)),
        tenant=_text(_find(claims, rules.claims.tenant), "tenant"),
        roles=_roles(_find(claims, rules.claims.roles)),
        attributes=_attributes(claims, rules.claims.attributes),
        actors=_actors(claims.get("act")),
        authenticated_at=_date(claims, "auth_time", "token"),
        expires_at=expires_at,
    )


def check_times(claims: Mapping[str, Any], *, now: datetime, leeway: float, what: str = "token") -> datetime:
    """Check `exp` (required), `nbf` and `iat` against `now`; returns `exp`."""
    slack = timedelta(seconds=leeway)
    expires_at = _date(claims, "exp", what)
    if expires_at is None:
        raise refused(f"the {what} has no end (exp)")
    if now >= expires_at + slack:
        raise refused(f"the {what} has expired")
    starts_at = _date(claims, "nbf", what)
    if starts_at is not None and now < starts_at - slack:
        raise refused(f"the {what} is not valid yet")
    issued_at = _date(claims, "iat", what)
    if issued_at is not None and now < issued_at - slack:
        raise refused(f"the {what} was issued in the future")
    return expires_at


def refused(why: str) -> Refusal:
    """Refusal unauthenticated. `why` never holds a part of what was presented."""
    return Refusal(Code.UNAUTHENTICATED, why, fix="register the conversation with a valid token of its user")


def _object(text: bytes, what: str) -> Mapping[str, Any]:
    try:
        values = strict_json.read_values(strict_json.write(strict_json.read_tree(text, what)))
    except Refusal as e:
        raise refused(e.message) from None
    if not isinstance(values, dict):
        raise refused(f"the {what} is not made of JSON objects")
    return values


def _date(claims: Mapping[str, Any], name: str, what: str) -> datetime | None:
    seconds = claims.get(name)
    if seconds is None:
        return None
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 <= seconds <= _LAST_SECOND:
        raise refused(f"the {what}'s {name} is not a date in seconds")
    return datetime.fromtimestamp(seconds, UTC)


def _find(claims: Mapping[str, Any], path: str) -> Any:
    # Some issuers put dots in a claim's own name (https://example.com/roles): the whole name goes first.
    if path in claims:
        return claims[path]
    found: Any = claims
    for step in path.split("."):
        found = found.get(step) if isinstance(found, dict) else None
    return found


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and 0 < len(value) <= MAX_NAME and value.isprintable()


def _text(value: Any, name: str) -> str | None:
    if value is not None and not _is_name(value):
        raise refused(f"the token's {name} is not a text of 1 to {MAX_NAME} printable characters")
    return value  # type: ignore[no-any-return]  # _is_name has seen that it is a str


def _shown(value: Any) -> str | None:
    # A name is only ever shown: joiners of some scripts and worse are left out, and nobody is refused for them.
    return "".join(filter(str.isprintable, value[:MAX_NAME])) or None if isinstance(value, str) else None


def _roles(value: Any) -> tuple[str, ...]:
    roles = value.split() if isinstance(value, str) else [] if value is None else value
    if not isinstance(roles, list) or not all(_is_name(role) for role in roles):
        raise refused("the token's roles are not a list of names")
    return tuple(roles)


def _attributes(claims: Mapping[str, Any], paths: Mapping[str, str]) -> dict[str, Any]:
    """Texts and lists of texts; an attribute that the token does not say is not there."""
    found = {name: _find(claims, path) for name, path in paths.items()}
    for name, value in found.items():
        if value is not None and not all(_is_name(text) for text in (value if isinstance(value, list) else [value])):
            raise refused(f"the token's claim for the attribute {name} is neither a text nor a list of texts")
    return {name: value for name, value in found.items() if value is not None}


def _actors(act: Any) -> tuple[str, ...]:
    actors: list[str] = []
    while act is not None:
        subject = _text(act.get("sub"), "act") if isinstance(act, dict) else None
        if subject is None:
            raise refused("the token's act chain names no subject")
        actors.append(subject)
        act = act.get("act")
    return tuple(actors)
