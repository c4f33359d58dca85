"""The probe port: live, ready, metrics, and nothing else. No authentication, no detail (design section 5)."""

from collections.abc import Callable
from dataclasses import dataclass

from aiohttp import web


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbePort:
    """`ready` is true once policy is served and while nothing drains; `metrics` is the Prometheus text exposition."""

    ready: Callable[[], bool]
    metrics: Callable[[], str]

    def application(self) -> web.Application:
        """All routes in one table."""
        app = web.Application()
        app.router.add_get("/healthz/live", self.live)
        app.router.add_get("/healthz/ready", self.shown_ready)
        app.router.add_get("/metrics", self.shown_metrics)
        return app

    async def live(self, _: web.Request) -> web.Response:
        """The event loop turns. A restart mends nothing else."""
        return web.Response(text="live\n")

    async def shown_ready(self, _: web.Request) -> web.Response:
        """Whether calls are decided at present."""
        ready = self.ready()
        return web.Response(text="ready\n" if ready else "not ready\n", status=200 if ready else 503)

    async def shown_metrics(self, _: web.Request) -> web.Response:
        """Counters and gauges."""
        return web.Response(text=self.metrics(), content_type="text/plain", charset="utf-8")
