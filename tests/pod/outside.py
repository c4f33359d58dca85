"""What is outside the pod: an upstream that wants its credential; and an HTTP client inside any network namespace."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from typing import Any

import aiohttp

from tests.e2e.upstream import Received, Upstream, echo, reply
from tests.pod.kernel import Network

UPSTREAM_PORT = 8080
TOKEN = "only-the-sidecar-has-this"


class Outside(Upstream):
    """An upstream in the node's network that answers nobody who does not bring the credential."""

    async def listen(self, network: Network, host: str) -> None:
        """Bind inside the namespace; the socket stays there."""
        with network.inside():
            listening = socket.create_server((host, UPSTREAM_PORT), family=_family(host))
        self.port, self.answer = UPSTREAM_PORT, demanding
        self.serving: set[asyncio.Task[None] | None] = set()
        self._server = await asyncio.start_server(self._counted, sock=listening)

    async def stop(self) -> None:
        """No more connections, and those that are open are closed."""
        await Upstream.stop(self)
        serving = [task for task in self.serving if task is not None]
        for task in serving:
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)

    async def _counted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.serving.add(task := asyncio.current_task())
        try:
            with contextlib.suppress(asyncio.CancelledError):  # how `stop` ends it
                await self._serve(reader, writer)
        finally:
            self.serving.discard(task)
            writer.close()


async def demanding(request: Received, writer: asyncio.StreamWriter) -> None:
    """200 with the credential, else 401."""
    if dict(request.headers).get("authorization") == f"Bearer {TOKEN}":
        await echo(request, writer)
    else:
        await reply(writer, b'{"error": "who are you?"}', status="401 Unauthorized")


@contextlib.asynccontextmanager
async def session_in(network: Network) -> AsyncIterator[aiohttp.ClientSession]:
    """An HTTP client whose connections begin inside a namespace."""

    def made(address: Any) -> socket.socket:
        with network.inside():
            return socket.socket(address[0], address[1], address[2])

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(socket_factory=made)) as session:
        yield session


def bracketed(host: str) -> str:
    """As it stands in a URL."""
    return f"[{host}]" if ":" in host else host


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET
