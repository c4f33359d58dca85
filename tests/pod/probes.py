"""Probes as a kubelet sends them: from the node, to the pod's address."""

import asyncio
import contextlib
import socket
import time
from dataclasses import dataclass

from tests.pod.kernel import Network
from tests.pod.manifest import Tree


@dataclass(frozen=True, slots=True, kw_only=True)
class Probed:
    """An answer: HTTP status, 0 if there was none; how long it took; the body."""

    status: int
    seconds: float
    body: str = ""

    @property
    def good(self) -> bool:
        return 200 <= self.status < 400


async def http_get(network: Network, host: str, port: int, path: str, timeout: float = 1.0) -> Probed:  # noqa: ASYNC109 - kubelet's own word
    """One GET on a connection of its own, made inside a network namespace."""
    began = time.monotonic()
    text = b""
    with contextlib.suppress(OSError, TimeoutError, ValueError, IndexError):
        async with asyncio.timeout(timeout):
            text = await _asked(network, host, port, path)
    taken = time.monotonic() - began
    head, _, body = text.partition(b"\r\n\r\n")
    words = head.split(b" ", 2)
    return Probed(status=int(words[1]) if len(words) > 2 else 0, seconds=taken, body=body.decode())


async def _asked(network: Network, host: str, port: int, path: str) -> bytes:
    loop = asyncio.get_running_loop()
    with network.inside():
        connection = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    with connection:
        connection.setblocking(False)
        await loop.sock_connect(connection, (host, port))
        shown = f"[{host}]" if ":" in host else host
        request = (
            f"GET {path} HTTP/1.1\r\nhost: {shown}:{port}\r\nuser-agent: kube-probe/1.37\r\nconnection: close\r\n\r\n"
        )
        await loop.sock_sendall(connection, request.encode())
        parts = []
        while part := await loop.sock_recv(connection, 1 << 16):
            parts.append(part)
        return b"".join(parts)


async def ask(probe: Tree, network: Network, host: str) -> Probed:
    """A probe of a manifest."""
    wanted = probe["httpGet"]  # the chart has no other kind
    return await http_get(network, host, int(wanted["port"]), wanted["path"], float(probe.get("timeoutSeconds", 1)))
