"""AsyncOpaClient on a keep-alive pool over a unix socket or TCP: HTTP/1.1 by llhttp, one total deadline, no retry of an answer.

The stock client waits 0.9 s over a policy error and costs four times the CPU (opa.md 1, performance.md 6). What is overridden
here is all of its private surface that a request touches: `_init_session`, `_request`, `close_connection`.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import orjson

from proxy.adapters.http_connection import ConnectionFault, HttpConnection, Request
from proxy.adapters.http_pool import ConnectionPool
from proxy.adapters.opa_client_async import AsyncOpaClient

MEDIA_TYPE = "application/json"

_TARGET = re.compile(r"/[!-~]*")
_HEADER = re.compile(r"[!-9;-~]+: [ -~]*")


class OpaFault(Exception):
    """No usable answer came. `cause` is one of timeout, busy (no connection came free in time), unreachable, closed,
    malformed, too_large, media_type, status."""

    def __init__(self, cause: str) -> None:
        super().__init__(cause)
        self.cause = cause


@dataclass(frozen=True, slots=True, kw_only=True)
class OpaAnswer:
    """A whole HTTP answer; the methods are those that AsyncOpaClient calls on aiohttp's response."""

    status: int
    media_type: str
    body: bytes

    async def json(self) -> Any:
        """The body as JSON. Raises ValueError."""
        return orjson.loads(self.body)

    async def text(self) -> str:
        """The body as UTF-8."""
        return self.body.decode()

    def raise_for_status(self) -> None:
        """Raises OpaFault status from 400 on."""
        if self.status >= 400:
            raise OpaFault("status")


class SidecarOpaClient(AsyncOpaClient):  # type: ignore[misc]  # the package ships no types
    """`address` is `unix:///path` or `host:port`. `deadline` (seconds) covers waiting for a connection, connecting and the answer.

    A request is sent a second time only if a kept-alive connection turns out to be closed before any byte of an answer.
    A caller that is cancelled closes its connection, and OPA stops evaluating. Raises OpaFault.
    """

    def __init__(
        self,
        address: str,
        *,
        deadline: float = 0.25,
        connections: int = 32,
        max_body: int = 1 << 20,
        token: str | None = None,
    ) -> None:
        self._path, host, port = split_address(address)
        super().__init__(host, port, timeout=deadline, retries=0, token=token)
        self._max_body = max_body
        self._origin = f"{self.schema}{host}:{port}"
        self._fixed = {"Host": f"{host}:{port}", **(self.headers or {})}
        self._open = False
        self._pool = ConnectionPool(self._connect, places=connections)

    async def post(self, path: str, body: bytes, headers: Mapping[str, str]) -> tuple[int, str, bytes]:
        """Status, media type and body of the answer to one query in JSON. An answer in anything else is a fault."""
        answer = await self._send(self._encode("POST", path, body, {"Content-Type": MEDIA_TYPE, **headers}), again=True)
        if answer.media_type != MEDIA_TYPE:
            raise OpaFault("media_type")
        return answer.status, answer.media_type, answer.body

    async def _init_session(self) -> None:
        self._open = True

    async def close_connection(self) -> None:
        """Close every connection; a call in flight fails as closed, a later one as unreachable."""
        self._open = False
        self._pool.close()
        await asyncio.sleep(0)  # sockets are closed in the loop's next turn

    @asynccontextmanager
    async def _request(
        self,
        method: str,
        url: str,
        *,
        json: Any = None,
        data: bytes = b"",
        headers: Mapping[str, str] | None = None,
    ) -> AsyncIterator[OpaAnswer]:
        if not url.startswith(f"{self._origin}/"):
            raise ValueError("the address is not this client's")
        body = data if json is None else orjson.dumps(json)
        typed = {**({} if json is None else {"Content-Type": MEDIA_TYPE}), **(headers or {})}
        # All but PATCH may happen twice without harm (RFC 9110, 9.2.2; POST to OPA is a query).
        again = method != "PATCH"
        yield await self._send(self._encode(method, url.removeprefix(self._origin), body, typed), again=again)

    def _encode(self, method: str, target: str, body: bytes, headers: Mapping[str, str]) -> bytes:
        lines = [f"{name}: {value}" for name, value in {**self._fixed, **headers, "Content-Length": len(body)}.items()]
        if not _TARGET.fullmatch(target) or not all(map(_HEADER.fullmatch, lines)):
            raise ValueError("a path or header that HTTP cannot carry")
        return "\r\n".join((f"{method} {target} HTTP/1.1", *lines, "", "")).encode() + body

    async def _send(self, request: bytes, *, again: bool) -> OpaAnswer:
        if not self._open:
            raise OpaFault("unreachable")
        deadline = asyncio.get_running_loop().time() + self.timeout
        try:
            answer = await self._pool.send(Request(data=request, most=self._max_body, deadline=deadline), again=again)
        except ConnectionFault as fault:
            raise OpaFault(fault.cause) from None
        except OSError:
            raise OpaFault("unreachable") from None
        media_type = "".join(answer.values(b"content-type")[-1:]).partition(";")[0].strip().lower()
        return OpaAnswer(status=answer.status, media_type=media_type, body=answer.body)

    async def _connect(self, connection: HttpConnection) -> None:
        loop = asyncio.get_running_loop()
        if self._path is not None:
            await loop.create_unix_connection(lambda: connection, self._path)
        else:
            await loop.create_connection(lambda: connection, self.host.strip("[]"), self.port)
        if not self._open:
            connection.abort()
            raise ConnectionFault("closed")


def split_address(address: str) -> tuple[str | None, str, int]:
    """Path of the unix socket, if it is one, and host and port as they stand in the Host header. Raises ValueError."""
    if address.startswith("unix:///"):
        return address.removeprefix("unix://"), "localhost", 8181
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536 or "/" in host:
        raise ValueError(f"OPA's address is unix:///path or host:port, not {address!r}")
    return None, host, int(port)
