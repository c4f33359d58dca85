"""The probe port: live, ready, metrics, and nothing else."""

from collections.abc import AsyncIterator
from dataclasses import dataclass

import aiohttp
import pytest

from proxy.server.probe import ProbePort
from tests.contracts.served import bound


@dataclass
class Process:
    """What the port asks."""

    up: bool = True
    url: str = ""


@pytest.fixture
async def process() -> AsyncIterator[Process]:
    made = Process()
    port = ProbePort(ready=lambda: made.up, metrics=lambda: "sidegate_calls_total 7\n")
    async with bound(port.application()) as made.url:
        yield made


async def get(process: Process, path: str, method: str = "GET") -> tuple[int, str, str]:
    async with aiohttp.ClientSession() as session, session.request(method, process.url + path) as response:
        return response.status, response.headers["content-type"], await response.text()


async def test_readiness_follows_the_process(process: Process) -> None:
    """Live it is in either case: a restart would mend nothing."""
    assert await get(process, "/healthz/ready") == (200, "text/plain; charset=utf-8", "ready\n")
    process.up = False
    assert await get(process, "/healthz/ready") == (503, "text/plain; charset=utf-8", "not ready\n")
    assert (await get(process, "/healthz/live"))[0] == 200


async def test_metrics_are_the_text_exposition(process: Process) -> None:
    """As they are."""
    status, kind, text = await get(process, "/metrics")
    assert (status, text) == (200, "sidegate_calls_total 7\n")
    assert kind.startswith("text/plain")


@pytest.mark.parametrize(
    ("path", "method", "status"),
    [
        ("/", "GET", 404),
        ("/v1/tool-calls", "POST", 404),
        ("/v1/reviews", "GET", 404),
        ("/v1/status", "GET", 404),
        ("/metrics", "POST", 405),
    ],
)
async def test_nothing_else_is_there(process: Process, path: str, method: str, status: int) -> None:
    """The port is open to the cluster."""
    assert (await get(process, path, method))[0] == status
