"""The composition root: the only place that knows every adapter. What starts last is ended first."""

import asyncio
import gc
import logging
import random
import signal
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack

import aiohttp

from proxy.adapters.again import in_background
from proxy.adapters.bundle_fetch import BundleFetcher
from proxy.adapters.clock import SystemClock
from proxy.adapters.coalesced_calls import CoalescedCalls
from proxy.adapters.credentials import Credentials
from proxy.adapters.executors import Executors
from proxy.adapters.http_exchange import HttpExchange
from proxy.adapters.http_facts import HttpFacts
from proxy.adapters.http_upstream import HttpUpstreams
from proxy.adapters.journal import Journal
from proxy.adapters.opa import OpaPolicy
from proxy.adapters.opa_process import SupervisedOpa
from proxy.adapters.opa_transport import SidecarOpaClient
from proxy.adapters.opa_watchdog import DEADLINE as WATCHDOG_SECONDS
from proxy.adapters.opa_watchdog import OpaWatchdog
from proxy.adapters.own_tools import OwnTools
from proxy.adapters.policy_source import PolicySource
from proxy.adapters.snapshots import Report, SnapshotKeeper
from proxy.adapters.state_directory import UnusableError
from proxy.adapters.trial import Trials
from proxy.adapters.verifiers import ReviewersAlone, attestations, verifier
from proxy.adapters.visible_cache import VisibleCache
from proxy.adapters.workshop import Workshop
from proxy.core.gate import Gate
from proxy.identify import Identify
from proxy.model import Agent
from proxy.pipeline import Pipeline
from proxy.ports import Clock, Conversations, Policy, Telemetry, TokenVerifier
from proxy.register import Registrar
from proxy.reports import log_of_opa, reporter, taken_over
from proxy.server.agent import LOOPBACK, AgentPort
from proxy.server.connections import ROOM
from proxy.server.listeners import Listeners, NotBoundError
from proxy.server.probe import ProbePort
from proxy.server.review import ReviewPort
from proxy.settings import Settings
from proxy.sidecar import Sidecar, drain
from proxy.stores import EXPIRE_EVERY, Kept, open_state
from proxy.telemetry.setup import Instruments, instruments

LOOK_EVERY = 1.0  # seconds between looks at catalog and policy files

_log = logging.getLogger("sidegate")


async def serve(settings: Settings) -> None:
    """Run until SIGTERM or SIGINT, then drain. Raises UnusableError before any port is bound if it cannot start."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with AsyncExitStack() as stack:
        sidecar = await start(settings, stack)
        # What lives as long as the process is not worth a look at each collection (generation 2 took 11 ms a turn).
        gc.collect()
        gc.freeze()
        gc.set_threshold(50_000, 20, 20)
        gc.enable()
        _log.info("ready", extra={"fields": sidecar.status()})
        await stop.wait()
        await drain(sidecar)


async def start(settings: Settings, stack: AsyncExitStack) -> Sidecar:
    """Everything, in order: state, policy, upstreams, the line, and the ports last."""
    clock = SystemClock()
    observed = instruments(settings.variables, clock)
    stack.push_async_callback(observed.close)
    kept = await open_state(settings, clock, stack)
    journal, store = kept.journal, kept.store
    policy, opa, source, snapshots = await _policy(settings, clock, stack, journal, observed)
    session = await stack.enter_async_context(aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()))
    users = verifier(settings.tokens, session, clock)
    identify = Identify(conversations=store.conversations, tokens=users, clock=clock, agent=Agent(**settings.agent))
    telemetry = _with_trials(observed.telemetry, policy, source, journal, clock, stack)
    pipeline = await _pipeline(
        settings, clock, stack, kept, policy, snapshots, identify, telemetry=telemetry, observed=observed
    )
    sidecar = Sidecar(
        settings=settings,
        pipeline=pipeline,
        store=store,
        journal=journal,
        volume=kept.volume,
        snapshots=snapshots,
        policy_source=source,
        listeners=Listeners(),
        opa=opa,
        watchdog=await _watchdog(settings, clock, stack, opa),
    )
    observed.known_tools = lambda: snapshots.current().catalog.tools
    told = observed.telemetry.holds.watch(store.reviews, EXPIRE_EVERY)
    watches = (snapshots.watch(LOOK_EVERY), store.reviews.watch(EXPIRE_EVERY), sidecar.watchdog.watch())
    for work in (*watches, told, observed.lag.watch()):
        in_background(work, stack)
    stack.push_async_callback(sidecar.listeners.close)
    registrar = Registrar(
        identify=identify, attestations=attestations(settings, clock), max_age=settings.conversation_ttl
    )
    reviewers = ReviewersAlone(verifier(settings.reviewers, session, clock), users)
    observed.watch(sidecar.readings())
    await _bind(settings, sidecar, registrar, reviewers, observed)
    return sidecar


async def _policy(
    settings: Settings, clock: SystemClock, stack: AsyncExitStack, journal: Journal, observed: Instruments
) -> tuple[OpaPolicy, SupervisedOpa | None, PolicySource, SnapshotKeeper]:
    """OPA, the bundle that it reads, and the snapshot of catalog and policy."""
    workshop, report = Workshop(settings, clock=clock), reporter(journal)
    opa = None
    if settings.opa.mode == "supervised":
        opa = SupervisedOpa(
            binary=workshop.opa(),
            bundle=workshop.output,
            directory=settings.state / "opa",
            clock=clock,
            on_log=log_of_opa,
            tracing=observed.opa_target,
        )
    client = SidecarOpaClient(settings.opa.endpoint if opa is None else opa.address, deadline=settings.opa.deadline)
    await stack.enter_async_context(client)
    policy = OpaPolicy(client)
    fetcher = await _fetching(workshop, report, stack)
    source = workshop.source(policy, _once(opa, stack))
    source.fetcher = fetcher
    snapshots = SnapshotKeeper(
        settings.catalog,
        prepare=source.prepare,
        report=report,
        taken=lambda snapshot: taken_over(snapshot, source, journal),
        clock=clock,
        also=source.watched,
    )
    await snapshots.reload()
    return policy, opa, source, snapshots


async def _fetching(workshop: Workshop, report: Report, stack: AsyncExitStack) -> BundleFetcher | None:
    """Bundles that have a URL: once now, and again and again from now on."""
    session = await stack.enter_async_context(aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()))
    if (fetcher := workshop.fetcher(session, report)) is not None:
        await fetcher.first()
        in_background(fetcher.watch(), stack)
    return fetcher


async def _watchdog(
    settings: Settings, clock: SystemClock, stack: AsyncExitStack, opa: SupervisedOpa | None
) -> OpaWatchdog:
    address, end = (settings.opa.endpoint, lambda: None) if opa is None else (opa.address, opa.kill)
    client = SidecarOpaClient(address, deadline=WATCHDOG_SECONDS, connections=1)
    await stack.enter_async_context(client)
    return OpaWatchdog(OpaPolicy(client).revision, end, clock)


def _with_trials(
    telemetry: Telemetry, policy: OpaPolicy, source: PolicySource, journal: Journal, clock: Clock, stack: AsyncExitStack
) -> Telemetry:
    """Policies on trial hear of a call when it has concluded, as those who watch do."""
    trials = Trials(telemetry, policy, lambda: "shadow" in source.modes.values(), journal.append, clock)
    in_background(trials.run(), stack)
    stack.push_async_callback(trials.finish)
    return trials


async def _pipeline(  # noqa: PLR0913 - all that the line is made of
    settings: Settings,
    clock: SystemClock,
    stack: AsyncExitStack,
    kept: Kept,
    policy: Policy,
    snapshots: SnapshotKeeper,
    identify: Identify,
    *,
    telemetry: Telemetry,
    observed: Instruments,
) -> Pipeline:
    """The line itself, with tracing wrapped around its ports."""
    own_tools = OwnTools(clock)
    calls = CoalescedCalls(kept.store.calls, clock)
    in_background(calls.watch(), stack)
    facts, executors = _upstreams(settings, clock, stack, own_tools, kept.store.conversations)
    cached = VisibleCache(policy, lambda: snapshots.current().policy_revision)
    traced_policy, traced_facts, traced_executor = observed.traced(cached, facts, executors)
    return Pipeline(
        identify=identify,
        snapshots=snapshots,
        conversations=kept.store.conversations,
        calls=calls,
        reviews=kept.store.reviews,
        policy=traced_policy,
        facts=traced_facts,
        executor=traced_executor,
        own_tools=own_tools,
        telemetry=telemetry,
        clock=clock,
        key=kept.key,
        gate=Gate(limit=settings.limits.in_flight),
        patience=settings.patience,
        review_ttl=settings.review_ttl,
    )


def _upstreams(
    settings: Settings, clock: Clock, stack: AsyncExitStack, own_tools: OwnTools, conversations: Conversations
) -> tuple[HttpFacts, Executors]:
    """What answers for facts and what executes tools, over one pool of connections."""
    # Of one upstream as many as of all: with fewer, one principal's calls to it would stand in the way of those for whom the gate
    # has kept places.
    exchange = HttpExchange(clock, bulkhead=settings.limits.in_flight)
    stack.push_async_callback(exchange.close)
    credentials = Credentials(settings.credentials, settings.variables, clock, _log.warning)
    http = HttpUpstreams(exchange, credentials, clock, random.random, conversations.stopped)
    return HttpFacts(exchange, credentials), Executors({"http": http, "caller": own_tools}, conversations.stopped)


async def _bind(
    settings: Settings, sidecar: Sidecar, registrar: Registrar, reviewers: TokenVerifier, observed: Instruments
) -> None:
    """The probe port first, so that a start can be watched; the agent port last, when every call can be decided."""
    agent = AgentPort(
        pipeline=sidecar.pipeline,
        registrar=registrar,
        body_bytes=settings.limits.body_bytes,
        note=sidecar.journal.append,
        hosts=None if settings.agent_port.path else LOOPBACK | {settings.agent_port.host},
    )
    store = sidecar.store
    review = ReviewPort(
        reviews=observed.answered(store.reviews),
        conversations=store.conversations,
        verifier=reviewers,
        status=sidecar.status,
        switches=lambda: store.switches,
        unknown=sidecar.unknown,
    )
    probe = ProbePort(
        ready=sidecar.ready, metrics=lambda openmetrics: observed.metrics.exposition(openmetrics=openmetrics)
    )
    room = max(ROOM, 4 * settings.limits.body_bytes)  # the only body gets half of it at most
    for name, application, listen in (
        ("probe_port", probe.application(), settings.probe_port),
        ("review_port", review.application(), settings.review_port),
        ("agent_port", agent.application(), settings.agent_port),
    ):
        try:
            await sidecar.listeners.bind(application, listen, lasting=listen is settings.probe_port, room=room)
        except NotBoundError as e:
            raise UnusableError(f"{name}: {e}") from e
    sidecar.listeners.complete = True


def _once(opa: SupervisedOpa | None, stack: AsyncExitStack) -> Callable[[], Awaitable[None]]:
    started = False

    async def start_opa() -> None:
        nonlocal started
        if opa is not None and not started:
            await opa.start()
            stack.push_async_callback(opa.close)
            started = True

    return start_opa
