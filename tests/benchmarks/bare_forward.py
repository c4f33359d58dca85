"""The yardstick: aiohttp passing the same bytes on, lean (uvloop, web.Server, no client timeout), and nothing else.

Run: python -m tests.benchmarks.bare_forward PORT UPSTREAM_URL
"""

import asyncio
import sys

import aiohttp
import uvloop
from aiohttp import web
from yarl import URL

HEADERS = {"content-type": "application/json"}


def lean_session() -> aiohttp.ClientSession:
    """A client with nothing in it that can be left out."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0),
        timeout=aiohttp.ClientTimeout(total=None),
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
    )


async def main(port: int, upstream: str) -> None:
    """Serve until killed."""
    session = lean_session()
    url = URL(upstream, encoded=True)

    async def forward(request: web.BaseRequest) -> web.Response:
        body = await request.read()
        async with session.post(url, data=body, headers=HEADERS, allow_redirects=False) as response:
            return web.Response(body=await response.read(), status=response.status, content_type="application/json")

    server = web.Server(forward, access_log=None)
    runner = web.ServerRunner(server)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as made:
        made.run(main(int(sys.argv[1]), sys.argv[2]))
