"""The probe port: live, ready, metrics, and nothing else."""

from collections.abc import AsyncIterator
from dataclasses import dataclass

import aiohttp
import pytest

from proxy.server.probe import OPENMETRICS, PROMETHEUS, ProbePort, prefers_openmetrics
from tests.contracts.served import bound


@dataclass
class Process:
    """What the port asks."""

    up: bool = True
    url: str = ""


@pytest.fixture
async def process() -> AsyncIterator[Process]:
    made = Process()
    port = ProbePort(ready=lambda: made.up, metrics=lambda openmetrics: f"sidegate_calls_total {7 + openmetrics}\n")
    async with bound(port.application()) as made.url:
        yield made


async def get(
    process: Process, path: str, method: str = "GET", headers: dict[str, str] | None = None
) -> tuple[int, str, str]:
    async with (
        aiohttp.ClientSession() as session,
        session.request(method, process.url + path, headers=headers) as response,
    ):
        return response.status, response.headers["content-type"], await response.text()


async def test_readiness_follows_the_process(process: Process) -> None:
    """Live it is in either case: a restart would mend nothing."""
    assert await get(process, "/healthz/ready") == (200, "text/plain; charset=utf-8", "ready\n")
    process.up = False
    assert await get(process, "/healthz/ready") == (503, "text/plain; charset=utf-8", "not ready\n")
    assert (await get(process, "/healthz/live"))[0] == 200


async def test_metrics_are_the_text_exposition(process: Process) -> None:
    """As they are."""
    assert await get(process, "/metrics") == (200, PROMETHEUS, "sidegate_calls_total 7\n")


# What Prometheus 2.42 and 3 send.
OLD = (
    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
    "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)
NEW = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,application/openmetrics-text;version=0.0.1;q=0.5,"
    "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)


@pytest.mark.parametrize("accept", [OLD, NEW])
async def test_a_scraper_that_prefers_openmetrics_gets_it(process: Process, accept: str) -> None:
    """Under its own media type, so that it is parsed as such."""
    assert await get(process, "/metrics", headers={"accept": accept}) == (200, OPENMETRICS, "sidegate_calls_total 8\n")


@pytest.mark.parametrize(
    ("accepts", "openmetrics"),
    [
        ([], False),
        (["*/*"], False),
        (["text/html"], False),
        (["text/plain;version=0.0.4"], False),
        (["application/openmetrics-text;version=0.0.1"], False),
        (["application/openmetrics-text;q=0"], False),
        (["application/openmetrics-text;q=0.2,text/plain;q=0.3"], False),
        (["text/plain;q=0.3", 'Application/OpenMetrics-Text; version="1.0.0"; q=0.3'], True),
        (["application/openmetrics-text;q=nonsense"], True),
        (["application/openmetrics-text"], True),
        ([";;,,=;q=,application/openmetrics-text;q=-1e9;q=nan"], True),
    ],
)
def test_what_is_preferred_is_read_from_the_header(accepts: list[str], openmetrics: bool) -> None:
    """Nothing in it can break a scrape."""
    assert prefers_openmetrics(accepts) is openmetrics


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
