"""A layer from a web server, by its ETag and within bounds."""

import asyncio
from collections.abc import AsyncIterator

import aiohttp
import pytest
import pytest_asyncio

from proxy.adapters.archive import PACKED, ArchiveError
from proxy.adapters.bundle_http import Delivery, get
from tests.adapters.registry_stub import StubRegistry, saying, stub_registry


@pytest_asyncio.fixture
async def server() -> AsyncIterator[StubRegistry]:
    async with stub_registry() as stub:
        yield stub


async def got(server: StubRegistry, known: str = "") -> Delivery | None:
    async with aiohttp.ClientSession() as session, asyncio.timeout(10):
        return await get(session, f"{server.url}/p", {"x-own": "1"}, known)


@pytest.mark.parametrize(("tag", "wanted"), [('"one"', '"one"'), ("x" * 1024, "x" * 1024), ("x" * 1025, ""), ("", "")])
async def test_a_layer_comes_with_its_tag(server: StubRegistry, tag: str, wanted: str) -> None:
    """One that is too long to be sent back is none."""
    server.answers["/p"] = saying(body=b"a bundle", ETag=tag)
    assert await got(server) == Delivery(content=b"a bundle", tag=wanted)
    headers = server.asked[0].headers
    assert (headers["x-own"], headers["Accept-Encoding"], headers.get("If-None-Match")) == ("1", "identity", None)


async def test_what_is_known_is_not_sent_again(server: StubRegistry) -> None:
    server.answers["/p"] = saying(304)
    assert await got(server, known='"one"') is None
    assert server.asked[0].headers["If-None-Match"] == '"one"'


@pytest.mark.parametrize("status", [302, 404, 500, 206])
async def test_every_other_answer_is_none(server: StubRegistry, status: int) -> None:
    """A redirect above all, which is not followed."""
    server.answers["/p"] = saying(status, Location="/elsewhere")
    with pytest.raises(ArchiveError, match=f"status {status}"):
        await got(server)
    assert server.lines == ["GET /p"]


async def test_no_more_than_a_bundle_can_have_is_read(server: StubRegistry) -> None:
    server.answers["/p"] = saying(body=b"x" * PACKED)
    assert await got(server) is not None
    server.answers["/p"] = saying(body=b"x" * (PACKED + 1))
    with pytest.raises(ArchiveError, match=f"is larger than {PACKED} bytes"):
        await got(server)
