"""A tool that the agent runs itself: handed over under a handle of its own, reported once, or not in time."""

import asyncio

import pytest

from proxy.adapters.own_tools import OwnTools
from proxy.core.permit import Permit
from proxy.core.tool import Upstream
from proxy.errors import Code, Ran, Refusal
from proxy.model import Response
from tests.contracts.executor import CALL_ID, TRACE, http_tool, permit
from tests.contracts.store_kit import ManualClock, until


def given(timeout: float = 60.0) -> Permit:
    return permit(http_tool(Upstream(name="in-agent", kind="caller"), None, timeout=timeout))


class Desk:
    """The adapter and a clock that stands still."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.tools = OwnTools(self.clock)

    def begin(self, timeout: float = 60.0) -> "asyncio.Task[Response]":
        return asyncio.create_task(self.tools.execute(given(timeout), TRACE))

    async def refuses(self, call_id: str, handle: str) -> None:
        with pytest.raises(Refusal) as no:
            self.tools.report(call_id, handle, b"{}")
        assert no.value.code is Code.UNKNOWN_CALL


@pytest.fixture
def desk() -> Desk:
    return Desk()


async def test_what_is_reported_is_the_response(desk: Desk) -> None:
    """Whichever of the two sides comes first."""
    for handed_first in (True, False):
        handed = asyncio.create_task(desk.tools.handed_over(CALL_ID)) if handed_first else None
        await asyncio.sleep(0)
        running = desk.begin()
        await asyncio.sleep(0)
        handle = await (handed or desk.tools.handed_over(CALL_ID))
        assert len(handle) >= 43
        desk.tools.report(CALL_ID, handle, b'{"drawn":true}')
        assert await running == Response(status=200, media_type="application/json", body=b'{"drawn":true}')


async def test_only_the_first_report_counts(desk: Desk) -> None:
    """Before and after the executor has looked."""
    running = desk.begin()
    handle = await desk.tools.handed_over(CALL_ID)
    desk.tools.report(CALL_ID, handle, b"1")
    await desk.refuses(CALL_ID, handle)
    assert (await running).body == b"1"
    await desk.refuses(CALL_ID, handle)


async def test_another_handle_or_call_is_refused_in_one_way_and_spends_nothing(desk: Desk) -> None:
    """Also what is no ASCII."""
    running = desk.begin()
    handle = await desk.tools.handed_over(CALL_ID)
    for call_id, other in ((CALL_ID, ""), (CALL_ID, handle[:-1]), (CALL_ID, "ä" * 43), ("call-8", handle), ("", "")):
        await desk.refuses(call_id, other)
    desk.tools.report(CALL_ID, handle, b"1")
    assert (await running).body == b"1"


async def test_no_report_in_the_tools_time_may_have_run(desk: Desk) -> None:
    """A report after that is refused."""
    running = desk.begin(timeout=2.5)
    handle = await desk.tools.handed_over(CALL_ID)
    await until(lambda: desk.clock.sleeps_for(2.5))
    desk.clock.advance(2.4)
    await asyncio.sleep(0)
    assert not running.done()
    desk.clock.advance(0.1)
    with pytest.raises(Refusal) as no:
        await running
    assert (no.value.code, no.value.ran) == (Code.OUTCOME_UNKNOWN, Ran.UNKNOWN)
    assert "2.5 s" in no.value.message
    await desk.refuses(CALL_ID, handle)


async def test_two_calls_have_two_handles(desk: Desk) -> None:
    """One more of the same call id would be another permit; ids are unique."""
    handles = []
    for _ in range(2):
        running = desk.begin()
        handles.append(await desk.tools.handed_over(CALL_ID))
        desk.tools.report(CALL_ID, handles[-1], b"1")
        await running
    assert handles[0] != handles[1]


async def test_nothing_is_remembered_of_a_call_that_ended(desk: Desk) -> None:
    """However it ended: reported, cancelled, its caller gone before or after the hand-over."""
    running = desk.begin()
    desk.tools.report(CALL_ID, await desk.tools.handed_over(CALL_ID), b"1")
    await running
    running = desk.begin()
    await asyncio.sleep(0)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    waiting = asyncio.create_task(desk.tools.handed_over(CALL_ID))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert (desk.tools._awaited, desk.tools._handed) == ({}, {})


@pytest.mark.parametrize("execution_is_next", [False, True])
async def test_a_caller_that_left_at_the_hand_over_does_not_break_the_execution(
    desk: Desk, execution_is_next: bool
) -> None:
    """The call goes on until its time is over, also if its execution begins in the same turn of the loop."""
    waiting = asyncio.create_task(desk.tools.handed_over(CALL_ID))
    await asyncio.sleep(0)
    if execution_is_next:
        running = desk.begin(timeout=1.0)
        waiting.cancel()
    else:
        waiting.cancel()
        running = desk.begin(timeout=1.0)
    await until(lambda: running.done() or desk.clock.sleeps_for(1.0))
    desk.clock.advance(1.0)
    with pytest.raises(Refusal) as no:
        await running
    assert no.value.code is Code.OUTCOME_UNKNOWN
