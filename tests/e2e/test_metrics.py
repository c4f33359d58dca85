"""The probe port of a running sidecar: every metric with its labels, nothing that names anybody, and answers under load."""

import asyncio
import re
import signal
import statistics
import time

import aiohttp
import pytest

from proxy.server.probe import OPENMETRICS, PROMETHEUS
from proxy.telemetry import names
from tests.deploy.monitored import HISTOGRAMS, SCRAPERS, family, metrics_in, rules, shown
from tests.e2e.gates import Gate
from tests.e2e.holds import held_price
from tests.e2e.rig import Rig
from tests.e2e.scrapes import Scrape, promtool, scrape

ACCEPTS = "application/openmetrics-text;version=1.0.0;q=0.6,text/plain;version=0.0.4;q=0.3,*/*;q=0.2"


async def get(rig: Rig, path: str, **headers: str) -> tuple[int, str, str]:
    """Status, media type and text; on a connection of its own, as probes come."""
    async with aiohttp.ClientSession() as session, session.get(rig.url("probe") + path, headers=headers) as response:
        return response.status, response.headers["content-type"], await response.text()


async def busy(rig: Rig) -> str:
    """One call of each kind; returns the handle."""
    handle = await rig.register(f"a-conversation-{len(rig.records(kind='registered'))}")
    await held_price(rig, handle)
    assert (await rig.send(handle, "create_order", {"sku": "S", "quantity": 1000})).code == "denied"
    assert (await rig.send(handle, "no_such_tool_4711", {})).code == "unknown_tool"
    assert (await rig.post("/v1/tool-calls", "{", handle))[0] == 400
    return handle


async def labels_seen(now: Scrape) -> dict[str, set[str]]:
    """Label names by metric."""
    seen: dict[str, set[str]] = {}
    for name, pairs in now.values:
        seen.setdefault(family(name), set()).update(label for label, _ in pairs)
    return seen


async def test_every_metric_is_there_with_the_labels_that_are_documented(shared: Rig) -> None:
    """Once there was a call of each kind; and nothing else is there."""
    await busy(shared)
    seen = await labels_seen(await scrape(shared))
    assert seen == {
        name: {*names.METRIC_LABELS.get(name, ()), *(("le",) if name in HISTOGRAMS else ())}
        for name in names.ALL_METRICS
    }


async def test_every_series_that_rules_and_dashboard_ask_for_is_there(shared: Rig) -> None:
    """By name and labels, as the scraper has it; those with a value by which they are chosen can be chosen."""
    await busy(shared)
    seen = await labels_seen(await scrape(shared))
    expressions = [rule["expr"] for rule in rules()] + [expression for _, expression in shown()]
    asked = [found for expression in expressions for found in metrics_in(expression)]
    assert len(asked) > 50
    for name, matchers in asked:
        assert name in seen
        assert set(matchers) <= seen[name] | SCRAPERS


async def test_no_label_names_a_person_a_conversation_or_a_call(shared: Rig) -> None:
    """Nor a tool that the model made up."""
    handle = await busy(shared)
    _, _, text = await get(shared, "/metrics")
    ids = {record["call"] for record in shared.records(kind="terminal")} | {
        record["trace"] for record in shared.records(kind="terminal")
    }
    assert len(ids) > 4
    for secret in (handle, "a-conversation", "no_such_tool", "ada", "Ada", "acme", "SKU", "buyer", *ids):
        assert secret not in text, secret
    assert 'tool="_other"' in text


@pytest.mark.slow
async def test_prometheus_reads_it_in_both_formats(shared: Rig, tmp_path: object) -> None:
    """promtool's linter finds nothing in the one; its importer, which is strict, takes the other."""
    await busy(shared)
    status, kind, text = await get(shared, "/metrics")
    assert (status, kind) == (200, PROMETHEUS)
    code, said = promtool("check", "metrics", given=text)
    assert (code, said) == (0, "")
    status, kind, text = await get(shared, "/metrics", accept=ACCEPTS)
    assert (status, kind) == (200, OPENMETRICS)
    file = shared.folder / "metrics.txt"
    # The importer wants to know when; a scraper does.
    file.write_text(re.sub(r"^([^#].*)$", rf"\1 {int(time.time())}", text, flags=re.MULTILINE))
    code, said = promtool("tsdb", "create-blocks-from", "openmetrics", str(file), str(tmp_path))
    assert code == 0, said


async def test_probes_are_answered_while_calls_come_faster_than_they_are_decided(shared: Rig) -> None:
    """On connections of their own, as the kubelet's are; all within the 5 s that the chart gives liveness, and most at once."""
    handle, over = await shared.register("load"), asyncio.Event()

    async def calling(number: int) -> int:
        sent = 0
        while not over.is_set():
            sent += 1
            await shared.send(handle, "get_stock", {"sku": f"{number}-{sent}"})
        return sent

    callers = [asyncio.create_task(calling(number)) for number in range(32)]
    took: dict[str, list[float]] = {"/healthz/live": [], "/healthz/ready": [], "/metrics": []}
    for _ in range(20):
        for path, seconds in took.items():
            began = time.monotonic()
            assert (await get(shared, path))[0] == 200
            seconds.append(time.monotonic() - began)
    over.set()
    assert sum(await asyncio.gather(*callers)) > len(callers)
    assert max(max(seconds) for seconds in took.values()) < 5, took
    assert max(statistics.median(seconds) for seconds in took.values()) < 0.5, took


async def test_who_drains_lives_and_is_not_ready_until_the_end(prepared: Rig) -> None:
    """SIGTERM with a call at its upstream: unready at once and said so, no restart asked for, still scraped; then it ends."""
    gate = Gate()
    prepared.upstream.answer = gate
    await prepared.start()
    handle = await prepared.register("c1")
    under_way = asyncio.create_task(prepared.send(handle, "get_stock"))
    await prepared.until(gate.has_one, "a call is at its upstream")
    assert prepared.process is not None
    prepared.process.send_signal(signal.SIGTERM)

    async def unready() -> bool:
        return (await get(prepared, "/healthz/ready"))[0] == 503

    await prepared.until(unready, "it says that it is not ready")
    assert (await get(prepared, "/healthz/live"))[0] == 200
    assert (await scrape(prepared)).value(names.CALLS_IN_FLIGHT) == 1
    gate.open.set()
    assert (await under_way).status == 200
    assert await asyncio.to_thread(prepared.process.wait, 30) == 0
    prepared.process = None
