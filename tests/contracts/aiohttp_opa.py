"""The oracle of the transport's contract: the same API on aiohttp's own client."""

from collections.abc import Mapping
from typing import Any

import aiohttp
from opa_client import AsyncOpaClient

from proxy.adapters.opa_transport import OpaFault, split_address

PATIENCE = 0.25


class AiohttpOpaClient(AsyncOpaClient):  # type: ignore[misc]  # the package ships no types
    """The oracle: the API of SidecarOpaClient on aiohttp's own client."""

    def __init__(
        self, address: str, *, deadline: float = PATIENCE, connections: int = 32, max_body: int = 1 << 20
    ) -> None:
        self._path, host, port = split_address(address)
        super().__init__(host, port, timeout=deadline, retries=0)
        self._limit = connections
        self._max_body = max_body

    async def _init_session(self) -> None:
        trace = aiohttp.TraceConfig()
        trace.on_connection_reuseconn.append(_note_reuse)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.UnixConnector(self._path, limit=self._limit)
            if self._path is not None
            else aiohttp.TCPConnector(limit=self._limit),
            timeout=aiohttp.ClientTimeout(total=self.timeout),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            headers={"Accept-Encoding": "identity"},
            trace_configs=[trace],
        )

    async def post(self, path: str, body: bytes, headers: Mapping[str, str]) -> tuple[int, str, bytes]:
        """As SidecarOpaClient's."""
        used: dict[str, bool] = {}
        try:
            return await self._once(path, body, headers, used)
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as e:
            if isinstance(e, aiohttp.ClientConnectorError):
                raise OpaFault("unreachable") from None
            if not used.get("reused"):
                raise OpaFault("closed") from None
        try:
            return await self._once(path, body, headers, used)
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
            raise OpaFault("closed") from None

    async def _once(
        self, path: str, body: bytes, headers: Mapping[str, str], used: dict[str, bool]
    ) -> tuple[int, str, bytes]:
        sent = {"Content-Type": "application/json", **headers}
        url = f"http://{self.host}:{self.port}{path}"
        try:
            async with self._session.post(
                url, data=body, headers=sent, allow_redirects=False, trace_request_ctx=used
            ) as answer:
                return answer.status, _media_type(answer), await self._read(answer)
        except TimeoutError:
            raise OpaFault("timeout") from None
        except aiohttp.ClientPayloadError:
            raise OpaFault("closed") from None
        except aiohttp.ClientResponseError:
            raise OpaFault("malformed") from None

    async def _read(self, answer: aiohttp.ClientResponse) -> bytes:
        body = bytearray()
        async for part in answer.content.iter_any():
            body += part
            if len(body) > self._max_body:
                answer.close()
                raise OpaFault("too_large")
        return bytes(body)


async def _note_reuse(session: Any, context: Any, params: Any) -> None:
    if context.trace_request_ctx is not None:
        context.trace_request_ctx["reused"] = True


def _media_type(answer: aiohttp.ClientResponse) -> str:
    media_type = answer.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if media_type != "application/json":
        raise OpaFault("media_type")
    return media_type
