"""A supervised OPA starts, restarts, swaps bundles and ends, with a real OPA; what fails says so in bounded time."""

import asyncio
import functools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvloop

from proxy.adapters.opa_process import (
    FIRST_PAUSE,
    LONGEST_PAUSE,
)
from proxy.errors import Code, Refusal
from tests.adapters.supervised_rig import (
    HastyClock,
    NeverWakes,
    Place,
    commands_that_name,
    new_place,
    pid_of,
    policy_of,
    proc,
    running,
    start_error,
)
from tests.contracts.opa_server import ROOT, opa_binary, stop, until, write_bundle


@pytest.fixture
def place() -> Iterator[Place]:
    with new_place() as place:
        yield place


FALSE = Path("/bin/false").resolve()


async def test_it_starts_answers_and_ends(place: Place) -> None:
    async with place.started() as opa, policy_of(opa) as policy:
        assert (opa.alive, opa.restarts) == (True, 0)
        assert await policy.warm() == "r1"
        pid = pid_of(opa)
        assert running(pid)
    assert not running(pid)
    assert (opa.alive, opa.pid) == (False, None)


async def test_it_can_be_started_again_after_it_was_closed(place: Place) -> None:
    opa = place.opa()
    for _ in range(2):
        await opa.start()
        async with policy_of(opa) as policy:
            assert await policy.revision() == "r1"
        await opa.close()


async def test_it_sees_nothing_of_our_environment(place: Place) -> None:
    """Secrets often stand there."""
    assert len(os.environ) > 3
    async with place.started() as opa:
        environment = proc(pid_of(opa), "environ")
    assert environment == b"GOMAXPROCS=1\0GOGC=400\0GOMEMLIMIT=128MiB\0"


async def test_killed_it_is_restarted_and_answers_again(place: Place) -> None:
    async with place.started() as opa, policy_of(opa) as policy:
        assert await policy.revision() == "r1"
        for count in (1, 2):
            pid = pid_of(opa)
            os.kill(pid, signal.SIGKILL)
            await until(lambda: not opa.alive)
            with pytest.raises(Refusal) as caught:
                await policy.revision()
            assert caught.value.code is Code.POLICY_UNAVAILABLE
            await until(lambda: opa.alive)
            assert await policy.revision() == "r1"
            assert opa.restarts == count
            assert pid_of(opa) != pid
    assert any("OPA ended with -9" in line["msg"] for line in place.log)


async def test_restarts_that_fail_pause_longer_up_to_a_bound_and_succeed_once_the_cause_is_gone(place: Place) -> None:
    clock = HastyClock(FIRST_PAUSE)
    async with place.started(clock=clock) as opa:
        place.bundle.write_bytes(b"broken")
        os.kill(pid_of(opa), signal.SIGKILL)
        await until(lambda: LONGEST_PAUSE in clock.slept)
        assert not opa.alive
        pauses = [seconds for seconds in clock.slept if seconds >= FIRST_PAUSE]
        assert pauses == [0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0]
        write_bundle(place.bundle, "r2")
        await until(lambda: opa.alive)
        async with policy_of(opa) as policy:
            assert await policy.revision() == "r2"
    assert any("OPA ended at its start with 1" in line["msg"] for line in place.log)


async def test_one_that_hangs_costs_its_callers_the_deadline_and_can_still_be_closed(place: Place) -> None:
    async with place.started() as opa, policy_of(opa, deadline=0.25) as policy:
        async with policy_of(opa) as patient:
            assert await patient.warm() == "r1"
        pid = pid_of(opa)
        await stop(pid)
        for _ in range(3):
            started = time.monotonic()
            with pytest.raises(Refusal) as caught:
                await policy.revision()
            assert caught.value.details == {"cause": "timeout"}
            assert 0.2 < time.monotonic() - started < 2.25
        started = time.monotonic()
    assert time.monotonic() - started < 6
    assert not running(pid)


@pytest.mark.parametrize("delay", [0, 0.02, 0.05, 0.06, 0.08, 0.12, 0.2])
async def test_closing_while_it_is_restarted_leaves_nothing(place: Place, delay: float) -> None:
    opa = place.opa()
    await opa.start()
    assert commands_that_name(place.directory)
    os.kill(pid_of(opa), signal.SIGKILL)
    await until(lambda: not opa.alive)
    await asyncio.sleep(delay)  # to meet the restart at different moments
    await opa.close()
    assert opa.pid is None
    assert commands_that_name(place.directory) == []
    assert not (place.directory / "opa.pid").exists()


async def test_closing_while_restarts_fail_leaves_nothing(place: Place) -> None:
    opa = place.opa(clock=HastyClock(FIRST_PAUSE))
    await opa.start()
    place.bundle.write_bytes(b"broken")
    os.kill(pid_of(opa), signal.SIGKILL)
    await until(lambda: opa.restarts > 1)
    await opa.close()
    assert commands_that_name(place.directory) == []


async def test_a_start_that_is_given_up_leaves_nothing(place: Place) -> None:
    for delay in (0, 0.01, 0.03, 0.06):
        start = asyncio.create_task(place.opa(clock=NeverWakes()).start())
        await asyncio.sleep(delay)  # to meet the start at different moments
        start.cancel()
        with pytest.raises(asyncio.CancelledError):
            await start
        assert commands_that_name(place.directory) == []


async def test_a_bundle_renamed_into_place_is_picked_up_without_a_failed_call(place: Place) -> None:
    async with place.started() as opa, policy_of(opa) as policy:
        assert await policy.revision() == "r1"
        for revision in ("r2", "r3"):
            write_bundle(place.bundle, revision)
            async with asyncio.timeout(20):
                while await policy.revision() != revision:
                    pass
        assert opa.restarts == 0


async def test_a_broken_bundle_put_in_place_keeps_the_old_policy_and_is_logged_as_an_error(place: Place) -> None:
    async with place.started() as opa, policy_of(opa) as policy:
        write_bundle(place.bundle, "r2", "package sidegate.decision\n\ndecision := ")
        await until(lambda: any("rego_parse_error" in line.get("err", "") for line in place.log))
        assert await policy.revision() == "r1"
    assert all(line["level"] == "error" for line in place.log if "err" in line)


async def test_a_broken_bundle_at_the_start_is_a_clear_error_and_leaves_nothing(place: Place) -> None:
    opa = place.opa()
    write_bundle(place.bundle, "r1", "package sidegate.decision\n\ndecision := ")
    message = await start_error(opa)
    assert message.startswith("OPA ended at its start with 1: error: load error: bundle ")
    assert "decision.rego:3: rego_parse_error" in message
    place.bundle.write_bytes(b"not a bundle")
    assert "bundle read failed" in await start_error(opa)
    write_bundle(place.bundle, "r1")
    await opa.start()
    await opa.close()


async def test_what_cannot_be_run_is_a_clear_error(place: Place, tmp_path: Path) -> None:
    text = tmp_path / "text"
    text.write_text("not a program")
    for binary in (tmp_path / "nothing", tmp_path, text):
        assert f"{binary} is not a program that can be run" in await start_error(place.opa(binary=binary))
    text.chmod(0o700)
    assert "Exec format error" in await start_error(place.opa(binary=text))
    assert "with 1: it said nothing" in await start_error(place.opa(binary=FALSE))
    assert f"there is no bundle {tmp_path}" in await start_error(place.opa(bundle=tmp_path))


async def test_a_program_that_never_becomes_ready_is_ended_in_bounded_time(place: Place, tmp_path: Path) -> None:
    script = tmp_path / "hangs"
    script.write_text("#!/bin/sh\necho waiting for nothing\necho $$ > pid\nexec sleep 600\n")
    script.chmod(0o700)
    clock = HastyClock(0, once=(place.directory / "pid").exists)  # a busy machine takes its time to start the script
    message = await start_error(place.opa(binary=script, clock=clock))
    assert message == "OPA was not ready after 15 s: waiting for nothing"
    assert not running(int((place.directory / "pid").read_text()))


async def test_one_that_is_only_starting_is_not_ended_by_who_waits_for_it(place: Place, tmp_path: Path) -> None:
    """The watchdog asks to end what is silent; a restart of a big policy is silent for longer than its patience."""
    gate = tmp_path / "gate"
    slow = tmp_path / "slow"
    slow.write_text(f'#!/bin/sh\nwhile [ ! -e {gate} ]; do sleep 0.01; done\nexec {opa_binary()} "$@"\n')
    slow.chmod(0o700)
    gate.touch()
    async with place.started(binary=slow) as opa:
        gate.unlink()
        opa.kill()
        await until(lambda: opa.restarts == 1 and opa.pid is not None)
        starting = pid_of(opa)
        opa.kill()
        opa.kill()
        gate.touch()
        await until(lambda: opa.alive)
        assert (opa.restarts, pid_of(opa)) == (1, starting)
        opa.kill()
        await until(lambda: opa.alive and pid_of(opa) != starting)


async def test_it_dies_with_a_parent_that_is_killed(place: Place) -> None:
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PARENT, place.bundle, place.directory, opa_binary(), cwd=ROOT, stdout=subprocess.PIPE
    )
    assert parent.stdout is not None
    pid = int(await asyncio.wait_for(parent.stdout.readline(), 30))
    assert running(pid)
    parent.kill()
    await parent.wait()
    await until(lambda: not running(pid))
    async with place.started() as opa, policy_of(opa) as policy:
        assert await policy.revision() == "r1"


PARENT = """
import asyncio, sys
from pathlib import Path
from proxy.adapters.clock import SystemClock
from proxy.adapters.opa_process import SupervisedOpa

async def main():
    bundle, directory, binary = map(Path, sys.argv[1:])
    opa = SupervisedOpa(binary=binary, bundle=bundle, directory=directory, clock=SystemClock(), on_log=lambda line: None)
    await opa.start()
    print(opa.pid, flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


@pytest.mark.parametrize(
    "test",
    [
        test_it_starts_answers_and_ends,
        test_it_sees_nothing_of_our_environment,
        test_killed_it_is_restarted_and_answers_again,
        test_one_that_hangs_costs_its_callers_the_deadline_and_can_still_be_closed,
        test_closing_while_restarts_fail_leaves_nothing,
        functools.partial(test_closing_while_it_is_restarted_leaves_nothing, delay=0.05),
        functools.partial(test_closing_while_it_is_restarted_leaves_nothing, delay=0.06),
        functools.partial(test_closing_while_it_is_restarted_leaves_nothing, delay=0.08),
        test_a_start_that_is_given_up_leaves_nothing,
        test_a_broken_bundle_at_the_start_is_a_clear_error_and_leaves_nothing,
    ],
)
def test_the_same_holds_on_uvloop(place: Place, test: Callable[[Place], Coroutine[Any, Any, None]]) -> None:
    """It starts processes in its own way."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(test(place))
