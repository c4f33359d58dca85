"""Executor and upstream for tests of HttpUpstreams."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from proxy.adapters.credentials import Credentials
from proxy.adapters.http_exchange import HttpExchange
from proxy.adapters.http_upstream import HttpUpstreams
from proxy.core.tool import RequestTemplate, Tool, Upstream
from proxy.ports import Executor
from tests.adapters.byte_server import ByteServer, answer, free_port, hang, raw, serving
from tests.contracts.executor import SECRET, Bench, SteppedClock, http_tool

WAYS = {
    "answer": answer(b'{"ok":true}'),
    "hang": hang(),
    "reset": raw(b"", then="reset"),
    "half": raw(b'HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n{"half":', then="close"),
    "echo": answer(f'{{"you sent":"Bearer {SECRET}"}}'.encode()),
}
POST = RequestTemplate(method="POST", path="/orders", body={"n": "n"})
GET = RequestTemplate(method="GET", path="/orders")


class HttpBench(Bench):
    """An HTTP upstream on loopback."""

    def __init__(self, server: ByteServer, credentials: Credentials, clock: SteppedClock) -> None:
        self.server = server
        self.clock = clock
        self.credentials = credentials
        self.exchange = HttpExchange(clock)
        self.switch: str | None = None
        self.executor: Executor = HttpUpstreams(self.exchange, credentials, clock, lambda: 0.0, lambda *_: self.switch)
        self.url = server.url

    @property
    def deliveries(self) -> int:  # type: ignore[override] # counted by the server
        """Whole requests that arrived."""
        return len(self.server.received)

    def tool(self, *, timeout: float = 5.0, idempotent: bool = False, retries: int = 0) -> Tool:
        """A POST."""
        return self.make(POST, timeout=timeout, idempotent=idempotent, retries=retries)

    def make(self, request: RequestTemplate, **fields: object) -> Tool:
        """A tool with this request."""
        upstream = Upstream(name="orders", kind="http", url=self.url, credential="key", owner="orders-team")
        return http_tool(upstream, request, **fields)

    async def behave(self, *ways: str) -> None:
        """Set the script."""
        self.url = f"http://127.0.0.1:{free_port()}/v2" if ways == ("refuse",) else self.server.url
        self.server.script = [WAYS[way] for way in ways if way != "refuse"]


@asynccontextmanager
async def http_bench(folder: Path) -> AsyncIterator[HttpBench]:
    """A bench whose credential `key` is SECRET."""
    file = folder / "key"
    file.write_text(SECRET + "\n")
    file.chmod(0o600)
    clock = SteppedClock()
    credentials = Credentials({"key": {"bearer_file": str(file)}}, {}, clock, pytest.fail)
    async with serving() as server:
        bench = HttpBench(server, credentials, clock)
        yield bench
        await bench.exchange.close()
