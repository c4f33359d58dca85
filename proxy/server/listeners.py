"""Binding the three ports."""

import asyncio
import resource
import ssl
from dataclasses import dataclass, field
from typing import Any, cast

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from proxy.errors import Code, Refusal
from proxy.server.rescue import refused, unnamed
from proxy.settings import Listen

# A burst of new connections is answered (`overloaded`, where it must be); with 128, the default, it waited for SYN retries.
BACKLOG = 4096
MAX_HEADERS = 16 << 10  # bytes of one header line, baggage included
# Each port may use up so much of the process's descriptors: who opens connections to one must not close the others, nor take
# away what OPA, upstreams and the journal need.
_SHARES = 4
_HTTP: dict[str, Any] = {
    "access_log": None,  # the audit journal is the record
    "keepalive_timeout": 75.0,
    # What is left of a body that was refused is read for so long: closing at once would take the answer away with it.
    "lingering_time": 0.5,
    "max_line_size": MAX_HEADERS,
    "max_field_size": MAX_HEADERS,
    "auto_decompress": False,
}


@dataclass(slots=True)
class Listeners:
    """What is bound. Closing stops to accept at once and waits for handlers under way."""

    runners: list[web.AppRunner] = field(default_factory=list)
    complete: bool = False  # all ports are bound
    lasting: list[web.AppRunner] = field(default_factory=list)

    async def bind(self, application: web.Application, listen: Listen, *, lasting: bool = False) -> None:
        """Serve an application. A handler is cancelled when its caller hangs up: a held call must not outlive its waiter.
        One that is `lasting` is served until `close`: who drains still says that he lives and takes no more.

        Raises OSError if the address is taken.
        """
        application.on_response_prepare.append(unnamed)
        runner = _Runner(application, handler_cancellation=True, shutdown_timeout=1.0)
        await runner.setup()
        self.runners.append(runner)
        if lasting:
            self.lasting.append(runner)
        site: web.BaseSite
        if listen.path is not None:
            site = web.UnixSite(runner, str(listen.path), backlog=BACKLOG)
        else:
            site = web.TCPSite(runner, listen.host, listen.port, ssl_context=_tls(listen), backlog=BACKLOG)
        await site.start()
        if listen.path is not None:
            listen.path.chmod(0o660)

    async def stop_accepting(self) -> None:
        """No new connections from here on, but for lasting ports; those that are open stay until `close`."""
        for site in [site for runner in self.runners if runner not in self.lasting for site in runner.sites]:
            await site.stop()

    async def close(self) -> None:
        """Close every connection."""
        for runner in reversed(self.runners):
            await runner.cleanup()


class _Connection(RequestHandler):
    """A connection whose answer to what is not HTTP is ours: aiohttp's own quotes the bad bytes (a token may be among them)
    in the answer and in the log, and names itself."""

    def handle_error(
        self,
        request: web.BaseRequest,  # noqa: ARG002 - the signature is aiohttp's
        status: int = 500,
        exc: BaseException | None = None,  # noqa: ARG002 - see above
        message: str | None = None,  # noqa: ARG002 - see above
    ) -> web.StreamResponse:
        response = refused(Refusal(Code.INVALID_CALL, "the request is not valid HTTP"), status)
        response.headers["server"] = "sidegate"
        response.force_close()
        return response


class _TurnedAway(asyncio.Protocol):
    """A connection over the share of its port: answered at once, and not kept."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        told = cast("asyncio.Transport", transport)
        body = refused(Refusal(Code.OVERLOADED, "more connections are open than this port takes", retry_after=1)).body
        head = "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nRetry-After: 1\r\nConnection: close\r\n"
        told.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)  # type: ignore[operator,arg-type]  # bytes
        told.close()


class _Server(web.Server):
    most = 0

    def __call__(self) -> asyncio.Protocol:  # type: ignore[override]  # what serves one connection, or turns it away
        if len(self.connections) >= self.most:
            return _TurnedAway()
        return _Connection(self, loop=asyncio.get_running_loop(), **_HTTP)


class _Runner(web.AppRunner):
    async def _make_server(self) -> web.Server:
        made = await super()._make_server()
        server = _Server(made.request_handler, request_factory=made.request_factory, handler_cancellation=True)
        server.most = resource.getrlimit(resource.RLIMIT_NOFILE)[0] // _SHARES
        return server


def _tls(listen: Listen) -> ssl.SSLContext | None:
    if listen.certificate is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(listen.certificate, listen.key)
    return context
