"""Two sidecar processes and a desk over one real Redis: any pod serves any conversation (design sections 8 and 12)."""

import asyncio
import contextlib
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.e2e.holds import held_price, prices, resume, review_of
from tests.e2e.redis_server import RedisServer, redis_server
from tests.e2e.rig import Rig, rig

pytestmark = pytest.mark.slow


def join(made: Rig, server: RedisServer, name: str) -> Rig:
    """Let a rig be a pod of the group on this server."""
    (made.folder / "mac.key").write_bytes(b"m" * 32)
    made.settings["store"] = {"valkey": {"url": server.url, "mac_key_file": "mac.key", "deadline": "2s"}}
    made.settings["agent"]["pod"] = name
    made.settings["opa"] = {"deadline": "5s"}
    return made


@pytest_asyncio.fixture(loop_scope="module")
async def server(tmp_path: Path) -> AsyncIterator[RedisServer]:
    """One server for the pods of a test."""
    async with redis_server(tmp_path / "redis") as started:
        yield started


@pytest_asyncio.fixture(loop_scope="module")
async def pods(tmp_path: Path, server: RedisServer) -> AsyncIterator[tuple[Rig, Rig]]:
    """Two pods, running."""
    async with contextlib.AsyncExitStack() as stack:
        made = []
        for name in ("a", "b"):
            (tmp_path / name).mkdir()
            made.append(join(await stack.enter_async_context(rig(tmp_path / name)), server, name))
        await asyncio.gather(*(each.start() for each in made))
        yield made[0], made[1]
        for each in made:
            await each.sound()


async def test_a_conversation_registered_through_one_pod_goes_on_through_another(pods: tuple[Rig, Rig]) -> None:
    """The handle serves, and what was read there counts here: the combination of three reads is held."""
    a, b = pods
    handle = await a.register("travels")
    assert (await a.send(handle, "get_stock")).status == 200
    assert (await b.send(handle, "get_terms")).status == 200
    held = await b.send(handle, "get_price", {"sku": "SKU-1"})
    assert (held.status, held.code) == (409, "review_pending")
    assert (await b.put("travels", b.users["ben"]))[0] == 409


async def test_a_hold_in_one_pod_is_answered_through_another_and_runs_in_the_first(pods: tuple[Rig, Rig]) -> None:
    """Listed in B, approved in B, once; the call waits in A and runs in A, once."""
    a, b = pods
    handle = await a.register("held")
    for name in ("get_stock", "get_terms"):
        assert (await a.send(handle, name)).status == 200
    waiting = asyncio.create_task(a.send(handle, "get_price", {"sku": "SKU-1"}, x_sidegate_patience="30"))

    async def listed() -> bool:
        return bool((await b.review("GET", "/v1/reviews"))[1])

    await b.until(listed, "B lists what A holds")
    (review,) = (await b.review("GET", "/v1/reviews"))[1]
    assert (await b.approve(review["id"]))[0] == 200
    assert (await a.approve(review["id"]))[0] == 409
    assert (await waiting).status == 200
    assert (prices(a), prices(b)) == (1, 0)
    assert len(a.records(kind="intent", review=review["id"])) == 1
    assert a.records(kind="review_requested")
    assert b.records(kind="review_resolved")[0]["by"].endswith("rob")


async def test_a_desk_lists_and_answers_and_has_no_agent_port(
    pods: tuple[Rig, Rig], server: RedisServer, tmp_path: Path
) -> None:
    """What the desk approved, the application resumes in the pod that held it."""
    a, _ = pods
    (tmp_path / "desk").mkdir()
    async with rig(tmp_path / "desk") as desk:
        join(desk, server, "desk").arguments.append("--desk")
        await desk.start()
        handle = await a.register("desk")
        held = await held_price(a, handle)

        async def listed() -> bool:
            return bool((await desk.review("GET", "/v1/reviews"))[1])

        async def resumed() -> bool:
            answer = await resume(a, held, handle)
            assert answer in ((200, ""), (409, "review_pending")), answer
            return answer == (200, "")

        await desk.until(listed, "the desk lists what A holds")
        status, (review,) = await desk.review("GET", "/v1/reviews")
        assert (status, review["id"]) == (200, review_of(held))
        assert (await desk.approve(review["id"]))[0] == 200
        await a.until(resumed, "A has heard of the yes")
        assert prices(a) == 1
        with pytest.raises(OSError):
            await asyncio.open_connection("127.0.0.1", desk.ports["agent"])
        assert await desk.stop() == 0


async def test_a_desk_without_its_store_stays_reachable_and_says_so(server: RedisServer, tmp_path: Path) -> None:
    """Live and ready, so that a reviewer gets a sentence and not a connection that is refused; back without a restart."""
    (tmp_path / "desk").mkdir()
    async with rig(tmp_path / "desk") as desk:
        join(desk, server, "desk").arguments.append("--desk")
        await desk.start()
        server.kill()

        async def asked(status: int) -> bool:
            return (await desk.review("GET", "/v1/reviews"))[0] == status

        await desk.until(lambda: asked(503), "it has noticed")
        assert (await desk.review("GET", "/v1/reviews"))[1]["refusal"]["code"] == "state_unavailable"
        for probe in ("live", "ready"):
            async with desk.session.get(desk.url("probe") + f"/healthz/{probe}") as response:
                assert response.status == 200
        assert "the shared store is not available" in desk.log()
        await server.start()
        await desk.until(lambda: asked(200), "it serves again")
        assert await desk.stop() == 0


async def test_a_stop_through_one_pod_stops_all_within_two_seconds(pods: tuple[Rig, Rig]) -> None:
    """And so it is lifted. Five times, of which one may meet a moment in which the machine stood still."""
    a, b = pods
    handle = await b.register("stopped")
    taken = []
    for method, code in (("POST", "stopped"), ("DELETE", "")) * 5:
        assert (await a.review(method, "/v1/stops", {"scope": "all"}))[0] == 200
        began = time.monotonic()

        async def reached(wanted: str = code) -> bool:
            another = {"sku": f"S{time.monotonic_ns()}"}  # the same again and again would be a loop
            return (await b.send(handle, "get_stock", another)).code == wanted

        await b.until(reached, "B has heard")
        taken.append(time.monotonic() - began)
    assert sorted(taken)[-2] < 2.0, taken


async def test_a_server_that_is_gone_refuses_in_bounded_time_and_calls_go_on_when_it_is_back(
    pods: tuple[Rig, Rig], server: RedisServer
) -> None:
    """Refused, recorded in the journal, nothing sent; recovered without a restart of ours."""
    a, _ = pods
    handle = await a.register("outage")
    sent = len(a.upstream.received)
    server.kill()
    began = time.monotonic()
    answer = await a.send(handle, "get_stock")
    assert (answer.status, answer.code) == (503, "state_unavailable")
    assert time.monotonic() - began < 8
    assert (await a.ended(answer.call_id))["code"] == "state_unavailable"
    assert len(a.upstream.received) == sent
    await server.start()

    async def served() -> bool:
        return (await a.send(handle, "get_stock")).status == 200

    await a.until(served, "calls go on")


async def test_calls_of_a_pod_that_was_killed_are_ended_when_it_is_back(pods: tuple[Rig, Rig]) -> None:
    """The restarted process knows its own, and its journal gets their one end."""
    a, b = pods
    handle = await a.register("killed")
    gate = asyncio.Event()

    async def never(*_: object) -> None:
        await gate.wait()

    a.upstream.answer = never
    call = asyncio.create_task(a.send(handle, "get_stock"))
    await a.until_true(lambda: bool(a.records(kind="intent")), "the call is under way")
    await a.stop(signal.SIGKILL)
    with contextlib.suppress(Exception):
        await call
    gate.set()
    a.upstream.answer = None
    (intent,) = a.records(kind="intent")
    await a.start()
    assert (await a.ended(intent["call"]))["recovered"] is True
    assert (await b.send(handle, "get_stock")).status == 200


async def test_without_a_shared_store_there_is_no_desk(tmp_path: Path) -> None:
    """One sentence, exit 64."""
    async with rig(tmp_path) as made:
        made.arguments.append("--desk")
        with pytest.raises(AssertionError, match="ended with 64"):
            await made.start()
        assert "it needs `store: {valkey: ...}`" in made.log()
