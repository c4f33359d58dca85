"""Binding ports: TCP, unix sockets, TLS, taken addresses, callers that hang up, and the end."""

import asyncio
import resource
import ssl
import stat
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from proxy.server.listeners import MAX_HEADERS, Listeners
from proxy.settings import Listen
from tests.contracts.opa_server import short_directory


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
    with pytest.raises(OSError, match="in use"):
        await listeners.bind(Slow().app, Listen(host="127.0.0.1", port=port))


def certificate(folder: Path) -> Listen:
    """A certificate for localhost, in files."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    (folder / "tls.crt").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (folder / "tls.key").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return Listen(host="127.0.0.1", port=0, certificate=folder / "tls.crt", key=folder / "tls.key")


async def test_with_a_certificate_a_port_speaks_tls_and_nothing_else(listeners: Listeners, tmp_path: Path) -> None:
    """The client verifies it; plain HTTP gets no answer."""
    listen = certificate(tmp_path)
    await listeners.bind(Slow().app, listen)
    port = listeners.runners[0].addresses[0][1]
    trust = ssl.create_default_context(cafile=str(listen.certificate))
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
