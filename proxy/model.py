"""The values that one tool call turns into, from the wire to the record: frozen, slotted, keyword-only (design sections 1, 4)."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from proxy.earlier import EarlierCall
from proxy.errors import Refusal


class Dialect(StrEnum):
    """Wire formats."""

    NATIVE = "native"
    OPENAI_CHAT = "openai_chat"
    OPENAI_RESPONSES = "openai_responses"
    ANTHROPIC = "anthropic"


class Effect(StrEnum):
    """Effects of a decision."""

    ALLOW = "allow"
    DENY = "deny"
    REVIEW = "review"


class ToolEffect(StrEnum):
    """What a tool does to the world. What is not declared is the worst: admin."""

    READ = "read"
    FETCH = "fetch"
    WRITE = "write"
    SEND = "send"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True, kw_only=True)
class Arguments:
    """Arguments as they will be sent. `raw` is a compact JSON object (key order, number tokens and strings as the caller
    wrote them), `tree` the same with numbers as raw tokens (strict_json), `value` what Python reads from `raw`."""

    raw: bytes
    tree: Mapping[str, Any]
    value: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCall:
    """One request to run one tool, normalized from a dialect. `id` is the caller's name for it, `reason` the agent's claim."""

    id: str
    tool: str
    version: str | None = None
    arguments: Arguments
    dialect: Dialect
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class UnreadableCall:
    """An item of a list that is not a tool call; it fails alone. `id` as far as it could be read, else empty."""

    id: str
    tool: str
    dialect: Dialect
    refusal: Refusal


@dataclass(frozen=True, slots=True, kw_only=True)
class SpanContext:
    """W3C trace context: `trace_id` 32 and `span_id` 16 lower-case hex digits."""

    trace_id: str
    span_id: str
    sampled: bool = True
    state: str = ""  # the tracestate header, passed on as it came

    @property
    def traceparent(self) -> str:
        """The header value (W3C Trace Context, level 2)."""
        return f"00-{self.trace_id}-{self.span_id}-{'01' if self.sampled else '00'}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Agent:
    """The workload that sends calls: platform facts, never what it says of itself."""

    namespace: str | None = None
    service_account: str | None = None
    pod: str | None = None
    spiffe_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """The person or service on whose authority a call is made, by a verified token. Times are UTC; `expires_at` is the token's."""

    issuer: str
    subject: str
    name: str | None = None
    tenant: str | None = None
    roles: tuple[str, ...] = ()
    attributes: Mapping[str, Any] = field(default_factory=dict)
    actors: tuple[str, ...] = ()  # subjects of the token's `act` chain (RFC 8693)
    authenticated_at: datetime | None = None
    expires_at: datetime | None = None

    @property
    def id(self) -> str:
        """Unique over issuers."""
        return f"{self.issuer}#{self.subject}"


class Registration(StrEnum):
    """How a conversation came to be: nobody registered it, its agent's application did, or an application key signed it."""

    NONE = "none"
    CLAIMED = "claimed"
    ATTESTED = "attested"


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who calls, in which conversation (design section 7). Unregistered calls have conversation `~implicit`."""

    agent: Agent
    principal: Principal
    conversation: str
    registration: Registration
    profile: str | None = None

    @property
    def registered(self) -> bool:
        """Whether somebody registered the conversation."""
        return self.registration is not Registration.NONE


@dataclass(frozen=True, slots=True, kw_only=True)
class Presented:
    """What a request brings to prove who calls: nothing in it is believed yet. Never recorded, never logged."""

    handle: str | None = None
    token: str | None = None
    conversation: str | None = None
    trace: SpanContext | None = None
    patience: float | None = None  # seconds the caller says it can wait


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCount:
    """How often a tool was started in a conversation, and how often it ended well."""

    started: int = 0
    ok: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """What a conversation has taken up before a call: facts for one decision. Never the call's own reservation."""

    complete: bool
    untrusted_read: bool
    marks: Mapping[str, int]  # mark -> sequence number of the first call that brought it
    tools: Mapping[str, ToolCount]
    counters: Mapping[str, int]
    calls: tuple[EarlierCall, ...]  # the last 20
    calls_complete: bool
    principal_counters: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """A record that an argument names. Null owner and tenant: nobody known, which reads as not yours."""

    argument: str
    type: str
    id: str
    owner: str | None = None
    tenant: str | None = None
    seen_in_call: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What is looked up for one decision."""

    seq: int
    history: History
    resources: tuple[Resource, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """Why a policy said what it said. `message` and `fix` are for the model, `details` for reviewers and the audit."""

    policy: str
    code: str
    message: str | None = None
    fix: str | None = None
    details: Any = None
    approvers: tuple[str, ...] = ()
    scope: str = "once"
    severity: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """Effect, reasons and obligations, read strictly from what OPA said. `said` keeps it word for word by effect and policy."""

    effect: Effect
    guards: tuple[str, ...] = ()
    deny: tuple[Reason, ...] = ()
    review: tuple[Reason, ...] = ()
    allow: tuple[Reason, ...] = ()
    obligations: tuple[Mapping[str, Any], ...] = ()
    warn: Mapping[str, Any] = field(default_factory=dict)
    revision: str
    said: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """What came back from an upstream, unread. `status` is HTTP's; `media_type` lower-case without parameters."""

    status: int
    media_type: str
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """A checked result. `body` is JSON (or a JSON string of text); `rows` is the length of a list result."""

    body: bytes
    size: int
    digest: str
    rows: int | None = None
    empty: bool = False
    problems: tuple[str, ...] = ()  # where it breaks its schema, if the catalog passes such results on


class Status(StrEnum):
    """Status of an answer in the native dialect."""

    DONE = "done"
    REFUSED = "refused"
    PENDING = "pending"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """How one call ended: a result or a refusal, rendered later in the caller's dialect."""

    call: ToolCall | UnreadableCall
    call_id: str
    trace: SpanContext
    decision: Effect | None = None
    result: Result | None = None
    refusal: Refusal | None = None
    handle: str | None = None  # single use, for the result of a tool that the agent runs itself
    revision: str = ""

    @property
    def status(self) -> Status:
        """Pending where a person or the agent's own execution is awaited."""
        if self.handle is not None or (self.refusal is not None and self.refusal.code == "review_pending"):
            return Status.PENDING
        return Status.DONE if self.refusal is None else Status.REFUSED
