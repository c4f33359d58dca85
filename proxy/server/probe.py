"""The probe port: live, ready, metrics, and nothing else. No authentication, no detail (design section 5)."""

import re
from collections.abc import Callable
from dataclasses import dataclass

from aiohttp import web

PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"
_QUALITY = re.compile(r"[01](?:\.[0-9]{0,3})?")


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbePort:
    """`ready` is true once policy is served and while nothing drains; `metrics(openmetrics)` is the text exposition."""

    ready: Callable[[], bool]
    metrics: Callable[[bool], str]

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

    async def shown_metrics(self, request: web.Request) -> web.Response:
        """Counters and gauges, as OpenMetrics for a scraper that prefers it."""
        openmetrics = prefers_openmetrics(request.headers.getall("Accept", []))
        return web.Response(
            body=self.metrics(openmetrics).encode(),
            headers={"Content-Type": OPENMETRICS if openmetrics else PROMETHEUS, "Vary": "Accept"},
        )


def prefers_openmetrics(accepts: list[str]) -> bool:
    """Whether OpenMetrics 1.0 is asked for at least as much as the plain text format (RFC 9110, section 12.5.1). Who asks for
    neither, or for anything, gets plain text."""
    wanted, plain = 0.0, 0.0
    for item in ",".join(accepts).split(","):
        media, *parameters = (part.strip().lower() for part in item.split(";"))
        told = dict(parameter.partition("=")[::2] for parameter in parameters)
        quality = float(told["q"]) if _QUALITY.fullmatch(told.get("q", "")) else 1.0
        if media == "application/openmetrics-text" and told.get("version", "1.0.0").strip('"') == "1.0.0":
            wanted = max(wanted, quality)
        elif media == "text/plain":
            plain = max(plain, quality)
    return wanted > 0 and wanted >= plain
