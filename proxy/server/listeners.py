"""Binding the three ports."""

import asyncio
import resource
import ssl
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from proxy.server.connections import ROOM, TAKING, Connection, Room, TurnedAway
from proxy.server.rescue import unnamed
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
    # Of a body that its handler does not read twice as many bytes are taken in, or a sixteenth as many chunks.
    "read_bufsize": 32 << 10,
    "auto_decompress": False,
}


class NotBoundError(Exception):
    """A port that cannot be served, in a sentence."""


@dataclass(slots=True)
class Listeners:
    """What is bound. Closing stops to accept at once and waits for handlers under way."""

    runners: list[web.AppRunner] = field(default_factory=list)
    complete: bool = False  # all ports are bound
    lasting: list[web.AppRunner] = field(default_factory=list)
    taking: float = TAKING  # seconds for a caller to take an answer

    async def bind(
        self, application: web.Application, listen: Listen, *, lasting: bool = False, room: int = ROOM
    ) -> None:
        """Serve an application. A handler is cancelled when its caller hangs up: a held call must not outlive its waiter.
        One that is `lasting` is served until `close`: who drains still says that he lives and takes no more. `room`: bytes of
        all requests that are not whole.

        Raises NotBoundError if the address or the certificate cannot be used.
        """
        application.on_response_prepare.append(unnamed)
        runner = _Runner(application, handler_cancellation=True, shutdown_timeout=1.0)
        runner.room, runner.taking = Room(limit=room), self.taking
        await runner.setup()
        self.runners.append(runner)
        if lasting:
            self.lasting.append(runner)
        site: web.BaseSite
        if listen.path is not None:
            site = web.UnixSite(runner, str(listen.path), backlog=BACKLOG)
        else:
            site = web.TCPSite(runner, listen.host, listen.port, ssl_context=_tls(listen), backlog=BACKLOG)
        try:
            await site.start()
        except OSError as e:
            raise NotBoundError(f"{listen.address} cannot be bound: {e.strerror}; name another there") from e
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


class _Server(web.Server):
    most = 0
    room = Room()
    taking = TAKING

    def __call__(self) -> asyncio.Protocol:  # type: ignore[override]  # what serves one connection, or turns it away
        if len(self.connections) >= self.most:
            return TurnedAway()
        return Connection(self, self.room, self.taking, **_HTTP)


class _Runner(web.AppRunner):
    room = Room()
    taking = TAKING

    async def _make_server(self) -> web.Server:
        made = await super()._make_server()
        server = _Server(made.request_handler, request_factory=made.request_factory, handler_cancellation=True)
        server.room, server.taking = self.room, self.taking
        server.most = resource.getrlimit(resource.RLIMIT_NOFILE)[0] // _SHARES
        return server


def _tls(listen: Listen) -> ssl.SSLContext | None:
    if listen.certificate is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(listen.certificate, listen.key)
    except OSError as e:
        raise NotBoundError(
            f"certificate {listen.certificate} with key {listen.key} cannot be used: {e.strerror}"
        ) from e
    return context
