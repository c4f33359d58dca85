"""Bundles from a real server on loopback: what comes is verified first, and nothing bad replaces what is good."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from proxy.adapters.archive import PACKED, pack
from proxy.adapters.bundle import BundleError
from proxy.adapters.bundle_fetch import SPREAD, BundleFetcher
from proxy.adapters.bundle_signature import sign
from proxy.adapters.clock import SystemClock
from proxy.adapters.credentials import CredentialUnavailableError
from proxy.adapters.policy_origin import read_verified
from proxy.core.layers import team_members
from tests.adapters.keys import rsa_pair
from tests.adapters.registry_stub import Answer, StubRegistry, saying, stub_registry
from tests.adapters.team import REGO, TEAM
from tests.contracts.opa_server import opa_binary

MEMBERS = team_members("team", {"sidegate/policies/team/team.rego": TEAM.encode()})[1]
OTHER = team_members("team", {"sidegate/policies/team/team.rego": b"package sidegate.policies.team\n"})[1]
PATH = "/team.tar.gz"


@dataclass(slots=True)
class Place:
    """A fetcher, its server, and what it reports."""

    server: StubRegistry
    fetcher: BundleFetcher
    private: Path
    reports: list[list[str]] = field(default_factory=list)

    async def signed(self, members: dict[str, bytes] | None = None) -> bytes:
        return pack(await sign(opa_binary(), MEMBERS if members is None else members, self.private))

    async def serve(self, body: bytes, **headers: str) -> None:
        async def answer(request: web.BaseRequest) -> web.Response:
            if headers.get("ETag") and request.headers.get("If-None-Match") == headers["ETag"]:
                return web.Response(status=304)
            return web.Response(body=body, headers=headers)

        self.server.answers[PATH] = answer

    @property
    def url(self) -> str:
        return f"{self.server.url}{PATH}"

    @property
    def file(self) -> Path:
        return self.fetcher.file("team")


class Paced(SystemClock):
    """Notes each pause and lets it pass at once; the last one never ends."""

    def __init__(self, turns: int) -> None:
        self.slept: list[float] = []
        self.turns = turns
        self.done = asyncio.Event()

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        if len(self.slept) > self.turns:
            self.done.set()
            await asyncio.Event().wait()


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    private, public = rsa_pair(tmp_path)
    reports: list[list[str]] = []

    def report(problems: Sequence[str]) -> None:
        reports.append(list(problems))

    async with stub_registry() as server, aiohttp.ClientSession() as session:
        fetcher = BundleFetcher(
            urls={"team": f"{server.url}{PATH}?secret=1"},
            directory=tmp_path / "fetched",
            session=session,
            clock=SystemClock(),
            verify=lambda name, members: read_verified(name, members, opa_binary(), REGO, public),
            headers=lambda: {"Authorization": "Bearer t0ken"},
            every=60.0,
            jitter=lambda: 0.5,
            report=report,
        )
        yield Place(server, fetcher, private, reports)


async def test_a_signed_bundle_becomes_a_file_and_is_asked_for_by_its_tag(place: Place) -> None:
    """With the credential, uncompressed; unchanged, it is not sent again; changed, it is."""
    body = await place.signed()
    await place.serve(body, ETag='"one"')
    await place.fetcher.first()
    assert place.file.read_bytes() == body
    assert place.file.stat().st_mode & 0o777 == 0o600
    first = place.server.asked[0].headers
    assert (first["Authorization"], first["Accept-Encoding"]) == ("Bearer t0ken", "identity")
    assert "If-None-Match" not in first
    before = place.file.stat().st_ino
    await place.fetcher.first()
    assert place.server.asked[1].headers["If-None-Match"] == '"one"'
    assert place.file.stat().st_ino == before
    other = await place.signed(OTHER)
    await place.serve(other, ETag='"two"')
    await place.fetcher.first()
    assert place.file.read_bytes() == other
    assert place.reports == []


async def test_without_a_tag_every_answer_is_taken(place: Place) -> None:
    await place.serve(await place.signed())
    await place.fetcher.first()
    await place.fetcher.first()
    assert ["If-None-Match" in request.headers for request in place.server.asked] == [False, False]


async def endless(request: web.BaseRequest) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    with contextlib.suppress(ConnectionError):
        while True:
            await response.write(b"x" * 65536)
    return response


async def hung_up(request: web.BaseRequest) -> web.StreamResponse:
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


async def cut(request: web.BaseRequest) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Length": "1000"})
    await response.prepare(request)
    await response.write(b"x")
    assert request.transport is not None
    request.transport.abort()
    return response


@pytest.mark.parametrize(
    ("answer", "wanted"),
    [
        (saying(404), "status 404"),
        (saying(302, Location="/elsewhere"), "status 302"),
        (hung_up, "could not be fetched"),
        (cut, "could not be fetched"),
        (endless, f"is larger than {PACKED} bytes"),
    ],
)
async def test_a_server_that_does_not_give_it_is_told_without_secrets(
    place: Place, answer: Answer, wanted: str
) -> None:
    """At a first start that ends it; later what came before stays."""
    place.server.answers[PATH] = answer
    with pytest.raises(BundleError, match=wanted) as error:
        await place.fetcher.first()
    assert str(error.value).startswith(f"{place.url}: ")
    assert "secret" not in str(error.value)
    assert "t0ken" not in str(error.value)
    assert not place.file.exists()
    body = await place.signed()
    await place.serve(body)
    await place.fetcher.first()
    place.server.answers[PATH] = answer
    await place.fetcher.first()
    assert place.file.read_bytes() == body
    assert len(place.reports) == 1


@pytest.mark.parametrize("bad", ["unsigned", "another key", "cut", "no gzip", "another layer"])
async def test_a_bad_bundle_never_replaces_a_good_one(place: Place, tmp_path: Path, bad: str) -> None:
    """It is told once, and again asked for without its tag, until a good one comes."""
    good = await place.signed()
    await place.serve(good, ETag='"good"')
    await place.fetcher.first()
    other = rsa_pair(tmp_path, "other")[0]
    body = {
        "unsigned": pack(MEMBERS),
        "another key": pack(await sign(opa_binary(), MEMBERS, other)),
        "cut": good[:-30],
        "no gzip": b"<html>",
        "another layer": await place.signed(team_members("x", {"sidegate/policies/x/x.rego": b""})[1]),
    }[bad]
    await place.serve(body, ETag='"bad"')
    await place.fetcher.first()
    await place.fetcher.first()
    assert place.file.read_bytes() == good
    assert [len(report) for report in place.reports] == [1], "the same problem is told once"
    assert [request.headers.get("If-None-Match") for request in place.server.asked[1:]] == ['"good"', '"good"']
    await place.serve(await place.signed(OTHER))
    await place.fetcher.first()
    assert place.reports[-1] == []


async def test_a_registry_is_another_way_to_the_same_end(place: Place) -> None:
    """Verified, kept, known by its digest; what is not signed is refused, and the good one stays."""
    body, registry = await place.signed(), place.server
    place.fetcher.urls = {"team": registry.address}
    registry.hold(body)
    await place.fetcher.first()
    assert place.file.read_bytes() == body
    assert registry.asked[0].headers["Authorization"] == "Bearer t0ken"
    await place.fetcher.first()
    assert [line.split()[0] for line in registry.lines] == ["GET", "GET", "HEAD"]
    assert place.reports == []
    registry.hold(pack(OTHER))
    await place.fetcher.first()
    assert place.file.read_bytes() == body
    ((told,),) = place.reports
    assert told.startswith(f"{registry.address}: is not signed, and")
    place.file.unlink()
    registry.hold(body)
    await place.fetcher.first()
    assert place.file.read_bytes() == body, "a known one whose file is gone is asked for again"
    assert place.reports[-1] == []


async def test_a_server_that_takes_its_time_is_not_waited_for(place: Place) -> None:
    """The whole way counts, also that by a registry's token service."""
    gone = asyncio.Event()

    async def slow(request: web.BaseRequest) -> web.StreamResponse:
        await gone.wait()
        return web.Response()

    place.fetcher.patience = 0.2
    place.server.answers |= {PATH: slow, "/token": slow}
    challenge = saying(401, WWW_Authenticate=f'Bearer realm="{place.server.url}/token"')
    place.server.answers["/v2/team/p/manifests/stable"] = challenge
    place.fetcher.urls = {"team": place.url, "other": place.server.address}
    async with asyncio.timeout(4):
        with pytest.raises(BundleError) as error:
            await place.fetcher.first()
    gone.set()
    assert [problem.rpartition(": ")[2] for problem in error.value.problems] == ["did not come within 0.2 s"] * 2
    assert "GET /token" in place.server.lines


async def test_a_host_that_cannot_be_one_is_a_problem_like_any_other(place: Place) -> None:
    """A registry says where a layer is; no word of its ends the polls."""
    place.fetcher.urls = {"team": place.server.address}
    place.server.hold(b"x")
    moved = saying(302, Location=f"https://{'a' * 64}.example/x")
    place.server.answers |= {path: moved for path in place.server.answers if "/blobs/" in path}
    with pytest.raises(BundleError, match="could not be fetched"):
        await place.fetcher.first()


async def test_a_credential_that_is_not_there_is_a_problem_and_nothing_is_asked(place: Place) -> None:
    def gone() -> Any:
        raise CredentialUnavailableError("credential policy: its file is empty")

    place.fetcher.headers = gone
    with pytest.raises(BundleError, match="credential policy"):
        await place.fetcher.first()
    assert place.server.asked == []


@pytest.mark.parametrize(("jitter", "factor"), [(0.0, 1 - SPREAD), (1.0, 1 + SPREAD), (0.5, 1.0)])
async def test_it_asks_at_intervals_that_pods_do_not_share(place: Place, jitter: float, factor: float) -> None:
    clock = Paced(turns=2)
    place.fetcher.clock, place.fetcher.jitter = clock, lambda: jitter
    watching = asyncio.create_task(place.fetcher.watch())
    async with asyncio.timeout(10):
        await clock.done.wait()
    watching.cancel()
    assert clock.slept == pytest.approx([60 * factor] * 3)
    assert len(place.server.asked) == 2
    assert len(place.reports) == 1
