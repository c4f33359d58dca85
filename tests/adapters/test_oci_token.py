"""Challenges of registries, answered at their token services, or not at all."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence

import aiohttp
import pytest
import pytest_asyncio
from yarl import URL

from proxy.adapters.archive import ArchiveError
from proxy.adapters.oci_token import exchanged, led_to
from proxy.core.oci_reference import read_reference
from tests.adapters.registry_stub import Answer, StubRegistry, saying, stub_registry

REMOTE = read_reference("oci://registry.example/p:1")


@pytest_asyncio.fixture
async def registry() -> AsyncIterator[StubRegistry]:
    async with stub_registry() as stub:
        stub.answers["/token"] = saying(body=b'{"token": "t0ken"}')
        yield stub


async def answered(
    registry: StubRegistry, challenges: Sequence[str], headers: Mapping[str, str]
) -> dict[str, str] | None:
    async with aiohttp.ClientSession() as session, asyncio.timeout(10):
        return await exchanged(session, registry.reference, challenges, headers)


@pytest.mark.parametrize(
    "challenges",
    [
        ['Bearer realm="{}/token"'],
        ['bearer  scope="repository:other:push,pull", REALM = "{}/token",error="invalid_token"'],
        ['Basic realm="x"', 'Bearer realm="{}/token"'],
        ['Basic realm="x", Bearer realm="{}/token"'],
    ],
)
async def test_a_challenge_is_found_however_it_is_written(registry: StubRegistry, challenges: list[str]) -> None:
    """The right that is asked for is ours to choose; where there is no credential, none is shown."""
    headers = await answered(registry, [one.replace("{}", registry.url) for one in challenges], {})
    assert headers == {"Authorization": "Bearer t0ken"}
    (asked,) = registry.asked
    assert dict(asked.rel_url.query) == {"scope": "repository:team/p:pull"}
    assert "Authorization" not in asked.headers


async def test_a_realm_keeps_its_query_and_the_older_name_of_the_token_is_known(registry: StubRegistry) -> None:
    registry.answers["/token"] = saying(body=b'{"access_token": "older"}')
    headers = await answered(registry, [f'Bearer realm="{registry.url}/token?a=b"'], {"authorization": "Basic x"})
    assert headers == {"Authorization": "Bearer older"}
    assert dict(registry.asked[0].rel_url.query) == {"a": "b", "scope": "repository:team/p:pull"}


@pytest.mark.parametrize("challenges", [[], ['Basic realm="x"'], ["Negotiate"], ['Digest realm="Bearer"']])
async def test_without_a_challenge_for_a_token_there_is_none(registry: StubRegistry, challenges: list[str]) -> None:
    assert await answered(registry, challenges, {}) is None
    assert registry.asked == []


@pytest.mark.parametrize(
    "realm", ["http://127.0.0.1.example/token", "ftp://127.0.0.1/", "http://u:p@127.0.0.1/", "http://["]
)
async def test_a_credential_is_not_taken_to_where_others_listen(registry: StubRegistry, realm: str) -> None:
    with pytest.raises(ArchiveError, match="a token service that has no https address"):
        await answered(registry, [f'Bearer realm="{realm}"'], {"Authorization": "Basic x"})


@pytest.mark.parametrize(
    ("answer", "wanted"),
    [
        (saying(401), "status 401: does the credential"),
        (saying(302, Location="/elsewhere"), "status 302"),
        (saying(body=b"<html>"), "gave no token"),
        (saying(body=b"[]"), "gave no token"),
        (saying(body=b"{}"), "gave no token"),
        (saying(body=b'{"token": 1}'), "gave no token"),
        (saying(body=b'{"token": "a\\r\\nb"}'), "gave no token"),
        (saying(body=b" " * 65537), "is larger than 65536 bytes"),
    ],
)
async def test_a_token_service_that_gives_no_token_is_told(registry: StubRegistry, answer: Answer, wanted: str) -> None:
    registry.answers["/token"] = answer
    with pytest.raises(ArchiveError, match=wanted):
        await answered(registry, [f'Bearer realm="{registry.url}/token"'], {})
    assert len(registry.asked) == 1


@pytest.mark.parametrize(
    ("place", "wanted"),
    [
        ("https://auth.example/token", "https://auth.example/token"),
        ("/token", "https://registry.example/token"),
        ("http://registry.example/token", None),
        ("http://127.0.0.1:8900/", None),
        ("http://[::1]/", None),
        ("https://u@auth.example/", None),
    ],
)
def test_a_registry_elsewhere_leads_nowhere_but_over_https(place: str, wanted: str | None) -> None:
    """And never to what listens on this machine."""
    assert led_to(URL(REMOTE.base), place, REMOTE) == (None if wanted is None else URL(wanted))


@pytest.mark.parametrize(
    "place", ["http://127.0.0.1:5/t", "http://localhost/t", "http://[::1]:5/t", "https://a.example/t"]
)
def test_a_registry_on_loopback_may_lead_to_loopback(place: str) -> None:
    local = read_reference("oci://[::1]:5000/p:1")
    assert led_to(URL(local.base), place, local) == URL(place)
