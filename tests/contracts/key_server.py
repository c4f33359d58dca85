"""A token issuer's key endpoint on loopback, which does what a test says."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass
class KeyServer:
    """`body` is answered with 200, unless `answer` is set. `over` ends what waits."""

    body: bytes = b'{"keys": []}'
    answer: Answer | None = None
    url: str = ""
    paths: list[str] = field(default_factory=list)
    over: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def fetches(self) -> int:
        return len(self.paths)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.paths.append(request.path)
        if self.answer is not None:
            return await self.answer(request)
        return web.Response(body=self.body, content_type="application/json")


@asynccontextmanager
async def key_server() -> AsyncIterator[KeyServer]:
    """Start one on a free port."""
    server = KeyServer()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", server.handle)
    runner = web.AppRunner(app, shutdown_timeout=1.0)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    server.url = f"http://127.0.0.1:{runner.addresses[0][1]}/keys"
    try:
        yield server
    finally:
        server.over.set()
        await runner.cleanup()
