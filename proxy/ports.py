"""What the pipeline needs from the world: protocols of one to four methods. Adapters implement them, `app` wires them."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol

from proxy.core.permit import Permit
from proxy.core.registry import Registered
from proxy.core.review import Review, ReviewStatus
from proxy.core.tool import CheckedCall, ResourceSource, Snapshot
from proxy.core.trail import Trail
from proxy.model import (
    Answer,
    Caller,
    Decision,
    Facts,
    Presented,
    Principal,
    Resource,
    Response,
    SpanContext,
    ToolCall,
    UnreadableCall,
)


class Clock(Protocol):
    """Time, so that no test waits."""

    def now(self) -> datetime:
        """Wall clock, UTC, aware."""
        ...

    def monotonic(self) -> float:
        """Seconds that never go back."""
        ...

    async def sleep(self, seconds: float) -> None: ...


class Policy(Protocol):
    """The policy decision point."""

    async def decide(self, document: bytes, trace: SpanContext) -> Decision:
        """Ask for one decision. Raises Refusal policy_unavailable or policy_invalid in bounded time; never allows on a fault."""
        ...

    async def visible(self, document: bytes, trace: SpanContext | None) -> frozenset[str]:
        """Names of the tools that a principal may see, by authorization only. Raises as `decide`."""
        ...


class Snapshots(Protocol):
    """The catalog and policy revision in force."""

    def current(self) -> Snapshot: ...

    def by_policy(self, revision: str) -> Snapshot | None:
        """The snapshot whose policy revision OPA's answer named, of the last two; None if neither."""
        ...


class Calls(Protocol):
    """State of conversations: the four steps of a call (design section 8)."""

    async def reserve(self, call_id: str, caller: Caller, checked: CheckedCall) -> Facts:
        """Take the next sequence number and the facts below it in one atomic step. Raises Refusal state_unavailable."""
        ...

    def repeated(self, conversation: str, digest: str) -> int:
        """How often in a row this very call was refused or failed in this conversation."""
        ...

    async def commit(self, intent: Mapping[str, Any], *, durable: bool) -> None:
        """Write the intent record (it carries the state change) before anything is sent; wait for the flush if `durable`.
        Raises Refusal audit_unavailable, or call_concluded if its approval has been spent meanwhile."""
        ...

    async def settle(self, terminal: Mapping[str, Any], *, durable: bool) -> None:
        """Write the one terminal record of a call and free its reservation. Raises Refusal audit_unavailable."""
        ...


class Reviews(Protocol):
    """Holds and approvals."""

    async def request(self, review: Review) -> Review:
        """Attach to an open review of an identical call that has no live waiter, else create this one, durably.
        Raises Refusal overloaded over the limits, denied after too many rejected holds, audit_unavailable."""
        ...

    async def outcome(self, review_id: str, seconds: float, *, live: bool = True) -> Review:
        """The review once it is no longer pending, or as it stands after `seconds`. Who is `live` will run the call; who only
        looks is no reason to make an identical call wait for an answer of its own."""
        ...

    async def resolve(self, review_id: str, status: ReviewStatus, by: str, comment: str | None) -> Review:
        """First answer wins, durably. Raises Refusal call_concluded to losers, unknown_call, review_expired."""
        ...

    async def find(self, *, review_id: str | None = None, call_id: str | None = None) -> Sequence[Review]:
        """Reviews by id, by held call, or all that are known, newest first."""
        ...


class Conversations(Protocol):
    """Registered conversations and the stop switches over them."""

    async def register(self, registered: Registered) -> Registered:
        """Bind id, principal and agent durably, or refresh. Raises Refusal conflicting_conversation, conversation_expired."""
        ...

    async def conversation(
        self, *, handle_hash: str | None = None, conversation_id: str | None = None
    ) -> Registered | None:
        """What is registered, tombstones included; None if never heard of."""
        ...

    async def throw(self, switch: Mapping[str, Any], *, standing: bool) -> None:
        """Throw (or lift) a stop switch over {"scope": all | conversation | principal | agent | tool | system, "name"}, durably."""
        ...

    def stopped(self, caller: Caller, checked: CheckedCall | None) -> str | None:
        """The switch that stands in the way of this caller or call, as a sentence; None if none."""
        ...


class Tools(Protocol):
    """Tools that the agent runs itself: handed over, then reported back."""

    async def handed_over(self, call_id: str) -> str:
        """The single-use handle, once the call has been committed and awaits its result."""
        ...

    def report(self, call_id: str, handle: str, body: bytes) -> None:
        """The agent's result. Raises Refusal unknown_call for a wrong or spent handle."""
        ...


class Executor(Protocol):
    """Runs a permitted call on its upstream."""

    async def execute(self, permit: Permit, trace: SpanContext) -> Response:
        """Send once (again only as design section 6 allows). Raises Refusal tool_timeout, tool_unreachable, upstream_open,
        outcome_unknown, result_withheld (the credential came back)."""
        ...


class FactSource(Protocol):
    """Facts about records: whose they are."""

    async def resource(self, source: ResourceSource, argument: str, record_id: str, trace: SpanContext) -> Resource:
        """One look-up. Raises Refusal facts_unavailable."""
        ...


class TokenVerifier(Protocol):
    """Turns a bearer token into a principal."""

    async def verify(self, token: str) -> Principal:
        """Raises Refusal unauthenticated with a reason that names no secret."""
        ...


class Span(Protocol):
    """One span, recorded at its end as a compact value."""

    @property
    def context(self) -> SpanContext: ...

    @property
    def recording(self) -> bool:
        """Whether anybody will see what is set on it."""
        ...

    def update(self, attributes: Mapping[str, str | float | bool | Sequence[str]]) -> None:
        """Set or replace these attributes."""
        ...

    def event(self, name: str, attributes: Mapping[str, str | int | float | bool]) -> None: ...

    def end(self, *, error_type: str | None = None) -> None:
        """End it once; later calls do nothing. `error_type` sets `error.type` and status ERROR."""
        ...


class Tracer(Protocol):
    """Where spans begin."""

    def start(
        self,
        name: str,
        kind: str,
        parent: SpanContext | None,
        *,
        links: Sequence[SpanContext] = (),
        record: bool = False,
    ) -> Span:
        """Kind: server, client or internal. `record` overrides a parent that is not sampled: a remote flag never lowers ours."""
        ...


class Telemetry(Protocol):
    """The story of one call for those who watch: its SERVER span, its holds, and how it ended (span, metrics, log line)."""

    def begin(self, call: ToolCall | UnreadableCall, presented: Presented) -> Span: ...

    def held(self, trail: Trail, review: Review) -> None: ...

    def resolved(self, trail: Trail, review: Review) -> None: ...

    def conclude(self, span: Span, trail: Trail, answer: Answer) -> None: ...
