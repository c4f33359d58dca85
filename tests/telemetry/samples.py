"""Values that tests of telemetry share."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

from proxy.adapters.clock import SystemClock
from proxy.core.permit import Permit, grant
from proxy.core.review import Approval, Review, ReviewStatus
from proxy.core.tool import Catalog, CheckedCall, ResultRule, Snapshot, System, Tool, ToolVersion, Upstream
from proxy.core.trail import Trail
from proxy.errors import Code, Refusal
from proxy.model import (
    Agent,
    Arguments,
    Caller,
    Decision,
    Dialect,
    Effect,
    Presented,
    Principal,
    Reason,
    Registration,
    Result,
    SpanContext,
    ToolCall,
    ToolEffect,
)
from proxy.telemetry.spans import CompactTracer, Dropped, SpanEvent, SpanRecord, Value
from tests.telemetry.span_memory import SpanMemory

SECRET = "canary-7f3a9"
PARENT = SpanContext(trace_id="0af7651916cd43dd8448eb211c80319c", span_id="b7ad6b7169203331")
UNSAMPLED = SpanContext(trace_id=PARENT.trace_id, span_id=PARENT.span_id, sampled=False, state="vendor=1")
NOW = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)

VALUES: dict[str, Value] = {
    "text": "Grüße",
    "int": 7,
    "most": (1 << 63) - 1,
    "float": 0.25,
    "true": True,
    "list": ("a", "b"),
    "empty": (),
    "nothing": "",
    "zero": 0,
}
ROOT = SpanRecord(
    trace_id=PARENT.trace_id,
    span_id="00f067aa0ba902b7",
    parent_id="",
    remote_parent=False,
    state="",
    name="decide",
    kind="internal",
    start=1,
    end=2,
    error=False,
    attributes={},
    events=(),
    links=(),
    dropped=None,
)
FULL = ROOT._replace(
    parent_id=PARENT.span_id,
    remote_parent=True,
    state="vendor=1,other=2",
    name="execute_tool price.list",
    kind="server",
    start=1_795_575_631_421_255_000,
    end=1_795_575_631_421_257_604,
    error=True,
    attributes=VALUES,
    events=(SpanEvent("retry", 1_795_575_631_421_256_000, {"attempt": 2}),),
    links=(UNSAMPLED,),
    dropped=Dropped(3, 2, 1),
)


class SteppedClock:
    """Port Clock: time moves when a test moves it, or when somebody sleeps."""

    def __init__(self) -> None:
        self.seconds = 1_000_000.0
        self.slept: list[float] = []

    def now(self) -> datetime:
        """Wall clock."""
        return datetime.fromtimestamp(self.seconds, UTC)

    def monotonic(self) -> float:
        """Seconds."""
        return self.seconds

    async def sleep(self, seconds: float) -> None:
        """The time passes at once."""
        self.slept.append(seconds)
        self.seconds += seconds
        await asyncio.sleep(0)


def tracer(**variables: str) -> tuple[CompactTracer, SpanMemory]:
    """A tracer that keeps its spans in memory."""
    memory = SpanMemory()
    return CompactTracer(variables, SystemClock(), [memory.offer]), memory


class Anything:
    """A schema that everything satisfies."""

    def problems(self, value: Any) -> list[tuple[str, str]]:
        """None."""
        return []


UPSTREAM = Upstream(name="prices", kind="http", url="https://prices.internal:8443/api", credential="prices")
TOOL = Tool(
    name="price.list",
    description="Prices.",
    system=System(name="pricing"),
    effect=ToolEffect.READ,
    labels=("confidential", "margin"),
    risk=None,
    upstream=UPSTREAM,
    request=None,
    arguments=(),
    result=ResultRule(),
    versions=(ToolVersion(version="2", arguments_schema={}, arguments=Anything()),),
    timeout=5.0,
    idempotent=True,
    retries=0,
    digest="d" * 64,
)
SNAPSHOT = Snapshot(
    catalog=Catalog(revision="c" * 64, systems={}, upstreams={}, tools={TOOL.name: TOOL}, resources={}),
    policy_revision="p" * 64,
)
ARGUMENTS = Arguments(raw=f'{{"q":"{SECRET}"}}'.encode(), tree={"q": SECRET}, value={"q": SECRET})
CALL = ToolCall(id="toolu_1", tool=TOOL.name, arguments=ARGUMENTS, dialect=Dialect.ANTHROPIC, reason=SECRET)
CHECKED = CheckedCall(tool=TOOL, version=TOOL.versions[0], asked="2", arguments=ARGUMENTS, digest="e" * 64)
CALLER = Caller(
    agent=Agent(namespace="agents", service_account="buyer"),
    principal=Principal(issuer="https://id.example", subject="anna", name="Anna"),
    conversation="conv-1",
    registration=Registration.ATTESTED,
)
RESULT = Result(body=f'"{SECRET}"'.encode(), size=14, digest="f" * 64)
ALLOW = Reason(policy="grants", code="granted")
ALLOWED = Decision(effect=Effect.ALLOW, allow=(ALLOW,), revision="r1")
DENIED = Decision(
    effect=Effect.DENY,
    deny=(Reason(policy="arguments", code="over_limit", message=SECRET, details=SECRET),),
    allow=(ALLOW,),
    revision="r1",
)
HELD = Decision(
    effect=Effect.REVIEW, review=(Reason(policy="combination", code="position"),), allow=(ALLOW,), revision="r1"
)
APPROVAL = Approval(review_id="r-1", by="boris", at=NOW, covers={})
UNREACHABLE = Refusal(Code.TOOL_UNREACHABLE, SECRET, details={"secret": SECRET})


def trail(trace: SpanContext, *, call: ToolCall = CALL, decision: Decision | None = None) -> Trail:
    """A call that came as far as its decision; without one, as far as its reading."""
    known = Trail(
        call_id="ab" * 16, call=call, presented=Presented(handle=SECRET, token=SECRET), trace=trace, began=0.0
    )
    if decision is not None:
        known.caller, known.snapshot, known.checked, known.decision = CALLER, SNAPSHOT, CHECKED, decision
        known.arguments = known.document = ARGUMENTS.raw
        known.took("decide", 0.25)
    return known


def permit() -> Permit:
    """A permit for the call."""
    return grant("ab" * 16, CHECKED, CALLER, ALLOWED)


def review(
    status: ReviewStatus = ReviewStatus.PENDING, *, by: str | None = None, after: timedelta | None = None
) -> Review:
    """A review of the call, answered so long after it was requested."""
    return Review(
        id="r-1",
        call_id="ab" * 16,
        digest="e" * 64,
        conversation="conv-1",
        principal=CALLER.principal,
        agent=CALLER.agent,
        tool=TOOL.name,
        version="2",
        entry=TOOL.digest,
        dialect=Dialect.ANTHROPIC,
        tool_call_id="toolu_1",
        arguments=ARGUMENTS.raw,
        replayable=True,
        reason=SECRET,
        reasons={"combination": [{"code": "position", "message": SECRET}]},
        approvers=(),
        scope="once",
        earlier=(),
        policy_revision="r1",
        trace_id=PARENT.trace_id,
        requested_at=NOW,
        expires_at=NOW,
        status=status,
        by=by,
        comment=SECRET,
        resolved_at=None if after is None else NOW + after,
    )
