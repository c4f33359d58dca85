"""Short makers of the values that tests of the store are about."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from proxy.core.registry import Registered
from proxy.core.review import Review
from proxy.core.state_json import agent_to_json
from proxy.core.tool import CheckedCall, ResultRule, System, Tool, ToolVersion, Upstream
from proxy.errors import Code
from proxy.model import Agent, Arguments, Caller, Dialect, Facts, History, Principal, Registration, ToolEffect

NOON = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)
AGENT = Agent(namespace="shop", service_account="buyer", pod="buyer-0")
NOTHING = History(
    complete=True,
    untrusted_read=False,
    marks={},
    tools={},
    counters={},
    calls=(),
    calls_complete=True,
    principal_counters={},
)
_names = itertools.count(1)


def fresh(word: str) -> str:
    """A name that nothing else has."""
    return f"{word}-{next(_names)}"


def principal(name: str = "ada") -> Principal:
    return Principal(issuer="https://id.shop.test", subject=name, name=name.title(), tenant="shop", roles=("buyer",))


def caller(conversation: str, who: str = "ada") -> Caller:
    return Caller(agent=AGENT, principal=principal(who), conversation=conversation, registration=Registration.CLAIMED)


def registered(conversation: str, who: str = "ada", **changes: Any) -> Registered:
    made = Registered(
        conversation=conversation,
        handle_hash=f"hash-of-{conversation}",
        principal=principal(who),
        agent=AGENT,
        registration=Registration.CLAIMED,
        turns=1,
        registered_at=NOON,
        expires_at=NOON + timedelta(hours=8),
    )
    return replace(made, **changes)


class _AnyValue:
    def problems(self, value: Any) -> list[tuple[str, str]]:
        return []


def tool(
    name: str, *, system: str = "stock", labels: Sequence[str] = (), effect: str = "read", trusted: bool = True
) -> Tool:
    version = ToolVersion(version="1", arguments_schema={}, arguments=_AnyValue())
    return Tool(
        name=name,
        description=name,
        system=System(name=system),
        effect=ToolEffect(effect),
        labels=tuple(labels),
        risk=None,
        upstream=Upstream(name="up", kind="http", url="http://up.test"),
        request=None,
        arguments=(),
        result=ResultRule(trusted_paths=("$",) if trusted else ()),
        versions=(version,),
        timeout=1.0,
        idempotent=False,
        retries=0,
        digest=f"entry-of-{name}",
    )


def checked(found: Tool, digest: str | None = None) -> CheckedCall:
    return CheckedCall(
        tool=found,
        version=found.versions[0],
        asked="1",
        arguments=Arguments(raw=b"{}", tree={}, value={}),
        digest=digest or fresh("digest"),
    )


def intent(call: str, who: Caller, what: CheckedCall, facts: Facts, **changes: Any) -> dict[str, Any]:
    """An intent record with the keys that carry state."""
    record = {
        "kind": "intent",
        "call": call,
        "conversation": who.conversation,
        "principal": {"id": who.principal.id},
        "agent": agent_to_json(who.agent),
        "number": facts.seq,
        "tool": what.tool.name,
        "system": what.tool.system.name,
        "effect": what.tool.effect,
        "labels": what.tool.labels,
        "marks": what.tool.marks,
        "untrusted": not what.tool.trusted,
        "digest": what.digest,
        "review": None,
        "counters": {"calls": 1},
    }
    return record | changes


def terminal(call: str, who: Caller, what: CheckedCall, facts: Facts | None = None, **changes: Any) -> dict[str, Any]:
    """A terminal record with the keys that carry state: done and well, unless told otherwise."""
    record = {
        "kind": "terminal",
        "call": call,
        "conversation": who.conversation,
        "principal": {"id": who.principal.id},
        "number": None if facts is None else facts.seq,
        "tool": what.tool.name,
        "digest": what.digest,
        "outcome": "done",
        "ok": True,
        "code": None,
        "rows": None,
        "counters": {},
    }
    return record | changes


def refused(code: Code = Code.DENIED) -> Mapping[str, Any]:
    """How the terminal record of a call that was never committed differs."""
    return {"outcome": "refused", "ok": False, "code": code}


def review(call: str, who: Caller, what: CheckedCall, **changes: Any) -> Review:
    made = Review(
        id=fresh("review"),
        call_id=call,
        digest=what.digest,
        conversation=who.conversation,
        principal=who.principal,
        agent=who.agent,
        tool=what.tool.name,
        version="1",
        entry=what.tool.digest,
        dialect=Dialect.NATIVE,
        tool_call_id="c1",
        arguments=b'{"amount":1.10,"big":18446744073709551617,"a":1}',
        replayable=True,
        reason="because",
        reasons={"combination": [{"code": "prices_meet_terms", "message": "asks a person"}]},
        approvers=(("sourcing",),),
        scope="once",
        earlier=(),
        policy_revision="p1",
        trace_id="0" * 32,
        requested_at=NOON,
        expires_at=NOON + timedelta(hours=1),
    )
    return replace(made, **changes)
