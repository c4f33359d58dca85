"""Keys of issuers, from files and from an endpoint that may do anything."""

import asyncio
import gzip
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import jwt
import pytest
from aiohttp import web

from proxy.adapters.jwks import BETWEEN_FETCHES, KEEP, MAX_BYTES, REFRESH_AFTER, FileKeys, UrlKeys, parse_keys
from proxy.adapters.watched_file import UnusableFileError
from proxy.errors import Code, Refusal, Retry
from tests.contracts.key_server import Answer, KeyServer, key_server
from tests.contracts.tokens import EC_KEY, ED_KEY, OTHER_KEY, RSA_KEY, ManualClock, key_set, public

ONE = key_set(public(EC_KEY, "k1"))
WAIT = 2.0  # seconds, the deadline of a fetch
BOTH = key_set(public(EC_KEY, "k1"), public(OTHER_KEY, "k2"))


class Fetched:
    """UrlKeys on a real session, with a clock and reports."""

    def __init__(self, server: KeyServer, session: aiohttp.ClientSession) -> None:
        self.server = server
        self.clock = ManualClock()
        self.reports: list[str] = []
        self.keys = UrlKeys(server.url, session, self.clock, wait=WAIT, report=self.reports.append)

    async def ids(self, key_id: str | None, algorithm: str = "ES256") -> int:
        return len(await self.keys.find(key_id, algorithm))

    async def fetch_ended(self) -> None:
        if self.keys._fetch is not None:
            await asyncio.wait([self.keys._fetch], timeout=5)


@pytest.fixture
async def fetched() -> AsyncIterator[Fetched]:
    async with key_server() as server, aiohttp.ClientSession() as session:
        fetched = Fetched(server, session)
        server.body = ONE
        yield fetched
        await fetched.keys.close()


async def test_keys_are_fetched_once_and_then_kept(fetched: Fetched) -> None:
    assert [await fetched.ids("k1") for _ in range(5)] == [1] * 5
    assert fetched.server.paths == ["/keys"]


async def test_callers_at_the_same_time_share_one_fetch(fetched: Fetched) -> None:
    assert await asyncio.gather(*(fetched.ids("k1") for _ in range(20))) == [1] * 20
    assert fetched.server.fetches == 1


async def test_a_rotated_key_is_found_by_fetching_again_at_most_once_a_minute(fetched: Fetched) -> None:
    assert await fetched.ids("k1") == 1
    assert [await fetched.ids(f"forged{n}") for n in range(20)] == [0] * 20
    assert fetched.server.fetches == 1
    fetched.server.body = BOTH
    fetched.clock.move(BETWEEN_FETCHES)
    assert await fetched.ids("k2") == 1
    assert [await fetched.ids(f"forged{n}") for n in range(20)] == [0] * 20
    assert fetched.server.fetches == 2


async def test_a_withdrawn_key_ends_with_the_next_refresh_which_nobody_waits_for(fetched: Fetched) -> None:
    assert await fetched.ids("k1") == 1
    fetched.server.body = key_set(public(OTHER_KEY, "k2"))
    fetched.clock.move(REFRESH_AFTER + 1)
    assert await fetched.ids("k1") == 1
    await fetched.fetch_ended()
    assert await fetched.ids("k1") == 0


async def test_keys_are_kept_for_an_hour_while_the_endpoint_is_down_and_no_longer(fetched: Fetched) -> None:
    assert await fetched.ids("k1") == 1

    async def down(request: web.Request) -> web.StreamResponse:
        return web.Response(status=503)

    fetched.server.answer = down
    fetched.clock.move(KEEP)
    assert await fetched.ids("k1") == 1
    fetched.clock.move(1)
    with pytest.raises(Refusal) as refused:
        await fetched.ids("k1")
    assert (refused.value.code, refused.value.retry) == (Code.UNAUTHENTICATED, Retry.LATER)
    fetched.server.answer = None
    fetched.clock.move(BETWEEN_FETCHES)
    assert await fetched.ids("k1") == 1


async def redirecting(request: web.Request) -> web.StreamResponse:
    if request.path == "/keys":
        raise web.HTTPFound("/elsewhere")
    return web.Response(body=ONE, content_type="application/json")


async def huge(request: web.Request) -> web.StreamResponse:
    return web.Response(body=ONE + b" " * MAX_BYTES)


async def bomb(request: web.Request) -> web.StreamResponse:
    return web.Response(body=gzip.compress(ONE + b" " * (64 * MAX_BYTES)), headers={"content-encoding": "gzip"})


async def endless(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    while True:
        await response.write(b" " * 65536)


async def cut(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"content-length": str(len(ONE))})
    await response.prepare(request)
    await response.write(ONE[:50])
    assert request.transport is not None
    request.transport.close()
    return response


async def no_json(request: web.Request) -> web.StreamResponse:
    return web.Response(text="<html>")


async def server_error(request: web.Request) -> web.StreamResponse:
    return web.Response(status=500, body=ONE)


@pytest.mark.parametrize("answer", [redirecting, huge, bomb, endless, cut, no_json, server_error])
async def test_an_answer_that_is_not_a_key_set_gives_no_keys_and_is_reported(fetched: Fetched, answer: Answer) -> None:
    fetched.server.answer = answer
    with pytest.raises(Refusal, match="not available now"):
        await fetched.ids("k1")
    assert len(fetched.reports) == 1
    assert "/elsewhere" not in fetched.server.paths


async def test_a_slow_endpoint_costs_its_deadline_once_and_nobody_who_has_keys(fetched: Fetched) -> None:
    assert await fetched.ids("k1") == 1

    async def slow(request: web.Request) -> web.StreamResponse:
        await fetched.server.over.wait()
        return web.Response(body=ONE)

    fetched.server.answer = slow
    fetched.clock.move(REFRESH_AFTER + 1)
    async with asyncio.timeout(WAIT - 0.5):  # who waited for the endpoint would wait longer
        assert [await fetched.ids("k1") for _ in range(50)] == [1] * 50
    async with asyncio.timeout(WAIT + 5):
        assert await fetched.ids("k2") == 0
    assert fetched.reports == [f"keys could not be fetched from {fetched.server.url}: {fetched.reports[0].split()[-1]}"]


async def test_a_caller_that_hangs_up_does_not_end_the_fetch_of_others(fetched: Fetched) -> None:
    begun = asyncio.Event()
    go_on = asyncio.Event()

    async def waits(request: web.Request) -> web.StreamResponse:
        begun.set()
        await go_on.wait()
        return web.Response(body=ONE)

    fetched.server.answer = waits
    first = asyncio.create_task(fetched.ids("k1"))
    await begun.wait()
    fetched.clock.move(BETWEEN_FETCHES)
    second = asyncio.create_task(fetched.ids("k1"))
    await asyncio.sleep(0)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    go_on.set()
    assert await second == 1
    assert fetched.server.fetches == 1


async def test_an_endpoint_that_is_up_later_than_the_sidecar_is_found_soon(fetched: Fetched) -> None:
    fetched.server.answer = server_error
    for _ in range(10):
        with pytest.raises(Refusal):
            await fetched.ids("k1")
    assert fetched.server.fetches == 1
    fetched.server.answer = None
    fetched.clock.move(5)
    assert await fetched.ids("k1") == 1


async def test_a_key_file_is_read_again_when_it_changes(tmp_path: Path) -> None:
    clock = ManualClock()
    path = tmp_path / "jwks.json"
    path.write_bytes(ONE)
    keys = FileKeys(path, clock)
    keys.check()
    assert len(await keys.find("k1", "ES256")) == 1
    path.write_bytes(key_set(public(OTHER_KEY, "k2")))
    clock.move(1)
    assert (len(await keys.find("k1", "ES256")), len(await keys.find("k2", "ES256"))) == (0, 1)


async def test_a_key_file_that_never_was_good_refuses_and_tells_the_operator(tmp_path: Path) -> None:
    keys = FileKeys(tmp_path / "absent", ManualClock())
    with pytest.raises(UnusableFileError, match="absent"):
        keys.check()
    with pytest.raises(Refusal) as refused:
        await keys.find("k1", "ES256")
    assert (refused.value.code, refused.value.retry) == (Code.UNAUTHENTICATED, Retry.LATER)
    assert "absent" not in refused.value.message


def algorithms_of(*entries: dict[str, Any]) -> set[str]:
    return {key.algorithm for key in parse_keys(key_set(*entries))}


def test_a_key_serves_only_the_algorithms_of_its_type_and_curve() -> None:
    assert algorithms_of(public(EC_KEY, "a")) == {"ES256"}
    assert algorithms_of(public(ED_KEY, "a")) == {"EdDSA"}
    assert algorithms_of(public(RSA_KEY, "a")) == {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}
    assert algorithms_of(public(RSA_KEY, "a", alg="PS256", use="sig", key_ops=["verify"])) == {"PS256"}


def test_keys_that_are_not_for_verifying_signatures_are_left_out() -> None:
    good = public(EC_KEY, "good")
    others = [
        {"kty": "oct", "k": "c2VjcmV0", "kid": "s", "alg": "HS256"},
        {"kty": "NEW", "kid": "n"},
        public(EC_KEY, "e", use="enc"),
        public(EC_KEY, "w", key_ops=["wrapKey"]),
        public(EC_KEY, "x", alg="ECDH-ES"),
        {"kty": "EC", "crv": "P-256", "x": "AAAA", "y": "AAAA", "kid": "broken"},
        {"kty": "RSA", "n": 5, "e": "AQAB"},
    ]
    assert [key.key_id for key in parse_keys(key_set(*others, good))] == ["good"]
    with pytest.raises(ValueError, match="no public key"):
        parse_keys(key_set(*others))


def test_a_private_key_in_a_key_set_spoils_it() -> None:
    private = json.loads(jwt.algorithms.ECAlgorithm.to_jwk(EC_KEY))
    with pytest.raises(ValueError, match="private key") as error:
        parse_keys(key_set(public(OTHER_KEY, "k2"), private))
    assert private["d"] not in str(error.value)


@pytest.mark.parametrize(
    "text", [b"", b"[]", b"{}", b'{"keys": {}}', b'{"keys": [], "keys": []}', b"\xff", b"[" * 100_000]
)
def test_what_is_no_key_set_is_refused(text: bytes) -> None:
    with pytest.raises(ValueError):
        parse_keys(text)


async def test_a_token_that_names_no_key_is_verified_only_where_one_key_can_be_meant(tmp_path: Path) -> None:
    path = tmp_path / "jwks.json"
    path.write_bytes(key_set(public(EC_KEY, "k1"), public(RSA_KEY, "k2")))
    keys = FileKeys(path, clock := ManualClock())
    assert len(await keys.find(None, "ES256")) == 1
    path.write_bytes(BOTH)
    clock.move(1)
    assert len(await keys.find(None, "ES256")) == 0
