"""What tools may be seen is asked once; whatever the answer hangs on asks again."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import timedelta

import pytest

from proxy.adapters.visible_cache import KEPT, VisibleCache
from proxy.core.policy_input import visible_input
from proxy.core.tool import Tool
from proxy.errors import Code, Refusal
from proxy.model import Caller, Decision, SpanContext
from tests.contracts.line import ALLOW
from tests.telemetry.samples import CALLER, NOW, PARENT, TOOL


@dataclass
class Asked:
    """Port Policy: says what it is told to, and counts."""

    documents: list[bytes] = field(default_factory=list)
    decided: int = 0
    fault: Refusal | None = None

    async def decide(self, document: bytes, trace: SpanContext) -> Decision:
        self.decided += 1
        return ALLOW

    async def visible(self, document: bytes, trace: SpanContext | None) -> frozenset[str]:
        self.documents.append(document)
        if self.fault is not None:
            raise self.fault
        return frozenset({f"answer {len(self.documents)}"})


class Bench:
    """A cache over it, whose revision is in the test's hands."""

    def __init__(self) -> None:
        self.revision = "r1"
        self.policy = Asked()
        self.cache = VisibleCache(self.policy, lambda: self.revision)

    async def ask(self, caller: Caller = CALLER, tool: Tool = TOOL, seconds: float = 0) -> frozenset[str]:
        return await self.cache.visible(visible_input(caller, [tool], NOW + timedelta(seconds=seconds)), PARENT)


def person(**changes: object) -> Caller:
    return replace(CALLER, principal=replace(CALLER.principal, **changes))  # type: ignore[arg-type] # any of its fields


async def test_the_same_question_is_asked_once_a_minute() -> None:
    """A grant that ends is not seen for longer than that."""
    bench = Bench()
    first = await bench.ask()
    assert await bench.ask(seconds=59.9) == first
    assert len(bench.policy.documents) == 1
    assert await bench.ask(seconds=60) != first


@pytest.mark.parametrize(
    "changed",
    [
        lambda bench: bench.ask(person(roles=("buyer",))),
        lambda bench: bench.ask(person(subject="bea")),
        lambda bench: bench.ask(person(tenant="another")),
        lambda bench: bench.ask(person(attributes={"domain": "x.test"})),
        lambda bench: bench.ask(replace(CALLER, agent=replace(CALLER.agent, service_account="seller"))),
        lambda bench: bench.ask(tool=replace(TOOL, name="another")),
        lambda bench: bench.ask(tool=replace(TOOL, labels=("another",))),
    ],
    ids=["roles", "principal", "tenant", "attributes", "agent", "catalog", "a tool's labels"],
)
async def test_whatever_policy_may_look_at_asks_anew(changed: Callable[[Bench], object]) -> None:
    """Nobody is shown what was another's answer."""
    bench = Bench()
    first = await bench.ask()
    assert await changed(bench) != first  # type: ignore[misc] # it is awaitable
    assert len(bench.policy.documents) == 2
    assert await bench.ask() == first


async def test_another_policy_revision_asks_anew() -> None:
    """A grant taken away hides its tool at once."""
    bench = Bench()
    first = await bench.ask()
    bench.revision = "r2"
    assert await bench.ask() != first


async def test_a_refusal_is_not_kept() -> None:
    """OPA may be back."""
    bench = Bench()
    bench.policy.fault = Refusal(Code.POLICY_UNAVAILABLE, "m")
    for _ in range(2):
        with pytest.raises(Refusal):
            await bench.ask()
    bench.policy.fault = None
    assert await bench.ask() == {"answer 3"}


async def test_answers_kept_are_bounded_and_the_ones_used_last_stay() -> None:
    """Whoever asks in ever new ways fills nothing."""
    bench = Bench()
    first = await bench.ask()
    for number in range(KEPT + 5):
        await bench.ask(person(subject=f"s{number}"))
        assert await bench.ask() == first
    assert len(bench.cache._kept) == KEPT


async def test_a_decision_is_asked_each_time() -> None:
    """There is no cache of decisions."""
    bench = Bench()
    for _ in range(2):
        assert await bench.cache.decide(b"{}", PARENT) is ALLOW
    assert bench.policy.decided == 2
