"""What the contract suite of the store is written with: a clock that is moved by hand, and short makers of values."""

import asyncio
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol

import pytest

from proxy.core.hold_rules import HoldLimits
from proxy.core.review import Review
from proxy.core.tool import CheckedCall
from proxy.errors import Code, Refusal
from proxy.model import Caller, Facts
from proxy.ports import Calls, Conversations, Reviews
from tests.contracts.store_values import NOON, caller, fresh, intent, refused, registered, review, terminal


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
