"""The input document of one decision (design section 9): every key always present, arguments as the very bytes that are sent."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import orjson

from proxy.core import strict_json
from proxy.core.digest import mask
from proxy.core.reservation import SHOWN_CALLS
from proxy.core.review import Approval
from proxy.core.tool import CheckedCall, Tool
from proxy.model import Agent, Caller, Facts, History, Principal, Registration, Resource, ToolCall

_CALLS, _AFTER_CALLS = b'"calls":[', b'],"calls_complete":'


def masked_arguments(checked: CheckedCall, key: bytes) -> bytes:
    """Arguments as everybody but the upstream may see them: those of role `secret` replaced by a keyed hash."""
    secrets = checked.tool.paths("secret")
    if not secrets:
        return checked.arguments.raw
    return strict_json.write(mask(checked.arguments.tree, secrets, key))


def decision_input(
    call: ToolCall,
    call_id: str,
    checked: CheckedCall,
    caller: Caller,
    facts: Facts,
    *,
    arguments: bytes,
    approval: Approval | None,
    now: datetime,
) -> bytes:
    """The document for `decision`, as JSON bytes. `arguments` come masked."""
    stamp = timestamp(now)
    return orjson.dumps(
        {
            "conversation": _conversation(caller, facts.history),  # first, so that `compact` finds its calls
            "call": {
                "id": call_id,
                "tool": checked.tool.name,
                "version": checked.version.version,
                "dialect": call.dialect,
                "arguments": orjson.Fragment(arguments),
                "inputs": {},
                "digest": checked.digest,
                "received_at": stamp,
            },
            "tool": orjson.Fragment(checked.tool.facts),
            "agent": agent_facts(caller.agent),
            "principal": principal_facts(caller.principal, facts.history.principal_counters),
            "resources": [_resource(resource) for resource in facts.resources],
            "grounding": {},
            "approval": None if approval is None else _approval(approval),
            "environment": {"now": stamp, "mode": "enforce"},
        }
    )


def compact(document: bytes, facts: Facts) -> bytes:
    """The document for the record: earlier calls as a range of sequence numbers (and those held longer ago),
    which a reader rebuilds from the journal."""
    calls = facts.history.calls
    span: dict[str, Any] | None = None
    if calls:  # the count tells a reader whether the records at hand have all of them
        span = {"first": calls[-SHOWN_CALLS:][0].seq, "last": calls[-1].seq, "count": len(calls)}
        if held := [call.seq for call in calls[:-SHOWN_CALLS]]:
            span["held"] = held
    # The conversation comes first, and inside JSON strings every quote is escaped: the first such bytes are the key itself.
    begin = document.index(_CALLS) + len(_CALLS) - 1
    end = document.index(_AFTER_CALLS, begin) + 1
    return document[:begin] + orjson.dumps(span) + document[end:]


def visible_input(caller: Caller, tools: Sequence[Tool], now: datetime) -> bytes:
    """The document for `visible`: who asks, and the tools there are. By the minute: who asks again soon asks the same."""
    minute = now.replace(second=0, microsecond=0)
    return orjson.dumps(
        {
            "agent": agent_facts(caller.agent),
            "principal": principal_facts(caller.principal, {}),
            "tools": [orjson.Fragment(tool.facts) for tool in tools],
            "environment": {"now": timestamp(minute), "mode": "enforce"},
        }
    )


def agent_facts(agent: Agent) -> dict[str, str | None]:
    """The workload, from the platform."""
    return {
        "namespace": agent.namespace,
        "service_account": agent.service_account,
        "pod": agent.pod,
        "spiffe_id": agent.spiffe_id,
    }


def principal_facts(principal: Principal, counters: Mapping[str, int]) -> dict[str, Any]:
    """On whose authority; counters are of the current UTC day."""
    return {
        "id": principal.id,
        "issuer": principal.issuer,
        "name": principal.name,
        "tenant": principal.tenant,
        "roles": principal.roles,
        "attributes": principal.attributes,
        "authenticated_at": None if principal.authenticated_at is None else timestamp(principal.authenticated_at),
        "counters": counters,
    }


def timestamp(moment: datetime) -> str:
    """RFC 3339 in UTC with microseconds."""
    return f"{moment.isoformat(timespec='microseconds')[:-6]}Z"  # a third of strftime's time; all our times are in UTC


def _resource(resource: Resource) -> dict[str, Any]:
    return {
        "argument": resource.argument,
        "type": resource.type,
        "id": resource.id,
        "owner": resource.owner,
        "tenant": resource.tenant,
        "seen_in_call": resource.seen_in_call,
    }


def _approval(approval: Approval) -> dict[str, Any]:
    return {"by": approval.by, "at": timestamp(approval.at), "covers": approval.covers}


def _conversation(caller: Caller, history: History) -> dict[str, Any]:
    return {
        "id": caller.conversation,
        "registered": caller.registered,
        "registration": Registration(caller.registration),
        "history": "complete" if history.complete else "unknown",
        "untrusted_read": history.untrusted_read,
        "profile": caller.profile,
        "marks": history.marks,
        "tools": {name: {"ok": count.ok, "started": count.started} for name, count in history.tools.items()},
        "counters": history.counters,
        "calls": [call.facts for call in history.calls],
        "calls_complete": history.calls_complete,
    }
