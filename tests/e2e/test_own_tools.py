"""Tools that the agent runs itself: decided and recorded here, reported back under a handle that works once (design section 6)."""

import asyncio
import json
import signal
from typing import Any

import pytest

from tests.e2e.rig import Reply, Rig

LIMIT = 1.0  # seconds, the timeout of `hasty`


def prepare(rig: Rig) -> None:
    """One tool with time, one without, both run by the agent."""
    (convert,) = [t for t in rig.catalog["tools"] if t["name"] == "convert"]
    convert["timeout"] = "20s"
    result = {"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"]}
    versions = [
        {"version": "1", "arguments_schema": convert["versions"][0]["arguments_schema"], "result_schema": result}
    ]
    more = {"result": {"failure_when": {"path": "ok", "equals": False}}, "versions": versions}
    rig.catalog["tools"].append({**convert, "name": "checked", **more})
    rig.catalog["tools"].append({**convert, "name": "hasty", "timeout": f"{LIMIT}s"})


async def handed(rig: Rig, conversation: str, name: str = "convert") -> tuple[Reply, str]:
    """A call handed over to the agent: the pending answer, and its handle."""
    answer = await rig.send(await rig.register(conversation), name)
    assert (answer.status, answer.body["status"]) == (200, "pending"), answer
    return answer, str(answer.body["allowed"]["result_handle"])


async def report(rig: Rig, call_id: str, body: Any) -> tuple[int, Any]:
    """The agent's report."""
    return await rig.post(f"/v1/tool-calls/{call_id}/result", json.dumps(body))


async def test_a_reported_result_is_the_call_s_result_once(shared: Rig) -> None:
    """Intent before the hand-over, one terminal after the report, and a second report is refused."""
    answer, handle = await handed(shared, "once")
    assert shared.records(kind="intent", call=answer.call_id)
    assert shared.records(kind="terminal", call=answer.call_id) == []
    status, body = await report(shared, answer.call_id, {"handle": handle, "result": {"n": 1}})
    assert (status, body["status"], body["result"]) == (200, "done", {"n": 1})
    assert (await shared.ended(answer.call_id))["outcome"] == "done"
    status, body = await report(shared, answer.call_id, {"handle": handle, "result": {"n": 2}})
    assert (status, body["refusal"]["code"]) == (404, "unknown_call")
    assert (await shared.ended(answer.call_id))["result"]["size"] == len('{"n":1}')


async def test_of_many_reports_at_once_one_counts(shared: Rig) -> None:
    """Twenty reports: one is the result; the others are refused."""
    answer, handle = await handed(shared, "many")
    answers = await asyncio.gather(
        *(report(shared, answer.call_id, {"handle": handle, "result": n}) for n in range(20))
    )
    assert sorted(status for status, _ in answers) == [200, *[404] * 19]


@pytest.mark.parametrize(
    "body",
    [
        {"handle": "x" * 43, "result": 1},
        {"handle": "", "result": 1},
        {"handle": 1, "result": 1},
        {"result": 1},
        {"handle": "{handle}"},
        {"handle": "{handle}", "result": 1, "status": "done"},
        [],
    ],
    ids=str,
)
async def test_a_report_that_is_none_is_refused_and_the_call_goes_on(shared: Rig, body: Any) -> None:
    """A wrong handle, none, or another shape: refused, and the right report still counts."""
    answer, handle = await handed(shared, f"wrong-{abs(hash(str(body))) % 10**6}")
    body = json.loads(json.dumps(body).replace("{handle}", handle))
    status, refused = await report(shared, answer.call_id, body)
    assert (status, refused["refusal"]["code"]) in ((404, "unknown_call"), (400, "invalid_call"))
    assert (await report(shared, answer.call_id, {"handle": handle, "result": 1}))[0] == 200


async def test_a_handle_is_of_one_call(shared: Rig) -> None:
    """Another call's handle does nothing."""
    one, handle = await handed(shared, "one")
    other, other_handle = await handed(shared, "other")
    assert (await report(shared, one.call_id, {"handle": other_handle, "result": 1}))[0] == 404
    assert (await report(shared, "unknown", {"handle": handle, "result": 1}))[0] == 404
    assert (await report(shared, one.call_id, {"handle": handle, "result": 1}))[0] == 200
    assert (await report(shared, other.call_id, {"handle": other_handle, "result": 1}))[0] == 200


async def test_no_report_in_time_is_an_unknown_outcome(shared: Rig) -> None:
    """The record says that nobody knows; a late report is refused."""
    answer, handle = await handed(shared, "late", "hasty")
    record = await shared.ended(answer.call_id)
    assert (record["outcome"], record["code"], record["ran"]) == ("unknown", "outcome_unknown", "unknown")
    status, body = await report(shared, answer.call_id, {"handle": handle, "result": 1})
    assert (status, body["refusal"]["code"]) == (404, "unknown_call")


async def test_a_report_takes_the_path_of_every_result(shared: Rig) -> None:
    """Declared failure and result schema hold for what the agent reports, too."""
    for reported, code in (({"ok": False}, "tool_failed"), ({"ok": "yes"}, "invalid_result"), ({}, "invalid_result")):
        answer, handle = await handed(shared, f"checked-{len(shared.records())}", "checked")
        status, body = await report(shared, answer.call_id, {"handle": handle, "result": reported})
        assert (status, body["refusal"]["code"]) == (502, code)
        assert (await shared.ended(answer.call_id))["code"] == code


async def test_a_refused_call_hands_nothing_over(shared: Rig) -> None:
    """Denied and invalid calls of the kind have no handle."""
    await shared.review("POST", "/v1/stops", {"scope": "tool", "name": "convert"})
    answer = await shared.send(await shared.register("stopped"), "convert")
    await shared.review("DELETE", "/v1/stops", {"scope": "tool", "name": "convert"})
    assert (answer.status, answer.code) == (403, "stopped")
    assert "allowed" not in answer.body
    assert shared.records(kind="intent", call=answer.call_id) == []


async def test_a_hand_over_beside_other_calls(shared: Rig) -> None:
    """In a list the siblings do not wait for the agent's report."""
    calls = [{"id": n, "tool": n, "arguments": {"sku": "1"}} for n in ("convert", "get_stock")]
    status, answers = await shared.post("/v1/tool-calls", json.dumps(calls), await shared.register("beside"))
    assert status == 200
    assert [answer["status"] for answer in answers] == ["pending", "done"]
    call_id = shared.records(kind="intent", conversation="beside", tool="convert")[0]["call"]
    assert (await report(shared, call_id, {"handle": answers[0]["allowed"]["result_handle"], "result": 1}))[0] == 200


async def test_what_was_handed_over_when_the_sidecar_died_is_unknown(prepared: Rig) -> None:
    """After kill -9: outcome unknown, recovered, and the old handle is worth nothing."""
    await prepared.start()
    answer, handle = await handed(prepared, "c1")
    await prepared.stop(signal.SIGKILL)
    await prepared.start()
    record = await prepared.ended(answer.call_id)
    assert (record["outcome"], record["recovered"]) == ("unknown", True)
    assert (await report(prepared, answer.call_id, {"handle": handle, "result": 1}))[0] == 404
    await prepared.sound()
