"""A desk: no agent port, no upstreams, no policy. It lists and answers the held calls of all pods on a shared store."""

import asyncio
import gc
import logging
import signal
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from typing import Any

import aiohttp

from proxy import __version__
from proxy.adapters.again import in_background
from proxy.adapters.clock import SystemClock
from proxy.adapters.state_directory import UnusableError
from proxy.adapters.verifiers import verifier
from proxy.server.listeners import Listeners, NotBoundError
from proxy.server.probe import ProbePort
from proxy.server.review import ReviewPort
from proxy.settings import Settings
from proxy.stores import EXPIRE_EVERY, Kept, open_state
from proxy.telemetry import names
from proxy.telemetry.metrics import Reading
from proxy.telemetry.setup import instruments

_log = logging.getLogger("sidegate")


async def serve_desk(settings: Settings) -> None:
    """Run until SIGTERM or SIGINT. Raises UnusableError before any port is bound if it cannot start."""
    if settings.store is None:
        raise UnusableError(
            "a desk answers the held calls of other pods: it needs `store: {valkey: ...}` in the settings"
        )
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with AsyncExitStack() as stack:
        kept = await open_state(settings, SystemClock(), stack)
        in_background(kept.store.reviews.watch(EXPIRE_EVERY), stack)
        await _bind(settings, kept, stack)
        gc.enable()  # which the start has turned off
        _log.info("ready", extra={"fields": _status(settings, kept)})
        await stop.wait()


async def _bind(settings: Settings, kept: Kept, stack: AsyncExitStack) -> None:
    session = await stack.enter_async_context(aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()))
    listeners, observed = Listeners(), instruments(settings.variables, SystemClock())
    stack.push_async_callback(observed.close)
    in_background(observed.lag.watch(), stack)
    stack.push_async_callback(listeners.close)
    observed.watch(_readings(kept))
    review = ReviewPort(
        reviews=observed.answered(kept.store.reviews),
        conversations=kept.store.conversations,
        verifier=verifier(settings.reviewers, session, SystemClock()),
        status=lambda: _status(settings, kept),
        switches=lambda: kept.store.switches,
    )
    probe = ProbePort(
        # Also while the store is gone: every desk has lost it then, and a reviewer who reaches one is told so (state_unavailable);
        # without a ready desk the Service would answer nobody. A desk that has never seen its store does not start.
        ready=lambda: listeners.complete,
        metrics=lambda openmetrics: observed.metrics.exposition(openmetrics=openmetrics),
    )
    for name, application, listen in (
        ("probe_port", probe.application(), settings.probe_port),
        ("review_port", review.application(), settings.review_port),
    ):
        try:
            await listeners.bind(application, listen)
        except NotBoundError as e:
            raise UnusableError(f"{name}: {e}") from e
    listeners.complete = True


def _readings(kept: Kept) -> Mapping[str, Callable[[], Reading]]:
    """A desk's own: what waits is told by the pods whose calls it is."""
    return {
        names.JOURNAL_RECORDS_TOTAL: lambda: kept.journal.head.seq,
        names.JOURNAL_FREE_BYTES: lambda: kept.volume.free,
        names.JOURNAL_SIZE_BYTES: lambda: kept.volume.size,
        names.BUILD_INFO: lambda: {(__version__,): 1},
    }


def _status(settings: Settings, kept: Kept) -> Mapping[str, Any]:
    head = kept.journal.head
    return {
        "desk": True,
        "ports": {"review": settings.review_port.address, "probe": settings.probe_port.address},
        "journal": {"seq": head.seq, "hash": head.hash, "segment": head.segment},
        "store": kept.store.status(),
    }
