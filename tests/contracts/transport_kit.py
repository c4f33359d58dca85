"""What the tests of a transport have in common: scripts for the other side, and the measure of a failure."""

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Protocol

import pytest

from proxy.adapters.opa_transport import OpaFault
from tests.contracts.opa_server import Script, Talk, byte_server, http

DECISION = "/v1/data/sidegate/decision/decision?strict-builtin-errors=true"


PATIENCE = 0.25  # seconds, the deadline where it is to pass
DEADLINE = 5.0  # seconds, where it is not, however busy the machine is
MARGIN = 2.0  # seconds that a busy machine may add


class Client(Protocol):
    """What is tested: a transport inside `async with`."""

    async def post(self, path: str, body: bytes, headers: Mapping[str, str]) -> tuple[int, str, bytes]: ...

    async def query_rule(self, input_data: Any, package_path: str, rule_name: str) -> Any: ...

    async def check_health(self, query: Mapping[str, bool] | None = None) -> bool: ...


async def echo(talk: Talk) -> None:
    while True:
        _, body = await talk.request()
        await talk.send(http(body))


def once(answer: bytes) -> Script:
    """Send these bytes to one request, then close."""

    async def script(talk: Talk) -> None:
        await talk.request()
        await talk.send(answer)

    return script


def then_wait(answer: bytes) -> Script:
    """Send these bytes to one request, then wait for the client to hang up."""

    async def script(talk: Talk) -> None:
        await talk.request()
        await talk.send(answer)
        await talk.hung_up()

    return script


async def fault(call: Awaitable[object]) -> str:
    """The cause of a call's failure, which came within the deadline."""
    started = time.monotonic()
    with pytest.raises(OpaFault) as caught:
        await call
    assert time.monotonic() - started < PATIENCE + MARGIN
    return caught.value.cause


class TransportTests:
    """Subclasses name the `client` class and bring the fixture `opa`."""

    client: Callable[..., Any]

    @asynccontextmanager
    async def to(self, address: str, **options: Any) -> AsyncIterator[Client]:
        async with self.client(address, **{"deadline": DEADLINE, **options}) as client:
            yield client

    async def failure(self, script: Script, **options: Any) -> tuple[str, int]:
        """Cause of a first call's failure and how many requests were sent for it."""
        async with byte_server(script) as server, self.to(server.address, **options) as client:
            return await fault(client.post("/q", b"{}", {})), len(server.requests)
