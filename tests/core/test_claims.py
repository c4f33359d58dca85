"""Claims of tokens whose signature has been verified."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from proxy.core.claims import ClaimNames, IssuerRules, check_issuer, principal, read_claims, segments
from proxy.errors import Code, Refusal
from proxy.model import Principal

NOW = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)
SECONDS = int(NOW.timestamp())
RULES = IssuerRules(issuer="https://id", audience=("sidegate", "gate-2"), algorithms=("ES256",))
CLAIMS: dict[str, Any] = {"iss": "https://id", "aud": "sidegate", "sub": "ben", "exp": SECONDS + 60}


def read(rules: IssuerRules = RULES, **claims: Any) -> Principal:
    return principal(CLAIMS | claims, rules, NOW)


def test_claims_become_a_principal_by_the_issuers_mapping() -> None:
    rules = IssuerRules(
        issuer="https://id",
        audience=("sidegate",),
        algorithms=("ES256",),
        claims=ClaimNames(
            roles="https://corp.example/roles",
            tenant="org.id",
            name="preferred_username",
            attributes={"domain": "hd", "sites": "org.sites", "absent": "org.absent"},
        ),
    )
    person = read(
        rules,
        **{"https://corp.example/roles": ["buyer", "lead"]},
        org={"id": "acme", "sites": ["a", "b"]},
        hd="acme.example",
        preferred_username="Ben",
        act={"sub": "agent-7", "act": {"sub": "portal"}},
        auth_time=SECONDS - 600,
    )
    assert person == Principal(
        issuer="https://id",
        subject="ben",
        name="Ben",
        tenant="acme",
        roles=("buyer", "lead"),
        attributes={"domain": "acme.example", "sites": ["a", "b"]},
        actors=("agent-7", "portal"),
        authenticated_at=NOW - timedelta(seconds=600),
        expires_at=NOW + timedelta(seconds=60),
    )


def test_what_a_token_does_not_say_is_nothing() -> None:
    person = read()
    assert (person.name, person.tenant, person.roles, person.actors, person.authenticated_at) == (
        None,
        None,
        (),
        (),
        None,
    )


def test_roles_may_be_one_text_with_spaces_as_scopes_are() -> None:
    assert read(realm_access={"roles": "a  b"}).roles == ("a", "b")


def test_a_name_is_shown_without_what_could_change_how_it_reads() -> None:
    assert read(name="Be\u202en\x1b[31m").name == "Ben[31m"
    assert read(name=5).name is None
    assert read(name="\n").name is None


@pytest.mark.parametrize("audience", ["sidegate", "gate-2", ["other", "gate-2"]])
def test_any_configured_audience_serves(audience: Any) -> None:
    assert read(aud=audience).subject == "ben"


@pytest.mark.parametrize(
    ("claims", "problem"),
    [
        ({"iss": "https://id/"}, "another issuer"),
        ({"iss": None}, "another issuer"),
        ({"iss": ["https://id"]}, "another issuer"),
        ({"aud": "SIDEGATE"}, "another audience"),
        ({"aud": "sidegate gate-2"}, "another audience"),
        ({"aud": []}, "another audience"),
        ({"aud": None}, "another audience"),
        ({"aud": {"sidegate": 1}}, "another audience"),
        ({"aud": [["sidegate"]]}, "another audience"),
        ({"sub": None}, "no subject"),
        ({"sub": ""}, "sub is not a text"),
        ({"sub": 5}, "sub is not a text"),
        ({"sub": "a\nb"}, "sub is not a text"),
        ({"sub": "x" * 513}, "sub is not a text"),
        ({"exp": None}, "no end"),
        ({"exp": SECONDS - 30}, "expired"),
        ({"exp": str(SECONDS + 60)}, "exp is not a date"),
        ({"exp": True}, "exp is not a date"),
        ({"exp": -1}, "exp is not a date"),
        ({"exp": 10**300}, "exp is not a date"),
        ({"exp": 1e308}, "exp is not a date"),
        ({"nbf": SECONDS + 31}, "not valid yet"),
        ({"nbf": "now"}, "nbf is not a date"),
        ({"iat": SECONDS + 31}, "in the future"),
        ({"iat": []}, "iat is not a date"),
        ({"auth_time": "x"}, "auth_time is not a date"),
        ({"realm_access": {"roles": {"buyer": True}}}, "roles are not a list"),
        ({"realm_access": {"roles": ["buyer", 1]}}, "roles are not a list"),
        ({"realm_access": {"roles": ["buyer", ""]}}, "roles are not a list"),
        ({"realm_access": {"roles": [None]}}, "roles are not a list"),
        ({"realm_access": {"roles": 7}}, "roles are not a list"),
        ({"tenant": 5}, "tenant is not a text"),
        ({"tenant": ""}, "tenant is not a text"),
        ({"tenant": ["a"]}, "tenant is not a text"),
        ({"act": "agent"}, "act chain"),
        ({"act": {}}, "act chain"),
        ({"act": {"sub": "a", "act": []}}, "act chain"),
        ({"act": {"sub": 1}}, "act is not a text"),
    ],
)
def test_a_claim_that_is_missing_or_of_the_wrong_kind_is_refused(claims: dict[str, Any], problem: str) -> None:
    with pytest.raises(Refusal, match=problem) as refused:
        read(**claims)
    assert refused.value.code == Code.UNAUTHENTICATED


def test_times_are_those_of_the_given_clock_with_leeway_at_both_ends() -> None:
    assert read(exp=SECONDS - 29, nbf=SECONDS + 30, iat=SECONDS + 30).subject == "ben"
    exact = IssuerRules(issuer="https://id", audience=("sidegate",), algorithms=("ES256",), leeway=0)
    assert read(exact, exp=SECONDS + 0.5).expires_at == NOW + timedelta(seconds=0.5)
    for claims in ({"exp": SECONDS}, {"nbf": SECONDS + 1}, {"iat": SECONDS + 1}):
        with pytest.raises(Refusal):
            read(exact, **claims)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"audience": ()}, "needs an audience"),
        ({"audience": ("a", "")}, "needs an audience"),
        ({"algorithms": ()}, "algorithms must be"),
        ({"algorithms": ("HS256",)}, "algorithms must be"),
        ({"leeway": -1.0}, "leeway"),
        ({"leeway": 301.0}, "leeway"),
        ({"leeway": float("nan")}, "leeway"),
        ({"issuer": ""}, "without #"),
    ],
)
def test_rules_that_protect_nothing_cannot_be_made(change: dict[str, Any], problem: str) -> None:
    given = {"issuer": "https://id", "audience": ("sidegate",), "algorithms": ("ES256",)}
    with pytest.raises(ValueError, match=problem):
        IssuerRules(**given | change)


def test_no_two_issuers_can_make_one_principal_id_and_none_can_be_the_sidecars_own() -> None:
    for issuer in ("a#b", "sidegate", "sidegate/prober", "sidegate#x", "x" * 513):
        with pytest.raises(ValueError):
            check_issuer(issuer)
    check_issuer("sidegate.example")


def test_claims_are_read_by_the_strict_reader() -> None:
    for text in (b'{"a": 1, "a": 2}', b'{"a": NaN}', b"[1]", b"\xff", b"{", b"[" * 1000):
        with pytest.raises(Refusal) as refused:
            read_claims(text)
        assert refused.value.code == Code.UNAUTHENTICATED
    assert read_claims(b'{"exp": 12345678901234567890}') == {"exp": 12345678901234567890}


def test_segments_are_three_of_base64url_without_padding() -> None:
    assert segments("e30.e30.AA") == (b"{}", b"{}")
    for token in (
        "e30.e30",
        "e30.e30.",
        "e30=.e30.AA",
        "e30.e30.AA\n",
        " e30.e30.AA",
        "e+0.e30.AA",
        "e.e30.AA",
        "e30.e30.AA.AA",
    ):
        with pytest.raises(Refusal, match="segments"):
            segments(token)


@pytest.mark.parametrize("value", [5, True, "", "a\nb", {"a": "b"}, ["a", 1], [["a"]], 10**300])
def test_an_attribute_is_a_text_or_a_list_of_texts(value: Any) -> None:
    rules = IssuerRules(
        issuer="https://id",
        audience=("sidegate",),
        algorithms=("ES256",),
        claims=ClaimNames(attributes={"domain": "hd"}),
    )
    with pytest.raises(Refusal, match="attribute domain is neither"):
        read(rules, hd=value)
