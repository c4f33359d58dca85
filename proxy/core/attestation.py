"""Attested registration: an application key, which the agent's container does not hold, vouches for the user's text (design 7)."""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from proxy.core.claims import check_times, read_claims, refused
from proxy.errors import Code, Refusal

MAX_SECONDS = 3600  # between iat and exp: the memory of used ones must be able to forget
MAX_SPENT = 100_000

_WHAT = "attestation"
_REQUIRED = frozenset({"conversation", "principal", "turn", "sha256", "iat", "exp", "jti"})
_OPTIONAL = frozenset({"profile"})
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Attestation:
    """The claims of a verified attestation. `principal` is issuer#subject, `sha256` of the text as UTF-8, in hex."""

    conversation: str
    principal: str
    turn: int
    sha256: str
    profile: str | None
    jti: str
    expires_at: datetime


def read_attestation(payload: bytes, now: datetime, leeway: float) -> Attestation:
    """Read the payload of a JWS whose signature has been verified. Raises Refusal unauthenticated."""
    claims = read_claims(payload, _WHAT)
    if not _REQUIRED <= set(claims) <= _REQUIRED | _OPTIONAL:
        raise refused(f"an attestation has exactly the claims {', '.join(sorted(_REQUIRED))}, and perhaps profile")
    expires_at = check_times(claims, now=now, leeway=leeway, what=_WHAT)
    if claims["iat"] is None or not 0 < claims["exp"] - claims["iat"] <= MAX_SECONDS:
        raise refused(f"an attestation lives at most {MAX_SECONDS} seconds after its iat")
    turn, sha256 = claims["turn"], claims["sha256"]
    if type(turn) is not int:
        raise refused("the attestation's turn is not a whole number")
    if not isinstance(sha256, str) or _SHA256.fullmatch(sha256) is None:
        raise refused("the attestation's sha256 is not 64 lower-case hexadecimal digits")
    return Attestation(
        conversation=_text(claims, "conversation"),
        principal=_text(claims, "principal"),
        turn=turn,
        sha256=sha256,
        profile=_text(claims, "profile") if "profile" in claims else None,
        jti=_text(claims, "jti"),
        expires_at=expires_at,
    )


def check_attestation(
    attestation: Attestation, *, conversation: str, principal: str, turn: int, text: str, profile: str | None
) -> None:
    """Raise Refusal unauthenticated unless the attestation is about this very text, as the conversation's next turn."""
    if attestation.conversation != conversation:
        raise refused("the attestation is for another conversation")
    if attestation.principal != principal:
        raise refused("the attestation is for another principal")
    if attestation.turn != turn:
        raise refused(f"the attestation is not for the next turn of the conversation, which is {turn}")
    if attestation.sha256 != hashlib.sha256(text.encode()).hexdigest():
        raise refused("the attestation is for another text")
    if attestation.profile != profile:
        raise refused("the attestation is for another profile")


class SpentAttestations:
    """Which attestations (by jti) have been used, until they expire. Over `limit` live ones nothing more is accepted."""

    def __init__(self, limit: int = MAX_SPENT) -> None:
        self._limit = limit
        self._until: dict[str, datetime] = {}

    def spend(self, attestation: Attestation, now: datetime, until: datetime) -> None:
        """Use it up, before anything else is done with it. Raises Refusal unauthenticated if that has happened before."""
        if len(self._until) >= self._limit:
            self._until = {jti: end for jti, end in self._until.items() if end > now}
        if attestation.jti in self._until:
            raise refused("the attestation has been used before: each text needs one of its own")
        if len(self._until) >= self._limit:
            raise Refusal(Code.OVERLOADED, "too many attestations at once", fix="try again later")
        self._until[attestation.jti] = until


def _text(claims: Mapping[str, Any], name: str) -> str:
    value = claims[name]
    if not isinstance(value, str) or not 0 < len(value) <= 1024:
        raise refused(f"the attestation's {name} is not a text of 1 to 1024 characters")
    return value
