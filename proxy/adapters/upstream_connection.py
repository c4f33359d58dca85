"""A connection to an upstream, which speaks all of HTTP/1.1 that a client must understand, and how one is opened."""

import asyncio
import socket
import ssl
from collections.abc import Iterable

import aiohappyeyeballs

from proxy.adapters.http_connection import HttpConnection

_SECOND_FAMILY = 0.25  # seconds until the other IP version is tried, too (RFC 8305 section 5)


class UpstreamConnection(HttpConnection):
    """Interim answers come before the final one, a body may end with its connection, and bytes behind an answer end the
    connection, not the answer. Where a body is of no use, it is not waited for."""

    def on_message_begin(self) -> None:
        """What comes behind an answer is nobody's."""
        if self._answer is not None:
            self._keep_alive = False

    def on_headers_complete(self) -> None:
        """RFC 9110 section 15.2 for interim answers, section 9.3.2 for those to HEAD."""
        status = self._parser.get_status_code()
        if 100 <= status < 200 and status != 101:
            self._headers.clear()
            return
        super().on_headers_complete()
        if self._head_only or not 200 <= status < 600 or 300 <= status < 400 or codings(self._headers):
            self._complete(keep_alive=False)
        elif any(int(value) > self._most for name, value in self._headers if name == b"content-length"):
            self._fault = "too_large"

    def on_message_complete(self) -> None:
        """Of the final answer."""
        if self._head_read:
            super().on_message_complete()

    def _upgraded(self) -> None:
        """Its head is the answer, and refused for its status."""

    def connection_lost(self, exc: Exception | None) -> None:
        """An answer without a length ends here (RFC 9112 section 6.3), if it was not cut by a fault."""
        framed = any(name in {b"content-length", b"transfer-encoding"} for name, _ in self._headers)
        if exc is None and self._head_read and self._answer is None and not framed:
            self._complete(keep_alive=False)
            self._deliver()
        super().connection_lost(exc)


def codings(headers: Iterable[tuple[bytes, bytes]]) -> set[bytes]:
    """The codings that make a body something else than what its type says (RFC 9110 section 8.4, RFC 9112 section 6.1)."""
    lines = [value for name, value in headers if name in {b"content-encoding", b"transfer-encoding"}]
    return {coding.strip().lower() for line in lines for coding in line.split(b",")} - {b"identity", b"chunked", b""}


async def dial(connection: HttpConnection, host: str, port: int, *, secure: bool) -> None:
    """Open its transport. uvloop itself tries one address after the other, a dead one for as long as the kernel does.
    Raises OSError."""
    loop = asyncio.get_running_loop()
    addresses = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    opened = await aiohappyeyeballs.start_connection(addresses, happy_eyeballs_delay=_SECOND_FAMILY, interleave=1)
    try:
        tls = await asyncio.to_thread(ssl.create_default_context) if secure else None
        await loop.create_connection(lambda: connection, sock=opened, ssl=tls, server_hostname=host if secure else None)
    except BaseException:
        opened.close()
        raise
