"""The private directory of a supervised OPA: whose it is, how long its name may be, and what an earlier Sidegate left in it."""

import asyncio
import contextlib
import signal
import stat
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.adapters.supervised_rig import (
    NeverWakes,
    Place,
    new_place,
    policy_of,
    proc,
    running,
    start_error,
)


@pytest.fixture
def place() -> Iterator[Place]:
    with new_place() as place:
        yield place


async def test_its_directory_and_socket_are_ours_alone(place: Place) -> None:
    place.directory.mkdir(mode=0o777)
    place.directory.chmod(0o777)
    async with place.started():
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in place.directory.iterdir()}
        assert stat.S_IMODE(place.directory.stat().st_mode) == 0o700
        assert (modes["opa.sock"], modes["opa.json"], modes["lock"]) == (0o600, 0o600, 0o600)


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
