"""A refused call is gone when it has been answered: nothing of it waits for the garbage collector, which comes seldom.

Found by the harness: the refusal that `Pipeline._carry` keeps in a local variable holds a traceback, the traceback that very
frame, and the frames below it the upstream's whole answer. Refused answers of 1 MiB added up to 400 MiB.
"""

import gc
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from proxy.core.permit import Permit
from proxy.errors import Code, Refusal
from proxy.model import Response, SpanContext
from tests.contracts.line import opened


class Answer:
    """Stands for the bytes that an upstream answered."""


@dataclass(slots=True)
class Refusing:
    """An executor with an answer in hand that it cannot pass on."""

    make: Callable[[], Exception]
    answers: list["weakref.ref[Answer]"] = field(default_factory=list)

    async def execute(self, permit: Permit, trace: SpanContext) -> Response:
        answer = Answer()
        self.answers.append(weakref.ref(answer))
        try:
            raise ValueError(answer)  # noqa: TRY301 - as a library would
        except ValueError:
            raise self.make() from None


@pytest.fixture
def uncollected() -> Iterator[None]:
    """No garbage collection meanwhile."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("uncollected")
@pytest.mark.parametrize("kind", ["refusal", "fault"])
async def test_nothing_of_a_refused_call_stays_in_memory(tmp_path: Path, kind: str) -> None:
    """The answer that a refusal is about is freed with the call, by reference counts alone."""
    make = {"refusal": lambda: Refusal(Code.INVALID_RESULT, "too much"), "fault": lambda: RuntimeError("broken")}
    async with opened(tmp_path) as line:
        line.pipeline.executor = executor = Refusing(make[kind])
        answer = await line.handle()
        assert answer.refusal is not None
        assert [ref() for ref in executor.answers] == [None]
