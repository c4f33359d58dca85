"""Catalog and policy change under the running sidecar: whole or not at all, and each call is of one revision (design 6, 10)."""

import asyncio
import json
from typing import Any

import pytest

from tests.e2e.rig import Rig

pytestmark = pytest.mark.slow


async def status_of(rig: Rig) -> dict[str, Any]:
    """The review port's figures."""
    return dict((await rig.review("GET", "/v1/status"))[1])


async def until_revision_is_not(rig: Rig, before: str) -> str:
    """The next revision in force."""

    async def changed() -> bool:
        return bool((await status_of(rig))["revision"] != before)

    await rig.until(changed, "a new revision is in force")
    return str((await status_of(rig))["revision"])


async def more_records(rig: Rig, kind: str, count: int) -> None:
    """Return once there are so many more records of a kind."""
    before = len(rig.records(kind=kind))
    await rig.until_true(lambda: len(rig.records(kind=kind)) >= before + count, f"{count} more records of kind {kind}")


async def test_calls_during_reloads_are_of_one_revision_each(running: Rig) -> None:
    """Policy goes to and fro between allow and deny while calls run: every record is explained by its own revision."""
    handle = await running.register("c1")
    allow = running.policy["grants"]["systems"]["suppliers"]
    first = (await status_of(running))["revision"]
    allowing = {first}
    revision, stop = first, asyncio.Event()

    async def calls() -> list[str]:
        answers = []
        number = 0
        while not stop.is_set():
            number += 1
            answer = await running.send(handle, "create_order", {"sku": f"S{number}", "quantity": 1})
            assert (answer.status, answer.code) in ((200, ""), (403, "denied")), answer
            answers.append(answer.call_id)
        return answers

    workers = [asyncio.create_task(calls()) for _ in range(2)]
    for turn in range(2):
        running.policy["grants"]["systems"]["suppliers"] = {"read": {"buyer": {}}} if turn % 2 == 0 else allow
        running.write()
        revision = await until_revision_is_not(running, revision)
        if turn % 2:
            allowing.add(revision)
        await more_records(running, "terminal", 10)
    stop.set()
    called = {call for worker in workers for call in await worker}
    ends = [record for record in running.records(kind="terminal") if record["call"] in called]
    intents = {record["call"]: record for record in running.records(kind="intent")}
    assert len(ends) == len(called)
    for end in ends:
        judged = intents.get(end["call"], end)
        assert judged["decision"]["effect"] == ("allow" if judged["revision"] in allowing else "deny")
        assert judged["decision"]["policy"][:12] in judged["revision"]
    assert {end["outcome"] for end in ends} == {"done", "refused"}
    reloads = [record["revision"] for record in running.records(kind="reload") if "revision" in record]
    assert reloads[0] == first
    await running.sound()


async def test_a_broken_file_keeps_what_works_and_is_reported(running: Rig) -> None:
    """Catalog and policy that do not load, one after the other: calls go on as before, journal and log say why, and a good
    file mends it."""
    handle = await running.register("c1")
    first = (await status_of(running))["revision"]
    tools, policy = "catalog/tools.yaml", "policy.yaml"
    good = {name: (running.folder / name).read_text() for name in (tools, policy)}
    broken = {
        tools: (good[tools] + "\nnonsense: true\n", "- [", good[tools].replace("system: pricing", "system: nowhere")),
        policy: ("{}", "granting: [", json.dumps({**running.policy, "granting": ["nobody"]})),
    }
    for name, texts in broken.items():
        for text in texts:
            reported = asyncio.create_task(more_records(running, "reload", 1))
            await asyncio.sleep(0)  # it counts those that are there before the file changes
            running.put_file(name, text)
            await reported
            report = running.records(kind="reload")[-1]
            assert (report["failed"], bool(report["problems"])) == (True, True)
            assert json.dumps(report["problems"][0])[1:60] in running.log()
            assert (await status_of(running))["revision"] == first
            assert (await running.send(handle, "get_stock")).status == 200
            running.put_file(name, good[name])
    running.catalog["tools"][0]["description"] = "changed"
    running.write()
    second = await until_revision_is_not(running, first)
    answer = await running.send(handle, "get_stock")
    assert running.records(kind="intent", call=answer.call_id)[0]["revision"] == second


async def test_a_call_under_way_keeps_its_tool(prepared: Rig) -> None:
    """A tool is retired while a call of it is at the upstream: that call ends as it began; the next one is unknown."""
    running = prepared
    (order,) = [t for t in running.catalog["tools"] if t["name"] == "create_order"]
    order["timeout"] = "20s"
    await running.start()
    arrived, go = asyncio.Event(), asyncio.Event()

    async def gated(_: object, writer: asyncio.StreamWriter) -> None:
        arrived.set()
        await go.wait()
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}")

    running.upstream.answer = gated
    handle = await running.register("c1")
    first = (await status_of(running))["revision"]
    under_way = asyncio.create_task(
        running.send(handle, "create_order", {"sku": "S", "quantity": 1}, x_sidegate_patience="1")
    )
    await arrived.wait()
    (order,) = [t for t in running.catalog["tools"] if t["name"] == "create_order"]
    order["timeout"] = "20s"
    running.catalog["tools"] = [t for t in running.catalog["tools"] if t["name"] != "create_order"]
    running.policy["arguments"] = {}
    running.write()
    await until_revision_is_not(running, first)
    go.set()
    answer = await under_way
    assert answer.status == 200
    assert (await running.send(handle, "create_order", {"sku": "S", "quantity": 1})).code == "unknown_tool"
    assert running.records(kind="intent", call=answer.call_id)[0]["revision"] == first


async def test_the_shown_definitions_follow_the_revision(running: Rig) -> None:
    """`GET /v1/tools` and its ETag change with policy and catalog; what is not granted is not shown."""
    handle = await running.register("c1")
    headers = {"x-sidegate-conversation": handle}
    async with running.session.get(running.url("agent") + "/v1/tools", headers=headers) as response:
        etag, names = response.headers["etag"], {tool["name"] for tool in await response.json()}
    assert "get_price" in names
    unchanged = {**headers, "if-none-match": etag}
    async with running.session.get(running.url("agent") + "/v1/tools", headers=unchanged) as response:
        assert response.status == 304
    first = (await status_of(running))["revision"]
    del running.policy["grants"]["systems"]["pricing"]
    running.write()
    await until_revision_is_not(running, first)
    async with running.session.get(running.url("agent") + "/v1/tools", headers=unchanged) as response:
        assert response.status == 200
        assert "get_price" not in {tool["name"] for tool in await response.json()}
