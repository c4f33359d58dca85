"""A supervised OPA starts, restarts, swaps bundles and ends, with a real OPA; what fails says so in bounded time."""

import asyncio
import contextlib
import functools
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import pytest
import uvloop
from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from proxy.adapters.clock import SystemClock
from proxy.adapters.opa import OpaPolicy
from proxy.adapters.opa_process import (
    FIRST_PAUSE,
    LONGEST_PAUSE,
    OpaStartError,
    OtlpTarget,
    SupervisedOpa,
    read_log_line,
)
from proxy.adapters.opa_transport import SidecarOpaClient
from proxy.errors import Code, Refusal
from proxy.model import SpanContext
from tests.contracts.opa_server import ROOT, free_port, opa_binary, short_directory, stop, until, write_bundle

FALSE = Path("/bin/false").resolve()


class HastyClock(SystemClock):
    """Notes how long it was asked to sleep. Of sleeps of `from_seconds` and more it sleeps a hundredth and skips the rest."""

    def __init__(self, from_seconds: float) -> None:
        self.slept: list[float] = []
        self._from_seconds = from_seconds
        self._skipped = 0.0

    def monotonic(self) -> float:
        return super().monotonic() + self._skipped

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        real = seconds / 100 if seconds >= self._from_seconds else seconds
        self._skipped += seconds - real
        await asyncio.sleep(real)


class NeverWakes(SystemClock):
    """Sleeps until cancelled."""

    async def sleep(self, seconds: float) -> None:
        await asyncio.Event().wait()


@dataclass(slots=True, kw_only=True)
class Place:
    """A directory with a bundle, and what OPA logged."""

    root: Path
    bundle: Path
    log: list[Mapping[str, str]] = field(default_factory=list)
    clock: SystemClock = field(default_factory=SystemClock)

    @property
    def directory(self) -> Path:
        return self.root / "opa"

    def opa(self, **options: Any) -> SupervisedOpa:
        given: dict[str, Any] = {
            "binary": opa_binary(),
            "bundle": self.bundle,
            "directory": self.directory,
            "clock": self.clock,
            "on_log": self.log.append,
        }
        return SupervisedOpa(**{**given, **options})

    @contextlib.asynccontextmanager
    async def started(self, **options: Any) -> AsyncIterator[SupervisedOpa]:
        opa = self.opa(**options)
        await opa.start()
        try:
            yield opa
        finally:
            await opa.close()


@pytest.fixture
def place() -> Iterator[Place]:
    with short_directory() as root:
        yield Place(root=root, bundle=write_bundle(root / "bundle.tar.gz", "r1"))


@contextlib.asynccontextmanager
async def policy_of(opa: SupervisedOpa, deadline: float = 5.0) -> AsyncIterator[OpaPolicy]:
    async with SidecarOpaClient(opa.address, deadline=deadline) as client:
        yield OpaPolicy(client)


def proc(pid: int, name: str) -> bytes:
    return Path(f"/proc/{pid}/{name}").read_bytes()


def running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state not in "ZX"


def pid_of(opa: SupervisedOpa) -> int:
    assert opa.pid is not None
    return opa.pid


async def start_error(opa: SupervisedOpa) -> str:
    with pytest.raises(OpaStartError) as caught:
        await opa.start()
    assert not opa.alive
    assert opa.pid is None
    return str(caught.value)


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


async def test_its_directory_and_socket_are_ours_alone(place: Place) -> None:
    place.directory.mkdir(mode=0o777)
    place.directory.chmod(0o777)
    async with place.started():
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in place.directory.iterdir()}
        assert stat.S_IMODE(place.directory.stat().st_mode) == 0o700
        assert (modes["opa.sock"], modes["opa.json"], modes["lock"]) == (0o600, 0o600, 0o600)


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


def commands_that_name(directory: Path) -> list[bytes]:
    commands = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            commands.append(path.read_bytes())
    return [command for command in commands if os.fsencode(directory) in command]


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
    script.write_text("#!/bin/sh\necho $$ > pid\necho waiting for nothing\nexec sleep 600\n")
    script.chmod(0o700)
    message = await start_error(place.opa(binary=script, clock=HastyClock(0)))
    assert message == "OPA was not ready after 15 s: waiting for nothing"
    assert not running(int((place.directory / "pid").read_text()))


async def test_a_socket_path_over_the_kernels_limit_is_a_clear_error(place: Place) -> None:
    directory = place.root / ("x" * 100)
    message = await start_error(place.opa(directory=directory))
    assert f"{directory}/opa.sock has {len(str(directory)) + 9} bytes, over 107" in message


async def test_the_longest_path_that_the_kernel_takes_works(place: Place) -> None:
    directory = place.root / ("x" * (107 - len(str(place.root)) - len("//opa.sock")))
    async with place.started(directory=directory) as opa, policy_of(opa) as policy:
        assert len(opa.address.removeprefix("unix://")) == 107
        assert await policy.revision() == "r1"


async def test_a_directory_that_is_not_one_of_our_own_is_refused(place: Place, tmp_path: Path) -> None:
    link, file = place.root / "link", place.root / "file"
    link.symlink_to(tmp_path)
    file.write_text("")
    assert "not a directory of this user's own" in await start_error(place.opa(directory=link))
    assert "OPA's directory cannot be used" in await start_error(place.opa(directory=file))


async def test_a_second_sidegate_cannot_take_the_directory_of_a_living_one(place: Place) -> None:
    async with place.started() as opa, policy_of(opa) as policy:
        second = place.opa()
        assert "another running Sidegate uses" in await start_error(second)
        await second.close()
        assert await policy.revision() == "r1"
        assert opa.restarts == 0
        assert (place.directory / "opa.pid").exists()


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


@contextlib.asynccontextmanager
async def leftover(place: Place, note: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """A process that nobody ends, and a note about it as `note` formats it."""
    process = await asyncio.create_subprocess_exec("sleep", "600", start_new_session=True)
    started = proc(process.pid, "stat").rpartition(b")")[2].split()[19].decode()
    place.directory.mkdir()
    (place.directory / "opa.pid").write_text(note.format(pid=process.pid, started=started, later=int(started) + 1))
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def test_a_leftover_of_a_killed_sidegate_is_ended_at_the_next_start(place: Place) -> None:
    async with leftover(place, "{pid} {started}") as process, place.started():
        assert await asyncio.wait_for(process.wait(), 5) == -signal.SIGKILL


async def test_a_start_given_up_over_a_leftover_lets_go_of_the_directory(place: Place) -> None:
    async with leftover(place, "{pid} {started}"):
        start = asyncio.create_task(place.opa(clock=NeverWakes()).start())
        await asyncio.sleep(0)
        start.cancel()
        with pytest.raises(asyncio.CancelledError):
            await start
    async with place.started() as opa:
        assert opa.alive


@pytest.mark.parametrize("note", ["{pid} {later}", "{pid}", "", "x y", "{pid} {started} z", "999999999 {started}"])
async def test_a_process_that_only_has_its_number_is_left_alone(place: Place, note: str) -> None:
    async with leftover(place, note) as process, place.started() as opa:
        assert opa.alive
        assert running(process.pid)


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


def spans_of(body: bytes) -> list[Any]:
    request = ExportTraceServiceRequest.FromString(body)
    return [span for resource in request.resource_spans for scope in resource.scope_spans for span in scope.spans]


async def test_spans_of_calls_go_to_the_target_and_join_the_callers_trace_and_probes_make_none(place: Place) -> None:
    bodies: list[bytes] = []

    async def receive(request: web.Request) -> web.Response:
        bodies.append(await request.read())
        return web.Response(content_type="application/x-protobuf")

    port = free_port()
    app = web.Application()
    app.router.add_post("/v1/traces", receive)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    trace = SpanContext(trace_id="0123456789abcdef" * 2, span_id="b" * 16)
    async with (
        place.started(tracing=OtlpTarget(type="http", address=f"127.0.0.1:{port}")) as opa,
        policy_of(opa) as policy,
    ):
        await policy.revision()
        await policy.visible(b'{"names": []}', trace)
        await until(lambda: any(bytes.fromhex(trace.trace_id) in body for body in bodies))
    await runner.cleanup()
    spans = [span for body in bodies for span in spans_of(body)]
    assert {(span.name, span.trace_id.hex(), span.parent_span_id.hex()) for span in spans} == {
        ("POST /v1/data/{path...}", trace.trace_id, trace.span_id)
    }


async def test_a_line_without_end_is_left_out_and_the_next_is_read(place: Place, tmp_path: Path) -> None:
    script = tmp_path / "talks"
    script.write_text("#!/bin/sh\nhead -c 300000 /dev/zero | tr '\\0' x\necho\necho done\nexit 3\n")
    script.chmod(0o700)
    message = await start_error(place.opa(binary=script))
    assert message.startswith("OPA ended at its start with 3: ")
    assert message.endswith("done")
    assert any("was left out" in line["msg"] for line in place.log)
    assert all(len(value) <= 500 for line in place.log for value in line.values())


def test_a_log_line_passes_on_known_fields_only_cut_and_as_text() -> None:
    line = orjson.dumps(
        {
            "level": "info",
            "msg": "m" * 900,
            "req_body": "secret",
            "headers": {"authorization": "secret"},
            "plugin": 7,
            "err": None,
        }
    )
    assert read_log_line(line) == {"level": "info", "msg": "m" * 500, "plugin": "7"}


def test_a_log_line_with_an_error_is_an_errors_whatever_its_level() -> None:
    assert read_log_line(b'{"level":"info","msg":"m","err":"e"}') == {"level": "error", "msg": "m", "err": "e"}


@pytest.mark.parametrize("line", [b"goroutine 1 [running]:\n", b"[1]", b"1", b"{", b"\xff\n", b""])
def test_a_line_that_is_no_json_object_is_an_errors_text(line: bytes) -> None:
    read = read_log_line(line)
    assert set(read) == {"level", "msg"}
    assert read["level"] == "error"
