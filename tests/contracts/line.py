"""The pipeline over a real embedded store on real files, with scripted fakes behind the other ports and a tap on all of them."""

import asyncio
import inspect
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from proxy.adapters.journal_reader import read
from proxy.adapters.own_tools import OwnTools
from proxy.adapters.store_embedded import EmbeddedStore
from proxy.core import strict_json
from proxy.core.gate import Gate
from proxy.core.identity import hash_handle
from proxy.core.permit import Permit
from proxy.core.review import ReviewStatus
from proxy.core.tool import Catalog, ResourceSource, Snapshot
from proxy.errors import Refusal
from proxy.identify import Identify
from proxy.model import (
    Answer,
    Arguments,
    Decision,
    Dialect,
    Effect,
    Presented,
    Reason,
    Resource,
    Response,
    SpanContext,
    ToolCall,
    UnreadableCall,
)
from proxy.pipeline import Pipeline
from tests.adapters.embedded_rig import Rig
from tests.contracts.registered import NamedTokens
from tests.contracts.store_kit import ManualClock, until
from tests.contracts.store_values import AGENT, principal, registered
from tests.core.sample_catalog import document, load

HANDLE = "h" * 43
ADA = Presented(handle=HANDLE)
KEY = b"k" * 32
ALLOW = Decision(effect=Effect.ALLOW, revision="p1", allow=(Reason(policy="grants", code="granted"),))
ASKS = Reason(policy="combination", code="three_systems", message="a person has to see this", approvers=("leads",))
REVIEW = Decision(
    effect=Effect.REVIEW,
    revision="p1",
    review=(ASKS,),
    said={"review": {"combination": [{"code": "three_systems", "message": "a person has to see this"}]}},
)
DENY = Decision(
    effect=Effect.DENY,
    revision="p1",
    deny=(Reason(policy="arguments", code="over_limit", message="too much", fix="order less", details={"at": 7}),),
)
GOOD = Response(status=200, media_type="application/json", body=b'{"weekly_capacity":7}')


def catalog(*changes: tuple[str, Any]) -> Catalog:
    """The sample catalog with a write that is declared as one."""
    return load(document(("tools/1/effect", "write"), *changes))


def snapshot(policy: str = "p1", *changes: tuple[str, Any]) -> Snapshot:
    return Snapshot(catalog=catalog(*changes), policy_revision=policy)


def arguments(text: bytes) -> Arguments:
    tree = strict_json.read_tree(text)
    raw = strict_json.write(tree)
    return Arguments(raw=raw, tree=tree, value=strict_json.read_values(raw))


def call(tool: str = "get_capacity", given: bytes = b'{"supplier_id":"s1"}', **changes: Any) -> ToolCall:
    made = ToolCall(id="c1", tool=tool, arguments=arguments(given), dialect=Dialect.NATIVE, reason="stock is low")
    return replace(made, **changes)


READ = call()
WRITE = call("place_order", b'{"sku":"a","quantity":2,"auth":{"pin":"p1n-canary"}}')
OWN = call("draw_chart", b'{"title":"t"}')


@dataclass
class Snapshots:
    """Port Snapshots: two values."""

    now: Snapshot
    before: Snapshot | None = None

    def current(self) -> Snapshot:
        return self.now

    def by_policy(self, revision: str) -> Snapshot | None:
        known = (one for one in (self.now, self.before) if one is not None)
        return next((one for one in known if one.policy_revision == revision), None)


@dataclass
class ScriptedPolicy:
    """Port Policy: `decides` says what the document gets; an approval turns REVIEW into ALLOW by default."""

    decides: Callable[[dict[str, Any]], Decision] = lambda _: ALLOW
    asked: list[dict[str, Any]] = field(default_factory=list)
    sees: frozenset[str] = frozenset()

    async def decide(self, document: bytes, trace: SpanContext) -> Decision:
        self.asked.append(json.loads(document))
        return self.decides(self.asked[-1])

    async def visible(self, document: bytes, trace: SpanContext | None) -> frozenset[str]:
        return self.sees


def reviewed(document: dict[str, Any]) -> Decision:
    """A person has to say yes."""
    return ALLOW if document["approval"] else REVIEW


@dataclass
class Upstreams:
    """Port Executor: `answers` by permit, and what was executed. Tools of the agent's own go to the real adapter."""

    own: OwnTools
    answers: Callable[[Permit], Response] = lambda _: GOOD
    permits: list[Permit] = field(default_factory=list)

    async def execute(self, permit: Permit, trace: SpanContext) -> Response:
        self.permits.append(permit)
        if permit.checked.tool.upstream.kind == "caller":
            return await self.own.execute(permit, trace)
        return self.answers(permit)


class OwnersOfAll:
    """Port FactSource: every record is the shop's."""

    async def resource(self, source: ResourceSource, argument: str, record_id: str, trace: SpanContext) -> Resource:
        return Resource(argument=argument, type=source.type, id=record_id, owner="ada", tenant="shop")


@dataclass
class SilentSpan:
    """A span that nobody sees."""

    context: SpanContext
    recording: bool = False

    def update(self, attributes: Any) -> None: ...

    def event(self, name: str, attributes: Any) -> None: ...

    def end(self, *, error_type: str | None = None) -> None: ...


@dataclass
class Watcher:
    """Port Telemetry: the answers that were concluded."""

    concluded: list[Answer] = field(default_factory=list)
    stages: list[dict[str, float]] = field(default_factory=list)
    begun: int = 0

    def begin(self, call: ToolCall | UnreadableCall, presented: Presented) -> SilentSpan:
        self.begun += 1
        return SilentSpan(SpanContext(trace_id=f"{self.begun:032x}", span_id=f"{self.begun:016x}"))

    def held(self, trail: Any, review: Any) -> None: ...

    def resolved(self, trail: Any, review: Any) -> None: ...

    def conclude(self, span: Any, trail: Any, answer: Answer) -> None:
        self.concluded.append(answer)
        self.stages.append(dict(trail.stages))


@dataclass
class Stop:
    """Where a step waits until the test lets it go on."""

    reached: asyncio.Event = field(default_factory=asyncio.Event)
    go: asyncio.Event = field(default_factory=asyncio.Event)


class Tapped:
    """A port whose every method is noted as `port.method` and may be made to fail or to wait before it runs."""

    def __init__(self, name: str, port: Any, line: "Line") -> None:
        self._name, self._port, self._line = name, port, line

    def __getattr__(self, method: str) -> Any:
        real, step, line = getattr(self._port, method), f"{self._name}.{method}", self._line
        if not inspect.iscoroutinefunction(real):

            def plain(*args: Any, **kwargs: Any) -> Any:
                line.note(step, kwargs)
                return real(*args, **kwargs)

            return plain

        async def awaited(*args: Any, **kwargs: Any) -> Any:
            line.note(step, kwargs)
            if (stop := line.stops.get(step)) is not None:
                stop.reached.set()
                await stop.go.wait()
            return await real(*args, **kwargs)

        return awaited


@dataclass
class Line:
    """A pipeline with everything around it in the test's hands."""

    rig: Rig
    store: EmbeddedStore
    clock: ManualClock
    snapshots: Snapshots = field(default_factory=lambda: Snapshots(snapshot()))
    policy: ScriptedPolicy = field(default_factory=ScriptedPolicy)
    watcher: Watcher = field(default_factory=Watcher)
    steps: list[str] = field(default_factory=list)
    options: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    faults: dict[str, Exception] = field(default_factory=dict)
    stops: dict[str, Stop] = field(default_factory=dict)
    limit: int = 10

    def __post_init__(self) -> None:
        own_tools = OwnTools(self.clock)
        self.upstreams = Upstreams(own_tools)
        conversations = Tapped("conversations", self.store.conversations, self)
        tokens = NamedTokens({"ada": principal("ada"), "bea": principal("bea")})
        self.pipeline = Pipeline(
            identify=Identify(conversations=conversations, tokens=tokens, clock=self.clock, agent=AGENT),
            snapshots=Tapped("snapshots", self.snapshots, self),
            conversations=conversations,
            calls=Tapped("calls", self.store.calls, self),
            reviews=Tapped("reviews", self.store.reviews, self),
            policy=Tapped("policy", self.policy, self),
            facts=Tapped("facts", OwnersOfAll(), self),
            executor=Tapped("executor", self.upstreams, self),
            own_tools=Tapped("own_tools", own_tools, self),
            telemetry=Tapped("telemetry", self.watcher, self),
            clock=self.clock,
            key=KEY,
            gate=Gate(limit=self.limit),
            patience=4.0,
            review_ttl=900.0,
        )

    def note(self, step: str, kwargs: dict[str, Any]) -> None:
        self.steps.append(step)
        self.options.append((step, kwargs))
        if step in self.faults:
            raise self.faults[step]

    def stop(self, step: str) -> Stop:
        return self.stops.setdefault(step, Stop())

    async def handle(self, item: ToolCall | UnreadableCall = READ, presented: Presented = ADA, **more: Any) -> Answer:
        """One call, alone in its body."""
        return (await self.pipeline.handle_all([item], presented, **more))[0]

    def begin(self, item: ToolCall | UnreadableCall = READ, **more: Any) -> asyncio.Task[Answer]:
        return asyncio.create_task(self.handle(item, **more))

    async def ended(self) -> None:
        """Whatever outlives its handler has come to its end."""
        await until(lambda: not self.pipeline.running)

    async def answer_review(self, status: ReviewStatus = ReviewStatus.APPROVED) -> str:
        """Wait for a hold, answer it, and tell which it was."""
        await until(lambda: bool(self.store.log.state.holds.open()))
        review = self.store.log.state.holds.open()[0].review
        await self.store.reviews.resolve(review.id, status, "id#rita", "because")
        return review.id

    async def journal(self, **wanted: Any) -> list[dict[str, Any]]:
        """Records that have these values, as they are on disk."""
        log = self.store.log._journal
        await log.flushed(log.head.seq)
        records = [dict(record) for record in read(self.rig.directory)]
        return [r for r in records if all(r.get(key) == value for key, value in wanted.items())]

    async def terminal(self, call_id: str | None = None) -> dict[str, Any]:
        """The one terminal record (of a call, or at all): more or fewer than one is a failure."""
        found = await self.journal(kind="terminal", **({} if call_id is None else {"call": call_id}))
        assert len(found) == 1, found
        return found[0]


@asynccontextmanager
async def opened(path: Path, *, limit: int = 10) -> AsyncIterator[Line]:
    """A line whose conversation `talk` is registered for ada."""
    rig = Rig(path)
    async with rig.opened() as store:
        await store.conversations.register(registered("talk", handle_hash=hash_handle(HANDLE)))
        yield Line(rig, store, rig.clock, limit=limit)


def refusal(answer: Answer) -> Refusal:
    """The refusal of an answer that must have one."""
    assert answer.refusal is not None
    assert answer.result is None
    return answer.refusal
