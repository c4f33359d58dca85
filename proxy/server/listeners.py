"""Binding the three ports."""

import ssl
from dataclasses import dataclass, field

from aiohttp import web

from proxy.settings import Listen

MAX_HEADERS = 16 << 10  # bytes of one header line, baggage included
KEEP_ALIVE = 75.0


@dataclass(slots=True)
class Listeners:
    """What is bound. Closing stops to accept at once and waits for handlers under way."""

    runners: list[web.AppRunner] = field(default_factory=list)
    complete: bool = False  # set when every port is bound

    async def bind(self, application: web.Application, listen: Listen) -> None:
        """Serve an application. A handler is cancelled when its caller hangs up: a held call must not outlive its waiter.

        Raises OSError if the address is taken.
        """
        runner = web.AppRunner(
            application,
            handler_cancellation=True,
            access_log=None,  # the audit journal is the record
            keepalive_timeout=KEEP_ALIVE,
            shutdown_timeout=1.0,
            max_line_size=MAX_HEADERS,
            max_field_size=MAX_HEADERS,
            auto_decompress=False,
        )
        await runner.setup()
        self.runners.append(runner)
        site: web.BaseSite
        if listen.path is not None:
            site = web.UnixSite(runner, str(listen.path))
        else:
            site = web.TCPSite(runner, listen.host, listen.port, ssl_context=_tls(listen))
        await site.start()
        if listen.path is not None:
            listen.path.chmod(0o660)

    async def stop_accepting(self) -> None:
        """No new connections from here on; those that are open stay until `close`."""
        for runner in self.runners:
            for site in list(runner.sites):
                await site.stop()

    async def close(self) -> None:
        """Close every connection."""
        for runner in reversed(self.runners):
            await runner.cleanup()


def _tls(listen: Listen) -> ssl.SSLContext | None:
    if listen.certificate is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(listen.certificate, listen.key)
    return context
