"""What the contract suite of the store is written with: a clock that is moved by hand, and short makers of values."""

import asyncio
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

import pytest

from proxy.core.hold_rules import HoldLimits
from proxy.core.registry import Registered
from proxy.core.review import Review
from proxy.core.state_json import agent_to_json
from proxy.core.tool import CheckedCall, ResultRule, System, Tool, ToolVersion, Upstream
from proxy.errors import Code, Refusal
from proxy.model import Agent, Arguments, Caller, Dialect, Facts, Principal, Registration, ToolEffect
from proxy.ports import Calls, Conversations, Reviews

NOON = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)
AGENT = Agent(namespace="shop", service_account="buyer", pod="buyer-0")
_names = itertools.count(1)


class ManualClock:
    """Port Clock; time stands still until a test moves it."""

    def __init__(self) -> None:
        self._now = NOON
        self._sleepers: list[tuple[datetime, asyncio.Future[None]]] = []

    def now(self) -> datetime:
        return self._now

    def monotonic(self) -> float:
        return (self._now - NOON).total_seconds()

    async def sleep(self, seconds: float) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._sleepers.append((self._now + timedelta(seconds=seconds), future))
        await future

    def advance(self, seconds: float) -> None:
        """Move on and wake those whose time has come."""
        self._now += timedelta(seconds=seconds)
        due = [(at, future) for at, future in self._sleepers if at <= self._now]
        self._sleepers = [(at, future) for at, future in self._sleepers if at > self._now]
        for _, future in due:
            if not future.done():
                future.set_result(None)

    def sleeps_for(self, seconds: float) -> bool:
        """Whether somebody has that long to sleep from now."""
        due = self._now + timedelta(seconds=seconds)
        return any(at == due and not future.done() for at, future in self._sleepers)


class CallsUnderTest(Calls, Protocol):
    """Port Calls, and what the composition root asks for at the start."""

    async def recover(self) -> int: ...


class ReviewsUnderTest(Reviews, Protocol):
    """Port Reviews, and what the server asks for beside the pipeline."""

    async def cancel(self, review_id: str, why: str) -> Review: ...

    async def expire(self) -> int: ...

    def release_all(self) -> None: ...


class Store(Protocol):
    """The three ports over one state."""

    @property
    def calls(self) -> CallsUnderTest: ...

    @property
    def reviews(self) -> ReviewsUnderTest: ...

    @property
    def conversations(self) -> Conversations: ...


Factory = Callable[[HoldLimits], AbstractAsyncContextManager[Store]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a store keeps what is durable: to enter `opened` again is to start again on the same state."""

    clock: ManualClock
    factory: Factory

    def opened(self, limits: HoldLimits | None = None) -> AbstractAsyncContextManager[Store]:
        return self.factory(limits or HoldLimits())


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
        wire_name=name,
        description=name,
        system=System(name=system),
        effect=ToolEffect(effect),
        labels=tuple(labels),
        risk=None,
        upstream=Upstream(name="up", kind="http", url="http://up.test"),
        request=None,
        arguments=(),
        result=ResultRule(trusted_paths=("value",) if trusted else ()),
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


async def run(
    store: Store, who: Caller, what: CheckedCall, *, call: str | None = None, ending: Mapping[str, Any] | None = None
) -> Facts:
    """One call from its reservation to its end; returns the facts it was decided on."""
    call = call or fresh("call")
    facts = await store.calls.reserve(call, who, what)
    await store.calls.commit(intent(call, who, what, facts), durable=True)
    await store.calls.settle(terminal(call, who, what, facts, **(ending or {})), durable=True)
    return facts


async def register(store: Store, conversation: str | None = None, who: str = "ada") -> Caller:
    """A registered conversation, as a caller in it."""
    name = conversation or fresh("conversation")
    await store.conversations.register(registered(name, who))
    return caller(name, who)


async def hold(store: Store, who: Caller, what: CheckedCall, *, call: str | None = None, **changes: Any) -> Review:
    """Reserve, be held, answer `review_pending`: what a call leaves whose caller does not wait."""
    call = call or fresh("call")
    facts = await store.calls.reserve(call, who, what)
    found = await store.reviews.request(review(call, who, what, **changes))
    await store.calls.settle(terminal(call, who, what, facts, **refused(Code.REVIEW_PENDING)), durable=False)
    return found


async def spend(store: Store, who: Caller, what: CheckedCall, approved: Review, *, call: str | None = None) -> None:
    """Run one call on an approval."""
    call = call or fresh("call")
    facts = await store.calls.reserve(call, who, what)
    try:
        await store.calls.commit(intent(call, who, what, facts, review=approved.id), durable=True)
    except Refusal as refusal:
        await store.calls.settle(terminal(call, who, what, facts, **refused(refusal.code)), durable=False)
        raise
    await store.calls.settle(terminal(call, who, what, facts), durable=True)


@contextmanager
def refusing(code: Code) -> Iterator[None]:
    """The block raises a Refusal with this code, and nothing else will do."""
    with pytest.raises(Refusal) as found:
        yield
    assert found.value.code == code, found.value


async def until(condition: Callable[[], bool]) -> None:
    """Let other tasks run until it holds."""
    deadline = asyncio.get_running_loop().time() + 10
    while not condition():
        assert asyncio.get_running_loop().time() < deadline, "waited too long"
        await asyncio.sleep(0)
