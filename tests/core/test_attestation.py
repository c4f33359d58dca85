"""What an attestation must say, and that it counts once."""

import hashlib
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from proxy.core.attestation import Attestation, SpentAttestations, check_attestation, read_attestation
from proxy.errors import Code, Refusal

NOW = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)
SECONDS = int(NOW.timestamp())
TEXT = "buy 5 Äpfel"
CLAIMS: dict[str, Any] = {
    "conversation": "c1",
    "principal": "iss#ben",
    "turn": 1,
    "sha256": hashlib.sha256(TEXT.encode()).hexdigest(),
    "iat": SECONDS,
    "exp": SECONDS + 60,
    "jti": "j1",
}
GOOD = Attestation(
    conversation="c1",
    principal="iss#ben",
    turn=1,
    sha256=CLAIMS["sha256"],
    profile=None,
    jti="j1",
    expires_at=NOW + timedelta(seconds=60),
)
MEANT: dict[str, Any] = {"conversation": "c1", "principal": "iss#ben", "turn": 1, "text": TEXT, "profile": None}


def read(claims: dict[str, Any]) -> Attestation:
    return read_attestation(json.dumps(claims).encode(), NOW, 30.0)


def test_the_claims_are_read_as_they_are() -> None:
    assert read(CLAIMS) == GOOD
    assert read(CLAIMS | {"profile": "night"}) == replace(GOOD, profile="night")
    check_attestation(GOOD, **MEANT)


@pytest.mark.parametrize("missing", sorted(CLAIMS))
def test_every_claim_is_needed(missing: str) -> None:
    with pytest.raises(Refusal, match="exactly the claims"):
        read({name: value for name, value in CLAIMS.items() if name != missing})


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"aud": "x"}, "exactly the claims"),
        ({"turn": "1"}, "whole number"),
        ({"turn": True}, "whole number"),
        ({"turn": 1.0}, "whole number"),
        ({"sha256": CLAIMS["sha256"].upper()}, "sha256"),
        ({"sha256": ""}, "sha256"),
        ({"sha256": None}, "sha256"),
        ({"conversation": ""}, "conversation is not a text"),
        ({"principal": ["iss#ben"]}, "principal is not a text"),
        ({"profile": None}, "profile is not a text"),
        ({"jti": 5}, "jti is not a text"),
        ({"jti": "j" * 1025}, "jti is not a text"),
        ({"exp": None}, "no end"),
        ({"exp": SECONDS - 31, "iat": SECONDS - 60}, "expired"),
        ({"iat": None}, "at most 3600 seconds"),
        ({"iat": SECONDS + 31}, "in the future"),
        ({"exp": SECONDS + 3601}, "at most 3600 seconds"),
        ({"exp": SECONDS, "iat": SECONDS + 10}, "at most 3600 seconds"),
    ],
)
def test_a_claim_that_is_wrong_is_refused(change: dict[str, Any], problem: str) -> None:
    with pytest.raises(Refusal, match=problem) as refused:
        read(CLAIMS | change)
    assert refused.value.code == Code.UNAUTHENTICATED


@pytest.mark.parametrize(
    ("other", "problem"),
    [
        ({"conversation": "c2"}, "another conversation"),
        ({"principal": "iss#eve"}, "another principal"),
        ({"turn": 2}, "next turn"),
        ({"turn": 0}, "next turn"),
        ({"text": TEXT + " "}, "another text"),
        ({"profile": "night"}, "another profile"),
    ],
)
def test_it_is_about_this_text_of_this_turn_of_this_principals_conversation(
    other: dict[str, Any], problem: str
) -> None:
    with pytest.raises(Refusal, match=problem) as refused:
        check_attestation(GOOD, **MEANT | other)
    assert refused.value.code == Code.UNAUTHENTICATED


def test_each_is_used_once_until_it_has_ended() -> None:
    spent = SpentAttestations()
    spent.spend(GOOD, NOW, GOOD.expires_at)
    with pytest.raises(Refusal, match="used before"):
        spent.spend(GOOD, NOW + timedelta(seconds=59), GOOD.expires_at)


def test_the_memory_is_bounded_and_full_means_no() -> None:
    spent = SpentAttestations(limit=3)
    for number in range(3):
        spent.spend(replace(GOOD, jti=f"n{number}"), NOW, GOOD.expires_at)
    with pytest.raises(Refusal) as refused:
        spent.spend(replace(GOOD, jti="n3"), NOW, GOOD.expires_at)
    assert refused.value.code == Code.OVERLOADED
    with pytest.raises(Refusal, match="used before"):
        spent.spend(replace(GOOD, jti="n0"), NOW, GOOD.expires_at)
    spent.spend(replace(GOOD, jti="n3"), GOOD.expires_at, GOOD.expires_at + timedelta(seconds=60))
