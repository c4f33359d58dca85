"""Upstreams of kind `caller`: the agent runs the tool itself; here its result is awaited (design section 6)."""

import asyncio
import hashlib
import hmac
import secrets
from dataclasses import dataclass
from typing import Any

from proxy.core.permit import Permit
from proxy.errors import Code, Ran, Refusal
from proxy.model import Response, SpanContext
from proxy.ports import Clock


@dataclass(slots=True)
class _Awaited:
    handle_hash: bytes
    reported: asyncio.Future[bytes]


class OwnTools:
    """Executor and port Tools in one: `execute` hands over and waits for `report`, at most the tool's timeout."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._awaited: dict[str, _Awaited] = {}
        self._handed: dict[str, asyncio.Future[str]] = {}

    async def execute(self, permit: Permit, trace: SpanContext) -> Response:  # noqa: ARG002 - nothing is sent from here
        """Wait for the agent's report. Raises Refusal outcome_unknown when none comes in time."""
        loop = asyncio.get_running_loop()
        handle = secrets.token_urlsafe(32)
        awaited = _Awaited(_hash(handle), loop.create_future())
        self._awaited[permit.call_id] = awaited
        expected = self._expected(permit.call_id)
        if not expected.done():  # its caller may have left meanwhile
            expected.set_result(handle)
        timeout = permit.checked.tool.timeout
        patience: asyncio.Future[None] = asyncio.ensure_future(self._clock.sleep(timeout))
        awaiting: set[asyncio.Future[Any]] = {awaited.reported, patience}
        try:
            await asyncio.wait(awaiting, return_when=asyncio.FIRST_COMPLETED)
            if not awaited.reported.done():
                raise Refusal(
                    Code.OUTCOME_UNKNOWN, f"the agent reported no result within {timeout:g} s", ran=Ran.UNKNOWN
                )
            return Response(status=200, media_type="application/json", body=awaited.reported.result())
        finally:
            patience.cancel()
            del self._awaited[permit.call_id]
            self._handed.pop(permit.call_id, None)

    async def handed_over(self, call_id: str) -> str:
        """See Tools."""
        try:
            return await self._expected(call_id)
        finally:
            self._handed.pop(call_id, None)

    def report(self, call_id: str, handle: str, body: bytes) -> None:
        """See Tools. The first report with the right handle is the only one."""
        awaited = self._awaited.get(call_id)
        right = awaited is not None and hmac.compare_digest(awaited.handle_hash, _hash(handle))
        if awaited is None or not right or awaited.reported.done():
            raise Refusal(Code.UNKNOWN_CALL, "no call awaits a result under this handle")
        awaited.reported.set_result(body)

    def _expected(self, call_id: str) -> asyncio.Future[str]:
        return self._handed.setdefault(call_id, asyncio.get_running_loop().create_future())


def _hash(handle: str) -> bytes:
    return hashlib.sha256(handle.encode()).digest()
