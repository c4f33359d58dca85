"""An OPA that runs but does not answer is ended, so that its supervisor starts another."""

import asyncio
import contextlib
from collections.abc import Sequence
from datetime import UTC, datetime

from proxy.adapters.opa_watchdog import PATIENCE, OpaWatchdog
from proxy.errors import Code, Refusal


class Rounds:
    """A clock whose sleeps return at once, as often as there are answers to give; then it sleeps for good."""

    def __init__(self, answers: Sequence[bool]) -> None:
        self._answers = list(answers)
        self.done = asyncio.Event()

    def now(self) -> datetime:
        return datetime(2026, 1, 1, tzinfo=UTC)

    def monotonic(self) -> float:
        return 0.0

    async def sleep(self, seconds: float) -> None:
        if not self._answers:
            self.done.set()
            await asyncio.Event().wait()

    async def ask(self) -> str:
        if not self._answers.pop(0):
            raise Refusal(Code.POLICY_UNAVAILABLE, "no answer")
        return f"revision {len(self._answers)}"


async def ended_after(*answers: bool) -> tuple[int, bool]:
    """How often OPA was ended, and whether it counts as answering."""
    clock, ended = Rounds(answers), []
    watchdog = OpaWatchdog(clock.ask, lambda: ended.append(1), clock)
    task = asyncio.create_task(watchdog.watch())
    await clock.done.wait()
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    return len(ended), watchdog.answers


async def test_a_few_silences_are_borne() -> None:
    """One answer in between and the count begins anew."""
    assert await ended_after(*[False] * (PATIENCE - 1), True, *[False] * (PATIENCE - 1)) == (0, True)


async def test_silences_in_a_row_end_it() -> None:
    """And again, if the one started in its place is silent, too."""
    assert await ended_after(*[False] * PATIENCE) == (1, False)
    assert await ended_after(*[False] * (2 * PATIENCE)) == (2, False)


async def test_an_answer_heals() -> None:
    """It is ready again as soon as it answers."""
    assert await ended_after(*[False] * PATIENCE, True) == (1, True)


async def test_what_was_last_answered_is_kept() -> None:
    """It is how a proxy sees that OPA has another revision than itself."""
    clock = Rounds([True, True, False])
    watchdog = OpaWatchdog(clock.ask, lambda: None, clock)
    assert watchdog.answer is None
    task = asyncio.create_task(watchdog.watch())
    await clock.done.wait()
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    assert watchdog.answer == "revision 1"


async def test_a_fault_of_our_own_is_silence_and_ends_no_watch() -> None:
    """Whatever the question ends by, OPA has not answered it; and it is asked again."""
    clock, ended = Rounds([True]), list[int]()
    faults: list[Exception] = [TypeError("x"), KeyError("x"), OSError("x")]

    async def ask() -> str:
        if faults:
            raise faults.pop()
        return await clock.ask()

    watchdog = OpaWatchdog(ask, lambda: ended.append(1), clock)
    task = asyncio.create_task(watchdog.watch())
    await clock.done.wait()
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    assert (len(ended), watchdog.silences, watchdog.answer) == (1, 0, "revision 0")
