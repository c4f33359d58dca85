"""The supervised OPA is killed and hung under the running sidecar."""

import os
import signal
import time

from tests.e2e.rig import Rig
from tests.e2e.situations import killed_at_a_call

DEADLINE = 1.0  # seconds, the setting


def prepare(rig: Rig) -> None:
    """A deadline that a test can wait for."""
    rig.settings["opa"] = {"deadline": f"{DEADLINE}s"}


async def test_a_killed_opa_is_started_again_and_calls_in_the_gap_are_refused(shared: Rig) -> None:
    """kill -9 of OPA: refused with policy_unavailable, nothing runs, and without anybody's help calls work again."""
    handle = await shared.register("killed")
    assert (await shared.send(handle, "get_stock")).status == 200
    before, old = len(shared.upstream.received), shared.opa_pid()
    answers = [await killed_at_a_call(shared, handle)]

    async def works_again() -> bool:
        answers.append(await shared.send(handle, "get_stock"))
        return answers[-1].status == 200

    await shared.until(works_again, "OPA is back")
    refused = answers[:-1]
    assert refused
    assert {answer.code for answer in refused} == {"policy_unavailable"}
    assert len(shared.upstream.received) == before + 1
    assert shared.opa_pid() != old
    await shared.until(shared.ready, "the probe says so, too")
    for answer in refused:
        assert (await shared.ended(answer.call_id))["code"] == "policy_unavailable"


async def test_a_hung_opa_is_a_refusal_within_the_deadline(shared: Rig) -> None:
    """SIGSTOP: the answer comes by the deadline, and calls work once it goes on."""
    handle = await shared.register("hung")
    assert (await shared.send(handle, "get_stock")).status == 200
    before, pid = len(shared.upstream.received), shared.opa_pid()
    os.kill(pid, signal.SIGSTOP)
    try:
        began = time.monotonic()
        answer = await shared.send(handle, "get_stock")
        took = time.monotonic() - began
    finally:
        os.kill(pid, signal.SIGCONT)
    assert answer.code == "policy_unavailable"
    assert DEADLINE - 0.05 < took < DEADLINE + 2
    assert len(shared.upstream.received) == before

    async def works_again() -> bool:
        return (await shared.send(handle, "get_stock")).status == 200

    await shared.until(works_again, "OPA goes on")
