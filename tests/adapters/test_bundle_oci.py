"""A layer from a registry that answers well, badly, and with malice."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web

from proxy.adapters.archive import PACKED, ArchiveError
from proxy.adapters.bundle_http import Delivery
from proxy.adapters.bundle_oci import LARGEST_MANIFEST, LAYER, MANIFEST, pull
from tests.adapters.registry_stub import Answer, StubRegistry, digest_of, layer_of, manifest_of, saying, stub_registry

CONTENT = b"a bundle"
SECRET = "Basic c2VjcmV0"
HEADERS = {"Authorization": SECRET, "x-own": "1"}
TAG = "/v2/team/p/manifests/stable"
BLOB = f"/v2/team/p/blobs/{digest_of(CONTENT)}"
INDEX = "application/vnd.oci.image.index.v1+json"
LIST = "application/vnd.docker.distribution.manifest.list.v2+json"


@pytest_asyncio.fixture
async def registry() -> AsyncIterator[StubRegistry]:
    async with stub_registry() as stub:
        stub.hold(CONTENT)
        yield stub


async def pulled(address: str, known: str = "", headers: Mapping[str, str] = HEADERS) -> Delivery | None:
    async with aiohttp.ClientSession() as session, asyncio.timeout(10):
        return await pull(session, address, headers, known)


async def refused(registry: StubRegistry, address: str | None = None) -> str:
    """The sentence, which tells no secret."""
    with pytest.raises(ArchiveError) as error:
        await pulled(address or registry.address)
    assert "c2VjcmV0" not in str(error.value)
    return str(error.value)


def shown(request: web.BaseRequest, *names: str) -> list[str | None]:
    return [request.headers.get(name) for name in names]


async def test_the_one_layer_comes_and_is_known_by_its_manifests_digest(registry: StubRegistry) -> None:
    """Asked for as an image manifest, uncompressed, with the credential."""
    digest = registry.hold(CONTENT)
    assert await pulled(registry.address) == Delivery(content=CONTENT, tag=digest)
    assert registry.lines == [f"GET {TAG}", f"GET {BLOB}"]
    for request in registry.asked:
        assert shown(request, "Authorization", "x-own", "Accept-Encoding") == [SECRET, "1", "identity"]
    assert registry.asked[0].headers["Accept"] == MANIFEST


async def test_a_poll_of_what_is_known_is_one_head(registry: StubRegistry) -> None:
    """Another one is fetched; a registry that tells no digest is asked for the small manifest, and not for the layer."""
    first = registry.hold(CONTENT)
    assert await pulled(registry.address, known=first) is None
    assert registry.lines == [f"HEAD {TAG}"]
    registry.asked.clear()
    second = registry.hold(b"another")
    assert await pulled(registry.address, known=first) == Delivery(content=b"another", tag=second)
    assert registry.lines[:2] == [f"HEAD {TAG}", f"GET {TAG}"]
    registry.asked.clear()
    registry.answers[f"HEAD {TAG}"] = saying(405, Docker_Content_Digest=first)
    assert await pulled(registry.address, known=first) == Delivery(content=b"another", tag=second), "no is no answer"
    registry.asked.clear()
    assert await pulled(registry.address, known=second) is None
    assert registry.lines == [f"HEAD {TAG}", f"GET {TAG}"]


async def test_what_is_named_by_its_digest_is_asked_for_once_and_checked(registry: StubRegistry) -> None:
    """It can never be another; whoever gives another one is refused."""
    digest = registry.hold(CONTENT)
    address = registry.address.replace(":stable", f":stable@{digest}")
    assert await pulled(address) == Delivery(content=CONTENT, tag=digest)
    registry.asked.clear()
    assert await pulled(address, known=digest) is None
    assert registry.asked == []
    other = manifest_of(layer_of(CONTENT), annotations={"of": "another"})
    registry.answers[f"/v2/team/p/manifests/{digest}"] = saying(body=other, Content_Type=MANIFEST)
    assert "its manifest is not the one of this digest" in await refused(registry, address)
    assert await pulled(address.replace(f"@{digest}", "")) is not None


@pytest.mark.parametrize(
    ("status", "wanted"),
    [
        (401, "does not take the credential"),
        (403, "may not pull"),
        (404, "no such repository, tag"),
        (429, "asked too often; raise `bundle.every`"),
        (500, "status 500"),
        (307, "status 307"),
        (204, "status 204"),
    ],
)
async def test_a_registry_that_says_no_is_understood(registry: StubRegistry, status: int, wanted: str) -> None:
    """At the manifest and at the layer, whose redirect leads nowhere here; a manifest's is not followed."""
    no = saying(status, Location="/elsewhere")
    registry.answers[TAG] = no
    assert wanted in await refused(registry)
    assert registry.lines == [f"GET {TAG}"]
    registry.hold(CONTENT)
    registry.answers[BLOB] = no
    assert (wanted if status != 307 else "redirected to answered with status 404") in await refused(registry)


@pytest.mark.parametrize(
    ("kind", "wanted"),
    [
        (INDEX, "an index of several images"),
        (LIST, "an index of several images"),
        ("application/vnd.docker.distribution.manifest.v2+json", "is of the type 'application/vnd.docker"),
        ("text/html; charset=utf-8", "is of the type 'text/html'"),
        (f"x/{'y' * 4000}", "is of the type 'x/yyy"),
    ],
)
async def test_what_is_no_image_manifest_is_refused_by_its_type(registry: StubRegistry, kind: str, wanted: str) -> None:
    registry.hold(CONTENT, kind=kind)
    said = await refused(registry)
    assert wanted in said
    assert len(said) < 300
    assert registry.lines == [f"GET {TAG}"]


@pytest.mark.parametrize(
    ("manifest", "wanted"),
    [
        (b"<html>", "no OCI image manifest inside"),
        (b"[]", "no OCI image manifest inside"),
        (b"[" * 2000, "no OCI image manifest inside"),
        (manifest_of(layer_of(CONTENT), mediaType=INDEX), "no OCI image manifest inside"),
        (manifest_of(layer_of(CONTENT), manifests=[]), "no OCI image manifest inside"),
        (manifest_of(), "has 0 layers"),
        (manifest_of(layer_of(CONTENT), layer_of(b"other")), "has 2 layers"),
        (manifest_of(layers="x"), "has 0 layers"),
        (manifest_of(layers=["x"]), "has 1 layers"),
        (manifest_of(layer_of(CONTENT, mediaType=f"{LAYER}+x")), f"push the bundle as {LAYER}"),
        (manifest_of(layer_of(CONTENT, mediaType=None)), "has the type none"),
        (manifest_of(layer_of(CONTENT, digest=f"sha512:{'0' * 128}")), "no sha256 digest"),
        (manifest_of(layer_of(CONTENT, digest="../../x/manifests/y")), "no sha256 digest"),
        (manifest_of(layer_of(CONTENT, digest=1)), "no sha256 digest"),
        *(
            (manifest_of(layer_of(CONTENT, size=size)), f"a size of at most {PACKED} bytes")
            for size in (None, True, "8", 0, -1, PACKED + 1, 1e300)
        ),
    ],
)
async def test_a_manifest_that_is_not_of_one_bundle_is_refused_before_a_layer_is_asked_for(
    registry: StubRegistry, manifest: bytes, wanted: str
) -> None:
    registry.hold(CONTENT, manifest)
    assert wanted in await refused(registry)
    assert registry.lines == [f"GET {TAG}"]


async def endless(request: web.BaseRequest) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": MANIFEST})
    await response.prepare(request)
    with contextlib.suppress(ConnectionError):
        while True:
            await response.write(b" " * 65536)
    return response


@pytest.mark.parametrize(
    ("path", "answer", "wanted"),
    [
        (TAG, endless, f"its manifest is larger than {LARGEST_MANIFEST} bytes"),
        (BLOB, endless, f"its layer is larger than {len(CONTENT)} bytes"),
        (BLOB, saying(body=CONTENT[:-1]), "its layer is not the one of its digest"),
        (BLOB, saying(body=CONTENT.swapcase()), "its layer is not the one of its digest"),
    ],
)
async def test_bytes_that_are_too_many_or_others_are_refused(
    registry: StubRegistry, path: str, answer: Answer, wanted: str
) -> None:
    registry.answers[path] = answer
    assert wanted in await refused(registry)


@pytest.mark.parametrize("path", [TAG, BLOB])
async def test_an_answer_that_is_cut_short_is_an_error(registry: StubRegistry, path: str) -> None:
    async def cut(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "1000", "Content-Type": MANIFEST})
        await response.prepare(request)
        await response.write(b"a bund")
        assert request.transport is not None
        request.transport.abort()
        return response

    registry.hold(CONTENT, manifest_of(layer_of(CONTENT, size=1000)))
    registry.answers[path] = cut
    with pytest.raises(aiohttp.ClientError):
        await pulled(registry.address)


async def test_a_layer_may_be_elsewhere_and_that_place_is_shown_no_credential(registry: StubRegistry) -> None:
    """Its address is asked for as it was given, signature and all."""
    async with stub_registry() as storage:
        storage.answers["/x y"] = saying(body=CONTENT)
        registry.answers[BLOB] = saying(307, Location=f"http://localhost:{storage.port}/x%20y?signature=a%2Bb%3D")
        found = await pulled(registry.address)
    assert found is not None
    assert found.content == CONTENT
    (asked,) = storage.asked
    assert asked.raw_path == "/x%20y?signature=a%2Bb%3D"
    assert shown(asked, "Authorization", "x-own", "Accept-Encoding") == [None, None, "identity"]
    registry.answers |= {BLOB: saying(302, Location="/here"), "/here": saying(body=CONTENT)}
    assert await pulled(registry.address) is not None
    assert shown(registry.asked[-1], "Authorization", "x-own") == [None, None]


@pytest.mark.parametrize(
    ("body", "wanted"),
    [(b"another!", "its layer is not the one of its digest"), (CONTENT + b"!", "larger than 8 bytes")],
)
async def test_what_comes_from_elsewhere_is_checked_as_well(registry: StubRegistry, body: bytes, wanted: str) -> None:
    registry.answers |= {BLOB: saying(302, Location="/here"), "/here": saying(body=body)}
    assert wanted in await refused(registry)


async def test_a_redirect_is_followed_once(registry: StubRegistry) -> None:
    registry.answers |= {BLOB: saying(302, Location="/here"), "/here": saying(302, Location="/there")}
    registry.answers["/there"] = saying(body=CONTENT)
    assert "redirected to answered with status 302" in await refused(registry)
    assert registry.lines[-1] == "GET /here"


@pytest.mark.parametrize(
    "place",
    [
        "http://storage.example/x",
        "http://127.0.0.1.example/x",
        "ftp://127.0.0.1/x",
        "file:///etc/passwd",
        "http://u:p@127.0.0.1/",
        "http://[",
        "https:///x",
    ],
)
async def test_a_redirect_to_where_others_listen_is_not_followed(registry: StubRegistry, place: str) -> None:
    registry.answers[BLOB] = saying(302, Location=place)
    assert "where there is no https" in await refused(registry)


def wanting(token: str, answer: Answer, challenge: Callable[[], str]) -> Answer:
    """What answers the holder of a token, and challenges everybody else."""

    async def answered(request: web.BaseRequest) -> web.StreamResponse:
        if request.headers.get("Authorization") == f"Bearer {token}":
            return await answer(request)
        return web.Response(status=401, headers={"WWW-Authenticate": challenge()})

    return answered


def guarded(registry: StubRegistry, token: str) -> None:
    """A registry that wants a token, which its service gives away as `t0ken`."""
    for path, answer in list(registry.answers.items()):
        registry.answers[path] = wanting(token, answer, lambda: f'Bearer realm="{registry.url}/token",service="r"')
    registry.answers["/token"] = saying(body=b'{"token": "t0ken"}')


async def test_a_credential_is_exchanged_for_a_token_once(registry: StubRegistry) -> None:
    """For the right to pull from this repository; what else the credential was is still shown to the registry alone."""
    guarded(registry, "t0ken")
    found: Any = await pulled(registry.address)
    assert found.content == CONTENT
    assert registry.lines == [f"GET {TAG}", "GET /token", f"GET {TAG}", f"GET {BLOB}"]
    first, exchange, *others = registry.asked
    assert dict(exchange.rel_url.query) == {"service": "r", "scope": "repository:team/p:pull"}
    assert shown(exchange, "Authorization", "x-own") == [SECRET, None]
    assert shown(first, "Authorization", "x-own") == [SECRET, "1"]
    assert [shown(request, "Authorization", "x-own") for request in others] == [["Bearer t0ken", "1"]] * 2
    registry.asked.clear()
    assert await pulled(registry.address, known=found.tag) is None
    assert registry.lines == [f"HEAD {TAG}", "GET /token", f"HEAD {TAG}"]


async def test_a_registry_that_challenges_again_and_again_is_given_up(registry: StubRegistry) -> None:
    guarded(registry, "another")
    assert "does not take the credential" in await refused(registry)
    assert registry.lines == [f"GET {TAG}", "GET /token", f"GET {TAG}"]
    registry.asked.clear()
    registry.hold(CONTENT)
    layer = registry.answers[BLOB]
    guarded(registry, "t0ken")
    registry.answers[BLOB] = wanting("another", layer, lambda: f'Bearer realm="{registry.url}/token"')
    assert "does not take the credential" in await refused(registry)
    assert registry.lines == [f"GET {TAG}", "GET /token", f"GET {TAG}", f"GET {BLOB}"]
