"""A running sidecar: when it is ready, which figures it tells, and how it ends."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from aiohttp import web

from proxy import __version__
from proxy.adapters.volume import Volume
from proxy.errors import Code
from proxy.model import Status
from proxy.server.listeners import Listeners
from proxy.settings import Listen, Settings
from proxy.sidecar import Sidecar, drain
from proxy.telemetry import names
from tests.adapters.valkey_rig import pods_on_server
from tests.contracts.line import READ, WRITE, Line, call, opened, refusal, reviewed, snapshot
from tests.contracts.store_kit import hold, register, until
from tests.contracts.store_values import checked, tool


@pytest.fixture
async def line(tmp_path: Path) -> AsyncIterator[Line]:
    async with opened(tmp_path) as made:
        yield made


def sidecar(line: Line, *, opa: Any = None, answers: bool = True, drain_seconds: float = 5.0) -> Sidecar:
    """Around a real line; the policy's source and OPA are only asked for what they are."""
    source = SimpleNamespace(
        modes={"grants": "enforce", "mine": "warn"},
        approvers=["leads"],
        warnings=("a warning",),
        layers={"platform": "p1"},
        rolled_back=None,
        fetcher=None,
    )
    return Sidecar(
        settings=Settings(state=line.rig.path, catalog=Path(), policy=Path(), drain=drain_seconds),
        pipeline=line.pipeline,
        store=line.store,
        journal=line.store.log._journal,
        volume=Volume(line.rig.path, None, line.clock),
        snapshots=cast("Any", line.snapshots),
        policy_source=cast("Any", source),
        listeners=Listeners(complete=True),
        opa=opa,
        watchdog=cast("Any", SimpleNamespace(answers=answers, answer="p1")),
    )


@pytest.mark.parametrize(
    ("complete", "closed", "opa", "ready"),
    [
        (True, False, None, True),
        (True, False, SimpleNamespace(alive=True), True),
        (True, False, SimpleNamespace(alive=False), False),
        (True, True, None, False),
        (False, False, None, False),
    ],
)
async def test_it_is_ready_while_calls_can_be_decided(
    line: Line, complete: bool, closed: bool, opa: Any, ready: bool
) -> None:
    """Every port bound, nothing draining, its own OPA alive."""
    made = sidecar(line, opa=opa)
    made.listeners.complete = complete
    made.pipeline.gate.closed = closed
    assert made.ready() is ready
    assert made.status()["ready"] is ready


async def test_it_is_not_ready_while_opa_is_silent(line: Line) -> None:
    """An OPA that runs but does not answer decides nothing."""
    assert not sidecar(line, answers=False).ready()


async def test_its_status_has_what_an_operator_asks_for(line: Line) -> None:
    """Revisions, policies and how they count, what is set aside, where the journal stands."""
    line.snapshots.now = snapshot("p1", ("tools/0/versions/0/arguments_schema", {"type": "object", "pattern": "("}))
    await line.handle(WRITE)
    status = sidecar(line).status()
    head = line.store.log._journal.head
    assert status["journal"] == {"seq": head.seq, "hash": head.hash, "segment": head.segment}
    assert (status["policy"], status["catalog"]) == ("p1", line.snapshots.now.catalog.revision)
    assert status["revision"] == line.snapshots.now.revision
    assert (status["tools"], status["quarantined"]) == (3, ["get_capacity"])
    assert (status["policies"], status["warnings"]) == ({"grants": "enforce", "mine": "warn"}, ["a warning"])
    assert (status["layers"], status["rolled_back"]) == ({"platform": "p1"}, None)
    assert status["not_enforcing"] == ["mine"]
    assert (status["approvers"], status["opa"]) == (["leads"], "supervised")
    assert (status["registration"], status["in_flight"]) == ("claimed", 0)
    assert status["enforcement"] == {"credential": ["suppliers-api"], "cooperative": ["in-agent"]}


async def test_it_knows_which_names_the_catalog_has(line: Line) -> None:
    """Of tools and systems; of others it cannot tell."""
    made = sidecar(line)
    (name, tool), *_ = line.snapshots.now.catalog.tools.items()
    assert not made.unknown("tool", name)
    assert not made.unknown("system", tool.system.name)
    assert made.unknown("tool", "nothing")
    assert made.unknown("system", name)
    assert not made.unknown("conversation", "nothing")


async def test_its_gauges_are_read_when_they_are_asked_for(line: Line) -> None:
    """Reviews that wait and the age of the oldest, revision, journal, free space."""
    readings = sidecar(line).readings()
    assert set(readings) <= set(names.ALL_METRICS)
    assert (readings[names.REVIEWS_WAITING](), readings[names.REVIEWS_OLDEST_SECONDS]()) == (0, 0.0)
    line.policy.decides = reviewed
    await line.handle(READ, patient=False)
    line.clock.advance(30)
    await line.handle(call(given=b'{"supplier_id":"other"}'), patient=False)
    line.clock.advance(12)
    assert (readings[names.REVIEWS_WAITING](), readings[names.REVIEWS_OLDEST_SECONDS]()) == (2, 42.0)
    line.clock.advance(-60)
    assert readings[names.REVIEWS_OLDEST_SECONDS]() == 0.0, "a clock that was put back makes nobody younger than new"
    line.clock.advance(60)
    await line.answer_review()
    assert readings[names.REVIEWS_WAITING]() == 1
    assert readings[names.POLICY_REVISION_INFO]() == {("p1", ""): 1}
    assert readings[names.JOURNAL_RECORDS_TOTAL]() == line.store.log._journal.head.seq
    free, size = readings[names.JOURNAL_FREE_BYTES](), readings[names.JOURNAL_SIZE_BYTES]()
    assert isinstance(free, int)
    assert isinstance(size, int)
    assert 0 < free < size


async def test_a_review_in_a_shared_store_is_as_old_as_the_stores_clock_says(line: Line, tmp_path: Path) -> None:
    """A minute ahead of this pod's: by that it would be younger than new."""
    async with pods_on_server(tmp_path / "shared") as pods, pods.pod(clock=line.clock) as store:
        pods.clock.advance(60)
        await store.pods.beat()
        now = line.clock.now()
        what = checked(tool("get_stock"))
        await hold(store, await register(store), what, requested_at=now, expires_at=now + timedelta(hours=1))
        for clock in (pods.clock, line.clock):
            clock.advance(42)
        readings = replace(sidecar(line), store=store).readings()
        assert (readings[names.REVIEWS_WAITING](), readings[names.REVIEWS_OLDEST_SECONDS]()) == (1, 42.0)


async def test_its_gauges_tell_what_holds_and_what_does_not(line: Line) -> None:
    """Whether OPA answers and with which revision, whether files were taken over, what only watches, what is stopped."""
    opa = SimpleNamespace(alive=True, restarts=2)
    made = sidecar(line, opa=opa)
    keeper = cast("Any", made.snapshots)
    keeper.failing, keeper.loaded_at = False, 1234.5
    read = {name: reading() for name, reading in made.readings().items()}
    assert set(read) <= set(names.ALL_METRICS)
    assert read[names.NOT_ENFORCING] == {("warn",): 1, ("shadow",): 0}
    assert (read[names.OPA_UP], read[names.OPA_RESTARTS_TOTAL], read[names.REVISION_SKEW]) == (1, 2, 0)
    assert (read[names.RELOAD_SUCCESSFUL], read[names.RELOAD_TIMESTAMP_SECONDS]) == (1, 1234.5)
    assert read[names.REVIEWS_DEADLINE_SECONDS] == line.pipeline.review_ttl
    assert (read[names.CALLS_IN_FLIGHT], read[names.BUILD_INFO]) == (0, {(__version__,): 1})
    await line.store.conversations.throw({"scope": "tool", "name": "get_capacity", "by": "op"}, standing=True)
    opa.alive, keeper.failing, cast("Any", made.watchdog).answer = False, True, "p0"
    read = {name: reading() for name, reading in made.readings().items()}
    assert (read[names.OPA_UP], read[names.REVISION_SKEW], read[names.RELOAD_SUCCESSFUL]) == (0, 1, 0)
    stops = read[names.STOPS_STANDING]
    assert isinstance(stops, dict)
    assert {scope for (scope,), count in stops.items() if count} == {"tool"}


async def test_before_opa_has_told_a_revision_there_is_no_skew(line: Line) -> None:
    """And a bundle that does not come is a reload that failed."""
    made = sidecar(line)
    cast("Any", made.watchdog).answer = None
    cast("Any", made.snapshots).failing = False
    readings = made.readings()
    assert (readings[names.REVISION_SKEW](), readings[names.RELOAD_SUCCESSFUL]()) == (0, 1)
    cast("Any", made.policy_source).fetcher = SimpleNamespace(failing=True)
    assert readings[names.RELOAD_SUCCESSFUL]() == 0


async def test_draining_takes_no_new_calls_and_gives_everybody_an_answer(line: Line) -> None:
    """What is at its upstream ends, what is held is told that it is pending, what comes is overloaded."""
    made = sidecar(line)
    app = web.Application()
    await made.listeners.bind(app, Listen(host="127.0.0.1", port=0))
    port = made.listeners.runners[0].addresses[0][1]
    stop = line.stop("executor.execute")
    sent = line.begin()
    await stop.reached.wait()
    line.policy.decides = reviewed
    held = line.begin(call(given=b'{"supplier_id":"other"}'))
    await until(lambda: "reviews.outcome" in line.steps)
    draining = asyncio.create_task(drain(made))
    assert refusal(await held).code is Code.REVIEW_PENDING
    assert (refusal(await line.handle(WRITE)).code, made.ready()) == (Code.OVERLOADED, False)
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", port)
    assert not draining.done()
    stop.go.set()
    await draining
    assert (await sent).status is Status.DONE
    await made.listeners.close()


async def test_a_drain_ends_in_its_time_and_leaves_a_record_of_what_it_cut_off(line: Line) -> None:
    """The outcome is not known; who waits is told so."""
    stop = line.stop("executor.execute")
    sent = line.begin(WRITE)
    await stop.reached.wait()
    await asyncio.wait_for(drain(sidecar(line, drain_seconds=0.05)), 5)
    assert refusal(await sent).code is Code.OUTCOME_UNKNOWN
    assert (await line.terminal())["outcome"] == "unknown"
