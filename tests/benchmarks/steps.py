"""The stages of one call, each as something that can be repeated."""

import contextlib
import json
import tempfile
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
from yarl import URL

from proxy.adapters.clock import SystemClock
from proxy.adapters.credentials import Credentials
from proxy.adapters.executors import Executors
from proxy.adapters.http_exchange import HttpExchange
from proxy.adapters.http_upstream import HttpUpstreams
from proxy.adapters.opa import OpaPolicy
from proxy.adapters.opa_transport import SidecarOpaClient
from proxy.adapters.store_embedded import EmbeddedStore
from proxy.adapters.verifiers import verifier
from proxy.core import decision as decision_reader
from proxy.core.check import check
from proxy.core.decision import read_decision
from proxy.core.identity import present
from proxy.core.permit import grant
from proxy.core.policy_input import masked_arguments
from proxy.core.results import check_result
from proxy.core.trail import intent_record, terminal_record
from proxy.earlier import EarlierCall, Outcome
from proxy.identify import Identify
from proxy.model import Facts, History, Presented, Response, ToolCount
from proxy.server.rescue import answered
from proxy.settings import Tokens
from proxy.telemetry import names
from proxy.telemetry.attributes import of_rule
from proxy.telemetry.encode import SpanBatch
from proxy.telemetry.metrics import CallMetrics, Metrics
from proxy.telemetry.spans import CompactTracer, SpanRecord
from proxy.telemetry.story import CallTelemetry
from proxy.telemetry.variables import read_resource
from proxy.wire import dialects
from tests.benchmarks.bare_forward import HEADERS as BARE_HEADERS
from tests.benchmarks.bare_forward import lean_session
from tests.benchmarks.inside import CALLER, DECISION, KEY, TRACE, Parts
from tests.benchmarks.stubs import ANSWER
from tests.benchmarks.world import ARGUMENTS, call

# Not part of every call, or not of a call without a collector: left out of the sum.
SEND = "send to the upstream, its credential and its answer"
BARE_SEND = "(*) the same request by the bare forward's client"
SOMETIMES = frozenset(
    {BARE_SEND, "(*) read a decision not seen before", "(*) telemetry, three spans recorded", "(*) encode three spans"}
)
BARE_BODY = json.dumps(ARGUMENTS).encode()
HEADERS = [
    ("host", "127.0.0.1"),
    ("content-type", "application/json"),
    ("content-length", "420"),
    ("x-sidegate-conversation", "x" * 43),
]
FACTS = Facts(
    seq=21,
    history=History(
        complete=True,
        untrusted_read=True,
        marks={"system:inventory": 1, "effect:read": 1},
        tools={"get_stock": ToolCount(started=20, ok=20)},
        counters={"calls": 20},
        calls=tuple(
            EarlierCall(seq=n, tool="get_stock", system="inventory", effect="read", labels=(), outcome=Outcome.DONE)
            for n in range(20)
        ),
        calls_complete=True,
        principal_counters={"calls": 20},
    ),
)


def plain(one: Parts) -> Mapping[str, Callable[[], object]]:
    """The pure ones, in the order of the pipeline. Facts are those of a conversation with twenty earlier calls."""
    body, today = call("get_stock"), datetime.now(UTC).date()
    batch = dialects.parse(body)
    trail = one.trail("c" * 32, FACTS)
    ended = one.trail("c" * 32, FACTS)
    ended.committed = True
    response = Response(status=200, media_type="application/json", body=ANSWER)
    answer = trail.answer(result=one.result)
    tool, version = one.checked.tool, one.checked.version
    decision = read_decision(DECISION)

    def terminal() -> object:
        return terminal_record(ended, result=one.result, seconds=0.001)

    return {
        "parse": lambda: dialects.parse(body),
        "look at the carriers": lambda: present(HEADERS),
        "check against the schema, digest": lambda: check(one.call, one.snapshot, today=today, key=KEY),
        "mask arguments": lambda: masked_arguments(one.checked, KEY),
        "write OPA's input": lambda: one.document(FACTS),
        "(*) read a decision not seen before": lambda: decision_reader._read(DECISION),
        "permit": lambda: grant("c" * 32, one.checked, CALLER, decision),
        "intent record": lambda: intent_record(trail, credential="api"),
        "check the result": lambda: check_result(response, tool, version),
        "terminal record": terminal,
        "render": lambda: answered([answer], batch),
        **_telemetry(one),
    }


def _telemetry(one: Parts) -> Mapping[str, Callable[[], object]]:
    clock, records = SystemClock(), list[SpanRecord]()
    still = CompactTracer({}, clock, ())
    recording = CompactTracer({}, clock, (records.append,))
    metrics = CallMetrics(Metrics(), lambda _name: True)
    trail = one.trail("c" * 32, FACTS)
    trail.stages = {"decide": 0.001, "upstream": 0.001}
    answer = trail.answer(result=one.result)
    batch = SpanBatch(read_resource({}))  # the exporter makes one for some 170 calls
    attributes = of_rule(read_decision(DECISION))

    def story(tracer: CompactTracer) -> None:
        telemetry = CallTelemetry(tracer, metrics, clock)
        span = telemetry.begin(one.call, Presented())
        for kind in (names.SPAN_INTERNAL, names.SPAN_CLIENT):
            inner = tracer.start("decide", kind, TRACE)
            inner.update(attributes)
            inner.end()
        telemetry.conclude(span, trail, answer)

    def told() -> None:
        records.clear()
        story(recording)

    told()
    return {
        "telemetry, nothing exported": lambda: story(still),
        "(*) telemetry, three spans recorded": told,
        "(*) encode three spans": lambda: batch.add(records),
    }


@contextlib.asynccontextmanager
async def waiting(
    one: Parts, state: EmbeddedStore, opa: str
) -> AsyncIterator[Mapping[str, Callable[[], Coroutine[Any, Any, object]]]]:
    """Those that cross a port with a socket behind it, and identification, which reads the store."""
    clock = SystemClock()
    async with contextlib.AsyncExitStack() as stack:
        session = await stack.enter_async_context(aiohttp.ClientSession())
        lean = await stack.enter_async_context(lean_session())
        secret = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "token"
        secret.write_text("a-credential")
        secret.chmod(0o600)
        policy = OpaPolicy(await stack.enter_async_context(SidecarOpaClient(opa, deadline=5.0)))
        exchange = HttpExchange(clock)
        stack.push_async_callback(exchange.close)
        credentials = Credentials({"api": {"bearer_file": str(secret)}}, {}, clock, print)
        http = HttpUpstreams(exchange, credentials, clock, lambda: 0.5, state.conversations.stopped)
        executor = Executors({"http": http}, state.conversations.stopped)
        identify = Identify(
            conversations=state.conversations,
            tokens=verifier(Tokens(), session, clock),
            clock=clock,
            agent=CALLER.agent,
        )
        permit = grant("c" * 32, one.checked, CALLER, read_decision(DECISION))
        document, presented = one.document(FACTS), Presented(handle="handle-of-c1")
        yield {
            "identify": lambda: identify(presented),
            "decide: OPA's round trip (stub), its answer read": lambda: policy.decide(document, TRACE),
            SEND: lambda: executor.execute(permit, TRACE),
            BARE_SEND: lambda: _post(lean, URL(f"{one.checked.tool.upstream.url}/stock", encoded=True)),
        }


async def _post(session: aiohttp.ClientSession, url: URL) -> bytes:
    async with session.post(url, data=BARE_BODY, headers=BARE_HEADERS, allow_redirects=False) as response:
        return await response.read()
