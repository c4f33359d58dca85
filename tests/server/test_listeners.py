"""Binding ports: TCP, unix sockets, TLS, taken addresses, callers that hang up, and the end."""

import asyncio
import resource
import ssl
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from proxy.server.listeners import MAX_HEADERS, Listeners, NotBoundError
from proxy.settings import Listen
from tests.contracts.opa_server import short_directory
from tests.telemetry.certificates import make_authority


class Slow:
    """An application whose one handler waits until it is let go."""

    def __init__(self) -> None:
        self.entered, self.go, self.cancelled = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self.app = web.Application()
        self.app.router.add_get("/", self.handle)
        self.app.router.add_get("/quick", self.quick)

    async def handle(self, _: web.Request) -> web.Response:
        self.entered.set()
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        return web.Response(text="done")

    async def quick(self, _: web.Request) -> web.Response:
        return web.Response(text="quick")


@pytest.fixture
async def listeners() -> AsyncIterator[Listeners]:
    made = Listeners()
    yield made
    await made.close()


async def on_loopback(listeners: Listeners, app: web.Application) -> int:
    await listeners.bind(app, Listen(host="127.0.0.1", port=0))
    return int(listeners.runners[-1].addresses[0][1])


async def test_a_port_answers(listeners: Listeners) -> None:
    """And does not tell by which library."""
    port = await on_loopback(listeners, Slow().app)
    async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}/quick") as response:
        assert (response.status, response.headers["server"]) == (200, "sidegate")


async def test_a_socket_is_for_its_user_and_group(listeners: Listeners) -> None:
    """Not for every user of the machine."""
    with short_directory() as folder:
        path = folder / "agent.sock"
        await listeners.bind(Slow().app, Listen(path=path))
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
        connector = aiohttp.UnixConnector(str(path))
        async with aiohttp.ClientSession(connector=connector) as session, session.get("http://x/quick") as response:
            assert response.status == 200


async def test_an_address_that_is_taken_is_an_error(listeners: Listeners) -> None:
    """For the start to report."""
    port = await on_loopback(listeners, Slow().app)
    with pytest.raises(NotBoundError, match=rf"^127\.0\.0\.1:{port} cannot be bound: .*in use"):
        await listeners.bind(Slow().app, Listen(host="127.0.0.1", port=port))


@pytest.mark.parametrize(("content", "why"), [(None, "No such file"), (b"", "PEM"), (b"no certificate", "PEM")])
async def test_a_certificate_that_cannot_be_used_is_named(
    listeners: Listeners, tmp_path: Path, content: bytes | None, why: str
) -> None:
    """A Secret that is not there, or holds something else."""
    key = make_authority(tmp_path).with_name("key.pem")
    if content is not None:
        (tmp_path / "tls.crt").write_bytes(content)
    listen = Listen(host="127.0.0.1", port=0, certificate=tmp_path / "tls.crt", key=key)
    with pytest.raises(NotBoundError, match=f"tls.crt with key .*key.pem cannot be used: .*{why}"):
        await listeners.bind(Slow().app, listen)


async def test_with_a_certificate_a_port_speaks_tls_and_nothing_else(listeners: Listeners, tmp_path: Path) -> None:
    """The client verifies it; plain HTTP gets no answer."""
    authority = make_authority(tmp_path)
    listen = Listen(host="127.0.0.1", port=0, certificate=authority, key=authority.with_name("key.pem"))
    await listeners.bind(Slow().app, listen)
    port = listeners.runners[0].addresses[0][1]
    trust = ssl.create_default_context(cafile=str(authority))
    async with aiohttp.ClientSession() as session:
        async with session.get(f"https://localhost:{port}/quick", ssl=trust) as response:
            assert response.status == 200
        with pytest.raises(aiohttp.ClientError):
            await session.get(f"http://localhost:{port}/quick")


async def test_a_handler_ends_when_its_caller_hangs_up(listeners: Listeners) -> None:
    """A held call must not outlive who waits for it."""
    slow = Slow()
    port = await on_loopback(listeners, slow.app)
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
    await asyncio.wait_for(slow.entered.wait(), 10)
    writer.close()
    await asyncio.wait_for(slow.cancelled.wait(), 10)


async def test_after_the_stop_nobody_new_comes_and_those_inside_get_their_answer(listeners: Listeners) -> None:
    """Only `close` ends their connections."""
    slow = Slow()
    port = await on_loopback(listeners, slow.app)
    async with aiohttp.ClientSession() as session:
        inside = asyncio.create_task(session.get(f"http://127.0.0.1:{port}/"))
        await asyncio.wait_for(slow.entered.wait(), 10)
        await listeners.stop_accepting()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", port)
        slow.go.set()
        async with await inside as response:
            assert await response.text() == "done"


async def test_a_lasting_port_is_served_until_the_end(listeners: Listeners) -> None:
    """Whoever probes a process that drains is told so, and not refused."""
    await listeners.bind(Slow().app, Listen(host="127.0.0.1", port=0), lasting=True)
    port = int(listeners.runners[-1].addresses[0][1])
    await listeners.stop_accepting()
    async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}/quick") as response:
        assert await response.text() == "quick"
    await listeners.close()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", port)


async def test_a_header_may_be_as_long_as_the_bound_and_no_longer(listeners: Listeners) -> None:
    """Over it the answer is a refusal of ours; the server lives."""
    port = await on_loopback(listeners, Slow().app)
    url = f"http://127.0.0.1:{port}/quick"
    async with aiohttp.ClientSession() as session:
        async with session.get(url, headers={"x-a": "a" * (MAX_HEADERS - 100)}) as response:
            assert response.status == 200
        async with session.get(url, headers={"x-a": "canary" * MAX_HEADERS}) as response:
            assert response.status == 400
            assert "canary" not in await response.text()
        async with session.get(url) as response:
            assert response.status == 200


async def test_what_is_not_http_is_answered_without_being_repeated(listeners: Listeners) -> None:
    """A token may be among the bad bytes."""
    port = await on_loopback(listeners, Slow().app)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"Authorization: canary-7f3a9\r\n\r\n")
    said = await asyncio.wait_for(reader.read(), 10)
    writer.close()
    assert said.startswith(b"HTTP/1.")
    assert b"400" in said
    assert b"canary" not in said


async def test_a_port_takes_no_more_than_its_share_of_descriptors(listeners: Listeners) -> None:
    """Heads that never end hold connections for ever: they close this port at most, and whoever comes is told at once."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    try:
        crowded, other = await on_loopback(listeners, Slow().app), await on_loopback(listeners, Slow().app)
        open_ones = [await asyncio.open_connection("127.0.0.1", crowded) for _ in range(64)]
        for _, writer in open_ones:
            writer.write(b"GET /quick HTTP/1.1\r\nhost: a\r\nx-never: ")
            await writer.drain()
        async with aiohttp.ClientSession() as session:
            async with session.get(f"http://127.0.0.1:{other}/quick") as response:
                assert response.status == 200
            async with session.get(f"http://127.0.0.1:{crowded}/quick") as response:
                assert (response.status, response.headers["retry-after"]) == (503, "1")
                assert (await response.json())["refusal"]["code"] == "overloaded"
            open_ones.pop()[1].close()

            async with asyncio.timeout(10):
                status = 0
                while status != 200:  # the server has to see that one has gone
                    async with session.get(f"http://127.0.0.1:{crowded}/quick") as response:
                        status = response.status
        for _, writer in open_ones:
            writer.close()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
