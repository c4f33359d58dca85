"""State and audit that cannot be written: no audit, no call; and it recovers without a restart (design section 15)."""

import asyncio
import contextlib
import os
import resource
import signal
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from proxy.telemetry import names
from tests.e2e.gates import Gate
from tests.e2e.holds import held_price, prices, resume, review_of
from tests.e2e.rig import Reply, Rig
from tests.e2e.scrapes import scrape

CAPACITY = 24 << 20  # bytes: bundle, OPA's directory, state, journal with its reserve


def mount(*arguments: str) -> None:
    """Run mount(8)."""
    subprocess.run(["mount", *arguments], check=True, capture_output=True)


@pytest.fixture
def volume(tmp_path: Path) -> Iterator[Path]:
    """A small volume of its own: root is not stopped by chmod, and a full disk needs a disk."""
    place = tmp_path / "volume"
    place.mkdir()
    try:
        mount("-t", "tmpfs", "-o", f"size={CAPACITY}", "tmpfs", str(place))
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no right to mount; the file-size limit below covers the same guards")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


@pytest_asyncio.fixture(loop_scope="module")
async def on_volume(prepared: Rig, volume: Path) -> Rig:
    """A running sidecar whose state is on the small volume."""
    prepared.settings["state"] = str(volume / "state")
    await prepared.start()
    return prepared


def fill(volume: Path) -> Path:
    """Use up all space that is left."""
    ballast = volume / "ballast"
    left = os.statvfs(volume)
    with ballast.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, left.f_bavail * left.f_frsize)
    return ballast


@contextlib.asynccontextmanager
async def calling(rig: Rig, handle: str, gate: Gate) -> AsyncIterator["asyncio.Task[Reply]"]:
    """An order that is at the upstream."""
    task = asyncio.create_task(rig.send(handle, "create_order", {"sku": "S", "quantity": 1}))
    await rig.until(gate.has_one, "the order is at the upstream")
    yield task


async def refused(rig: Rig, handle: str, before: int) -> list[str]:
    """A read and a write are both refused, and nothing has reached the upstream."""
    calls = (("get_stock", {"sku": "refused"}), ("create_order", {"sku": "refused", "quantity": 1}))
    answers = [await rig.send(handle, *call) for call in calls]
    assert {(answer.status, answer.code) for answer in answers} == {(503, "audit_unavailable")}
    assert {answer.body["refusal"]["ran"] for answer in answers} == {"no"}
    assert len(rig.upstream.received) == before
    assert "tmpfs" not in str([answer.body for answer in answers])
    return [answer.call_id for answer in answers]


async def works_again(rig: Rig, handle: str) -> None:
    """Without a restart; what could not be recorded is counted in one record, and the chain is whole."""
    pid = rig.pid

    async def works() -> bool:
        return (await rig.send(handle, "create_order", {"sku": "again", "quantity": 1})).status == 200

    await rig.until(works, "calls work again")
    assert (await rig.send(handle, "get_stock", {"sku": "again"})).status == 200
    assert rig.pid == pid
    assert rig.records(kind="gap")
    await rig.sound()


async def until_refused(rig: Rig, handle: str, before: int) -> list[str]:
    """Small leftovers of the volume may take a few records more."""

    async def unavailable() -> bool:
        return (await rig.send(handle, "get_terms", {"sku": "last"})).code == "audit_unavailable"

    await rig.until(unavailable, "the last blocks are used up")
    return await refused(rig, handle, len(rig.upstream.received))


async def test_a_full_volume(on_volume: Rig, volume: Path) -> None:
    """ENOSPC: refused before anything is sent; space is given back, and calls work again."""
    handle = await on_volume.register("c1")
    assert (await on_volume.send(handle, "get_stock")).status == 200
    ballast = fill(volume)
    await until_refused(on_volume, handle, len(on_volume.upstream.received))
    assert (await on_volume.put("c2", on_volume.users["ada"]))[0] == 503
    ballast.unlink()
    await works_again(on_volume, handle)
    await on_volume.stop()
    await on_volume.start()
    assert (await on_volume.send(handle, "get_price", {"sku": "after"})).code == "review_pending"


async def test_a_state_that_has_taken_what_it_may_is_a_full_volume(prepared: Rig) -> None:
    """Where the disk is somebody else's, an emptyDir's node: the same refusals, and the metrics that alerts look at."""
    prepared.settings["limits"] = {"state_bytes": CAPACITY}
    await prepared.start()
    handle = await prepared.register("c1")
    assert (await prepared.send(handle, "get_stock")).status == 200
    ballast = prepared.folder / prepared.settings["state"] / "ballast"
    with ballast.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, int((await scrape(prepared)).value(names.JOURNAL_FREE_BYTES)))
    await until_refused(prepared, handle, len(prepared.upstream.received))
    told = await scrape(prepared)
    assert told.value(names.JOURNAL_FREE_BYTES) < 1 << 16
    assert told.value(names.JOURNAL_SIZE_BYTES) == CAPACITY
    ballast.unlink()
    await works_again(prepared, handle)
    assert 0 < (await scrape(prepared)).value(names.JOURNAL_FREE_BYTES) < CAPACITY


async def test_a_call_under_way_when_the_volume_fills_up_has_its_end_recorded(on_volume: Rig, volume: Path) -> None:
    """Space is kept for terminal records: the effect that ran is told as done, and its record is there."""
    gate = Gate()
    on_volume.upstream.answer = gate
    handle = await on_volume.register("c1")
    async with calling(on_volume, handle, gate) as under_way:
        ballast = fill(volume)
        gate.open.set()
        answer = await under_way
    assert answer.status == 200
    assert (await on_volume.ended(answer.call_id))["outcome"] == "done"
    ballast.unlink()


async def test_a_file_that_may_not_grow(running: Rig) -> None:
    """EFBIG, by a limit set from outside, stands for every other error of a write (a volume in use cannot be turned
    read-only for a test): needs no rights, and finds the same guards."""
    handle = await running.register("c1")
    assert (await running.send(handle, "get_stock")).status == 200
    limit = resource.prlimit(running.pid, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
    before = len(running.upstream.received)
    await refused(running, handle, before)
    await refused(running, handle, before)
    resource.prlimit(running.pid, resource.RLIMIT_FSIZE, limit)
    await works_again(running, handle)
    (gap,) = running.records(kind="gap")
    assert gap["lost"] == {"intent": 4, "terminal": 4}


async def test_no_step_of_a_review_and_no_switch_happens_without_its_record(running: Rig) -> None:
    """While nothing can be written: no hold, no yes, no switch, no registration, and none of them comes true later."""
    handle = await running.register("c1")
    held = await held_price(running, handle)
    review = review_of(held)
    limit = resource.prlimit(running.pid, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
    assert (await running.send(handle, "get_price", {"sku": "2"})).code == "audit_unavailable"
    for status, body in (
        await running.approve(review),
        await running.review("POST", f"/v1/reviews/{review}/reject", {}),
        await running.review("POST", "/v1/stops", {"scope": "all"}),
        await running.put("c2", running.users["ada"]),
    ):
        assert (status, body["refusal"]["code"]) == (503, "audit_unavailable")
    resource.prlimit(running.pid, resource.RLIMIT_FSIZE, limit)
    assert await resume(running, held, handle) == (409, "review_pending")
    assert (await running.send(await running.register("c2", "ben"), "get_stock")).status == 200
    assert prices(running) == 0
    assert (await running.approve(review))[0] == 200
    assert await resume(running, held, handle) == (200, "")
    await running.sound()


async def test_a_result_whose_end_cannot_be_recorded_is_withheld(running: Rig) -> None:
    """The upstream has answered, the record fails: audit_unavailable, and the truth that it ran."""
    gate = Gate()
    running.upstream.answer = gate
    handle = await running.register("c1")
    async with calling(running, handle, gate) as under_way:
        limit = resource.prlimit(running.pid, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
        gate.open.set()
        answer = await under_way
    assert (answer.code, answer.body["refusal"]["ran"]) == ("audit_unavailable", "yes")
    assert "result" not in answer.body
    resource.prlimit(running.pid, resource.RLIMIT_FSIZE, limit)
    running.upstream.answer = None
    assert (await running.send(handle, "get_stock")).status == 200
    await running.stop(signal.SIGKILL)
    await running.start()
    record = await running.ended(answer.call_id)
    assert (record["outcome"], record["recovered"]) == ("unknown", True)
    await running.sound()
