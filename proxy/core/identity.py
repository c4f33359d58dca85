"""What a request brings to prove who calls, and what follows from it (design section 7). Pure: nothing here believes a carrier.

No plain identity header is ever read. Carriers that disagree are refused, since whoever chose between them would choose for
the attacker.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from urllib.parse import unquote

from proxy.core.claims import MAX_TOKEN
from proxy.core.conversation import IMPLICIT
from proxy.core.registry import Registered, check_id, workload
from proxy.errors import Code, Refusal, Retry
from proxy.model import Agent, Caller, Presented, Principal, Registration, SpanContext

HANDLE_HEADER = "x-sidegate-conversation"
CONVERSATION_HEADER = "x-conversation-id"
PATIENCE_HEADER = "x-sidegate-patience"
BAGGAGE_KEYS = frozenset({"sidegate.conversation", "conversation.id"})
MAX_PATIENCE = 60.0  # seconds
ANONYMOUS = Principal(issuer="sidegate", subject="anonymous", roles=("unknown",))

_HANDLE = re.compile(r"[A-Za-z0-9_-]{1,128}")
_BEARER = re.compile(r"[Bb][Ee][Aa][Rr][Ee][Rr] +([A-Za-z0-9._~+/-]+=*)")  # RFC 6750 section 2.1
_PATIENCE = re.compile(r"[0-9]{1,2}(?:\.[0-9]{1,6})?")
_TRACEPARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_STATE_KEY = r"(?:[a-z][a-z0-9_*/-]{0,255}|[a-z0-9][a-z0-9_*/-]{0,240}@[a-z][a-z0-9_*/-]{0,13})"
_STATE_MEMBER = re.compile(rf"({_STATE_KEY})=[\x20-\x2b\x2d-\x3c\x3e-\x7e]{{0,255}}[\x21-\x2b\x2d-\x3c\x3e-\x7e]")
_MAX_STATE = 1024  # characters; a vendor may rely on 512

_CARRIERS = frozenset(
    {HANDLE_HEADER, CONVERSATION_HEADER, PATIENCE_HEADER, "authorization", "baggage", "traceparent", "tracestate"}
)

Headers = Iterable[tuple[str, str]]
_Carriers = Mapping[str, Sequence[str]]  # by name in lower case; only those that were sent


def present(headers: Headers, path_handle: str | None = None) -> Presented:
    """Collect the carriers of a request. Raises Refusal invalid_call (malformed), conflicting_conversation (disagreeing)."""
    carriers = _carriers(headers)
    handles = carriers.get(HANDLE_HEADER, ())
    handle = _agreed(handles if path_handle is None else [*handles, path_handle], "handles")
    if handle is not None and _HANDLE.fullmatch(handle) is None:
        raise _invalid(
            "the conversation handle is not one that this sidecar gave", fix="send the handle as it was answered"
        )
    token = _bearer(carriers.get("authorization", ()))
    conversation = _agreed([*carriers.get(CONVERSATION_HEADER, ()), *_baggage(carriers)], "conversation ids")
    if conversation is not None:
        check_id(conversation)
    if conversation is not None and token is None and handle is None:
        raise _incomplete("a conversation id alone proves nothing")
    return Presented(
        handle=handle,
        token=token,
        conversation=conversation,
        trace=_trace(carriers),
        patience=_patience(carriers),
    )


def span_context(traceparent: str, tracestate: str = "") -> SpanContext | None:
    """The W3C trace context (level 2) of a caller, None where it is malformed: a broken trace never breaks a call."""
    match = _TRACEPARENT.fullmatch(traceparent.strip(" \t"))
    if match is None:
        return None
    version, trace_id, span_id, flags, more = match.groups()
    if version == "ff" or (version == "00" and more is not None):
        return None
    if not trace_id.strip("0") or not span_id.strip("0"):
        return None
    return SpanContext(trace_id=trace_id, span_id=span_id, sampled=bool(int(flags, 16) & 1), state=_state(tracestate))


def hash_handle(handle: str) -> str:
    """How a handle is stored: 256 random bits need neither salt nor work factor."""
    return hashlib.sha256(handle.encode()).hexdigest()


def implicit(agent: Agent) -> Caller:
    """The agent's one conversation that nobody registered."""
    return Caller(agent=agent, principal=ANONYMOUS, conversation=IMPLICIT, registration=Registration.NONE)


def caller_of(registered: Registered, agent: Agent, principal: Principal) -> Caller:
    """The caller in a registered conversation, with the principal's roles as the proof gave them."""
    return Caller(
        agent=agent,
        principal=principal,
        conversation=registered.conversation,
        registration=registered.registration,
        profile=registered.profile,
    )


def same_workload(one: Agent, other: Agent) -> bool:
    """Whether two pods are the same agent: a conversation outlives the pod that registered it."""
    return workload(one) == workload(other)


def refuse_expired(registered: Registered, now: datetime) -> None:
    """Raise Refusal conversation_expired past the end of the token with which it was registered."""
    if now >= registered.expires_at:
        raise Refusal(
            Code.CONVERSATION_EXPIRED,
            "the conversation's registration has expired",
            fix="register it again with a fresh token (PUT /v1/conversations/{id}): it keeps its labels",
        )


def refuse_other_principal(registered: Registered, principal: Principal) -> None:
    """Raise Refusal conflicting_conversation unless it is this principal's, in this tenant.

    A user who changes tenants does not take along what the conversation has read in the other.
    """
    if (registered.principal.id, registered.principal.tenant) != (principal.id, principal.tenant):
        raise conflicting("the token is of another principal or tenant than the conversation")


def incomplete(presented: Presented) -> Refusal:
    """A token without an id, or an id without a token: neither is a row of design section 7's table."""
    if presented.conversation is not None:
        return _incomplete("a conversation id alone proves nothing")
    return _incomplete("a token alone names no conversation")


def unknown_conversation() -> Refusal:
    """One answer for never registered, another principal's and another agent's, so that nobody can tell them apart."""
    return Refusal(
        Code.UNKNOWN_CONVERSATION,
        "there is no such conversation for this caller",
        fix="register it first (PUT /v1/conversations/{id}), then send the handle of the answer",
    )


def conflicting(why: str) -> Refusal:
    """Refusal conflicting_conversation."""
    return Refusal(Code.CONFLICTING_CONVERSATION, why, fix="send one handle, or one token and one conversation id")


def _carriers(headers: Headers) -> _Carriers:
    found: dict[str, list[str]] = {}
    for key, value in headers:
        name = key.lower()
        if name in _CARRIERS:
            found.setdefault(name, []).append(value.strip(" \t"))
    return found


def _agreed(values: Sequence[str], what: str) -> str | None:
    if len(values) > 1 and len(set(values)) > 1:
        raise conflicting(f"the request carries two different {what}")
    return values[0] if values else None


def _bearer(values: Sequence[str]) -> str | None:
    if not values:
        return None
    if len(values) > 1:
        raise _invalid("the request carries two Authorization headers", fix="send one")
    match = _BEARER.fullmatch(values[0]) if len(values[0]) <= MAX_TOKEN + 16 else None
    if match is None:
        raise _invalid(
            "the Authorization header holds no bearer token",
            fix=f"send `Bearer`, one space, and a token of at most {MAX_TOKEN} characters",
        )
    return match[1]


def _baggage(carriers: _Carriers) -> Iterator[str]:
    for header in carriers.get("baggage", ()):
        for member in header.split(","):
            key, equals, value = member.partition(";")[0].partition("=")  # properties follow the semicolon
            if equals and key.strip(" \t") in BAGGAGE_KEYS:
                yield unquote(value.strip(" \t"))


def _trace(carriers: _Carriers) -> SpanContext | None:
    parents = carriers.get("traceparent", ())
    return span_context(parents[0], ",".join(carriers.get("tracestate", ()))) if len(parents) == 1 else None


def _state(tracestate: str) -> str:
    if len(tracestate) > _MAX_STATE:
        return ""
    members = [member.strip(" \t") for member in tracestate.split(",") if member.strip(" \t")]
    matches = [_STATE_MEMBER.fullmatch(member) for member in members]
    keys = {match[1] for match in matches if match is not None}
    return ",".join(members) if len(keys) == len(members) <= 32 else ""


def _patience(carriers: _Carriers) -> float | None:
    given = _agreed(carriers.get(PATIENCE_HEADER, ()), "patiences")
    if given is None:
        return None
    if _PATIENCE.fullmatch(given) is None or float(given) > MAX_PATIENCE:
        raise _invalid(
            f"{PATIENCE_HEADER} is not a number of seconds from 0 to {MAX_PATIENCE:.0f}",
            fix="send such a number, or leave the header out",
        )
    return float(given)


def _incomplete(why: str) -> Refusal:
    return Refusal(
        Code.INVALID_CALL,
        why,
        fix="register the conversation (PUT /v1/conversations/{id}) and send its handle, or its id with its user's token",
        retry=Retry.AFTER_REGISTERING,
    )


def _invalid(why: str, *, fix: str) -> Refusal:
    return Refusal(Code.INVALID_CALL, why, fix=fix)
