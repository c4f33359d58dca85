"""SIGTERM with calls in flight and held: in-flight ones end and are answered, held ones get a definite answer at once."""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import AsyncIterator
from dataclasses import replace

import aiohttp
import pytest
import pytest_asyncio
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.e2e.gates import Gate
from tests.e2e.rig import Rig
from tests.telemetry.receiver import Receiver, attributes, receiving


@pytest_asyncio.fixture(loop_scope="module")
async def collector(prepared: Rig) -> AsyncIterator[Receiver]:
    """Gets the spans of the rig's sidecar, and nothing before it ends: the schedule is an hour."""
    async with receiving() as receiver:
        prepared.environment = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url,
            "OTEL_BSP_SCHEDULE_DELAY": "3600000",
        }
        yield receiver


def calls_told(collector: Receiver) -> list[tuple[str, str | None]]:
    """What the collector has got of calls: their spans' names and why they were refused. Each span has its status."""
    served = [span for span in collector.spans if span.kind == Span.SPAN_KIND_SERVER]
    ours = [(span, attributes(span).get("error.type")) for span in served if span.name.startswith("execute_tool")]
    for span, why in ours:
        assert (span.status.code == span.status.STATUS_CODE_ERROR) is (why is not None), span
        assert span.end_time_unix_nano >= span.start_time_unix_nano
    return sorted(((span.name.removeprefix("execute_tool "), why) for span, why in ours), key=str)


async def ends_with(rig: Rig) -> int:
    """Its exit code, awaited."""
    assert rig.process is not None
    code = await asyncio.to_thread(rig.process.wait, 30)
    rig.process = None
    return code


@contextlib.asynccontextmanager
async def kept_connection(rig: Rig) -> AsyncIterator[Rig]:
    """The same rig seen by a client that keeps its connection and does not notice that the listener is closed."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=1)) as session:
        async with session.get(rig.url("agent") + "/v1/nothing") as response:
            assert response.status == 404
            await response.read()
        yield replace(rig, session=session)


async def test_sigterm_lets_calls_end(prepared: Rig, collector: Receiver) -> None:
    """One call at the upstream, one held and one at OPA: all three are answered, what is new is refused, all spans arrive."""
    prepared.settings["patience"] = "20s"
    prepared.settings["opa"] = {"deadline": "5s"}
    await prepared.start()
    gate = Gate()
    handle = await prepared.register("c1")
    for name in ("get_stock", "get_terms"):
        assert (await prepared.send(handle, name)).status == 200
    held = asyncio.create_task(prepared.send(handle, "get_price"))
    await prepared.until_true(lambda: bool(prepared.records(kind="review_requested")), "the price is held")
    (review,) = prepared.records(kind="review_requested")
    watching = asyncio.create_task(prepared.get(f"/v1/tool-calls/{review['call']}?wait=60", handle))
    prepared.upstream.answer = gate
    other = await prepared.register("c2")
    working = asyncio.create_task(prepared.send(other, "create_order", {"sku": "S", "quantity": 1}))
    await prepared.until(gate.has_one, "the order is at the upstream")
    opa = prepared.opa_pid()

    async def two_in_flight() -> bool:
        return bool((await prepared.review("GET", "/v1/status"))[1]["in_flight"] == 2)

    async with kept_connection(prepared) as late:
        os.kill(opa, signal.SIGSTOP)
        try:
            thinking = asyncio.create_task(prepared.send(other, "get_stock"))
            await prepared.until(two_in_flight, "the stock is asked for")
            os.kill(prepared.pid, signal.SIGTERM)
            began = time.monotonic()
            assert (await held).code == "review_pending"
            assert (await watching)[1]["status"] == "pending"
            assert time.monotonic() - began < 5  # the patience is 20 s
            assert (await late.send(other, "get_stock")).code == "overloaded"
        finally:
            os.kill(opa, signal.SIGCONT)
        gate.open.set()
        assert (await thinking).status == 200
        assert (await working).status == 200
    assert await ends_with(prepared) == 0
    await prepared.sound()
    assert [r["code"] for r in prepared.records(kind="terminal")].count("overloaded") == 1
    assert {r["outcome"] for r in prepared.records(kind="terminal", conversation="c2")} == {"done"}
    assert calls_told(collector) == [
        ("create_order", None),
        ("get_price", "review_pending"),
        ("get_stock", "overloaded"),
        ("get_stock", None),
        ("get_stock", None),
        ("get_terms", None),
    ]


async def test_who_waits_for_opa_beyond_the_drain_is_told_that_it_ends(prepared: Rig, collector: Receiver) -> None:
    """The caller is there and is answered: it is not the caller who has given up. Its spans arrive with their end."""
    prepared.settings |= {"drain": "300ms", "opa": {"deadline": "20s"}}
    await prepared.start()
    handle = await prepared.register("c1")
    opa = prepared.opa_pid()

    async def one_in_flight() -> bool:
        return bool((await prepared.review("GET", "/v1/status"))[1]["in_flight"] == 1)

    os.kill(opa, signal.SIGSTOP)
    try:
        thinking = asyncio.create_task(prepared.send(handle, "get_stock"))
        await prepared.until(one_in_flight, "the stock is asked for")
        os.kill(prepared.pid, signal.SIGTERM)
        answer = await thinking
    finally:
        os.kill(opa, signal.SIGCONT)
    assert (answer.status, answer.code, answer.body["refusal"]["ran"]) == (429, "overloaded", "no")
    assert "shutting down" in answer.body["refusal"]["message"]
    assert await ends_with(prepared) == 0
    (record,) = prepared.records(kind="terminal")
    assert (record["outcome"], record["code"], "caller_gone" in record) == ("refused", "overloaded", False)
    await prepared.sound()
    assert calls_told(collector) == [("get_stock", "overloaded")]
    (decide,) = collector.named("decide")
    assert decide.status.code == decide.status.STATUS_CODE_ERROR


async def test_what_does_not_end_in_time_is_recorded_as_unknown(prepared: Rig) -> None:
    """The upstream hangs beyond the drain: the caller is told that nobody knows, exit 0, and the record says the same."""
    prepared.settings["drain"] = "300ms"
    await prepared.start()
    gate = Gate()
    prepared.upstream.answer = gate
    handle = await prepared.register("c1")
    working = asyncio.create_task(prepared.send(handle, "create_order", {"sku": "S", "quantity": 1}))
    await prepared.until(gate.has_one, "the order is at the upstream")
    os.kill(prepared.pid, signal.SIGTERM)
    answer = await working
    gate.open.set()
    assert (answer.code, answer.body["refusal"]["ran"]) == ("outcome_unknown", "unknown")
    assert await ends_with(prepared) == 0
    (record,) = prepared.records(kind="terminal")
    assert (record["outcome"], record["code"]) == ("unknown", "outcome_unknown")
    await prepared.sound()
    await prepared.start()
    assert len(prepared.records(kind="terminal")) == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_an_idle_sidecar_ends_at_once(prepared: Rig, number: signal.Signals) -> None:
    """Exit 0 in a second or two, and OPA is gone with it."""
    await prepared.start()
    opa = prepared.opa_pid()
    began = time.monotonic()
    assert await prepared.stop(number) == 0
    assert time.monotonic() - began < 8
    with pytest.raises(ProcessLookupError):
        os.kill(opa, 0)
    await prepared.sound()
