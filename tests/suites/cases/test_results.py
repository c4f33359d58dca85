"""Cases of sections 7 and 8: results, retries, deadlines, callers that leave (C055-C062), through the running sidecar."""

import asyncio
import json
import struct
import time
from typing import Any

import pytest

from tests.e2e.rig import Received, Rig, native, reply, tool
from tests.e2e.upstream import Answering, echo
from tests.suites.cases.kit import everything_written, note, says

pytestmark = pytest.mark.asyncio(loop_scope="module")

LIMIT = 6000
FAULTS = ("reset", "502", "503", "504", "timeout", "half")


def prepare(rig: Rig) -> None:
    """Tools with a limit, with a schema, idempotent and not, each fault on an upstream of its own."""
    listing = {
        "type": "object",
        "properties": {"rows": {"type": "array", "items": {"type": "integer"}}},
        "required": ["rows"],
    }
    arguments = {"type": "object", "properties": {"text": {}, "limit": {"type": "integer"}}}
    version = {"version": "1", "arguments_schema": arguments, "result_schema": listing}
    body = {"method": "POST", "path": "/rows", "body": {"text": "text", "limit": "limit"}}
    rig.catalog["tools"] += [
        note("small", result={"max_bytes": LIMIT}),
        tool("rows", "inventory", "read", body, versions=[version], result={"max_bytes": LIMIT}),
        note("slow", timeout="10s"),
        note("quick", timeout="500ms"),
    ]
    for fault in FAULTS:
        for kind, more in (("once", {"retries": 2}), ("again", {"idempotent": True, "retries": 2})):
            name = f"{kind}_{fault}"
            rig.catalog["upstreams"][name] = dict(rig.catalog["upstreams"]["api"])
            request = {"method": "POST", "path": f"/{name}", "body": {"text": "text", "key": "key"}}
            properties = {"text": {}, "key": {"type": "string"}}
            entry = tool(
                name, "suppliers", "write", request, properties=properties, upstream=name, timeout="1s", **more
            )
            rig.catalog["tools"].append(entry)


BIG: dict[str, Any] = {
    "one long text": "x" * 13_000,
    "fifty blocks": [{"type": "text", "text": "y" * 1000}] * 50,
    "rows": {"rows": list(range(5000))},
    "twice the same": {"structured": ["z" * 100] * 100, "text": json.dumps(["z" * 100] * 100)},
    "a deep one": {"a": {"b": {"c": ["w" * 10_000]}}},
}


@pytest.mark.parametrize("kind", BIG)
async def test_c055_the_limit_is_of_the_whole_result(shared: Rig, kind: str) -> None:
    """Wherever the bulk stands: nothing over the limit is passed on, not even in part, and the refusal says how much came and
    how much may. (Shaping to the limit is a later part: C056.)"""
    handle = await shared.register("c055")
    body = json.dumps(BIG[kind]).encode()
    shared.upstream.answer = says(body)
    answer = await shared.send(handle, "small", {"text": kind})
    refusal = answer.body["refusal"]
    assert (answer.code, refusal["ran"]) == ("invalid_result", "yes")
    assert str(len(body)) in refusal["message"]
    assert str(LIMIT) in refusal["message"]
    record = await shared.ended(answer.call_id)
    assert record["refusal"]["details"] == {"size": len(body), "limit": LIMIT}


@pytest.mark.parametrize("size", [LIMIT - 1, LIMIT, LIMIT + 1])
async def test_c056_up_to_the_limit_all_of_it_comes(shared: Rig, size: int) -> None:
    """The whole budget is used for content, to the byte; and the tool that has an argument for it says how to ask for less."""
    handle = await shared.register("c056")
    shared.upstream.answer = says(b'{"rows":[' + b"1," * 9 + b"1]" + b" " * (size - 30) + b"}")
    answer = await shared.send(handle, "rows", {"text": size})
    if size <= LIMIT:
        assert answer.body["result"] == {"rows": [1] * 10}
        assert (await shared.ended(answer.call_id))["result"]["size"] == size
    else:
        assert answer.code == "invalid_result"
        assert "limit" in answer.body["refusal"]["fix"]


NO_ANSWERS: dict[str, Answering] = {
    "a login page": says(b"<html><form action=/login>", media_type="text/html"),
    "a login page said to be JSON": says(b"<html><form action=/login>"),
    "an empty body": says(b""),
    "blank": says(b" \r\n"),
    "null": says(b"null"),
    "a status": says(b'{"status":"success"}'),
    "an envelope": says(b'{"jsonrpc":"2.0","id":7,"result":{"rows":[1]}}'),
    "result and error": says(b'{"result":{"rows":[]},"error":{"code":1}}'),
    "a list": says(b"[1]"),
    "a text of JSON": says(json.dumps('{"rows":[1]}').encode()),
    "two documents": says(b'{"rows":[1]}{"rows":[2]}'),
    "JSON lines": says(b'{"rows":[1]}\n{"rows":[2]}\n'),
    "a callback": says(b'cb({"rows":[1]})', media_type="application/javascript"),
    "guarded JSON": says(b')]}\',\n{"rows":[1]}'),
    "no type": says(b'{"rows":[1]}', media_type=""),
    "an event stream": says(b'data: {"rows":[1]}\n\n', media_type="text/event-stream"),
    "a byte order mark": says(b'\xef\xbb\xbf{"rows":[1]}'),
    "UTF-16": says('{"rows":[1]}'.encode("utf-16")),
}


@pytest.mark.parametrize("kind", NO_ANSWERS)
async def test_c058_a_200_that_is_not_the_answer(shared: Rig, kind: str) -> None:
    """Whatever else comes with status 200: an error that says that the tool ran, at once; the excerpt in the record is short."""
    handle = await shared.register("c058")
    shared.upstream.answer = NO_ANSWERS[kind]
    began = time.monotonic()
    answer = await shared.send(handle, "rows", {"text": kind})
    assert time.monotonic() - began < 10
    assert (answer.code, answer.body["refusal"]["ran"]) == ("invalid_result", "yes")
    assert len(shared.sent(answer.call_id)) == 1
    record = await shared.ended(answer.call_id)
    assert len(record["refusal"]["details"].get("excerpt", "")) <= 500


@pytest.mark.parametrize(
    "media_type", ["text/html", "text/plain", "", "application/javascript", "text/event-stream", "image/png"]
)
async def test_c058_another_media_type_is_not_the_answer(shared: Rig, media_type: str) -> None:
    """Also where no schema would notice: what does not say that it is JSON is not passed on as if it were."""
    handle = await shared.register("c058m")
    shared.upstream.answer = says(b'{"rows":[1]}', media_type=media_type)
    answer = await shared.send(handle, "small", {"text": media_type})
    assert (answer.code, answer.body["refusal"]["ran"]) == ("invalid_result", "yes")


async def test_c058_an_excerpt_is_capped(shared: Rig) -> None:
    """Of a page of 5,000 characters the record keeps the first few hundred, the agent none."""
    handle = await shared.register("c058x")
    shared.upstream.answer = says(b"<html>" + b"q" * 5000, media_type="text/html")
    answer = await shared.send(handle, "rows", {"text": "page"})
    await shared.ended(answer.call_id)
    assert "q" * 500 not in everything_written(shared)
    assert "qqqq" not in json.dumps(answer.body)


def failing(fault: str) -> Answering:
    """An upstream that has executed, and then does this."""

    async def answer(_: Received, writer: asyncio.StreamWriter) -> None:
        if fault.isdigit():
            await reply(writer, b"{}", status=f"{fault} No")
        elif fault == "reset":
            writer.get_extra_info("socket").setsockopt(1, 13, struct.pack("ii", 1, 0))  # SOL_SOCKET, SO_LINGER
            writer.transport.abort()
        elif fault == "half":
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 50\r\n\r\n{")
            await writer.drain()
            writer.close()

    return answer


@pytest.mark.parametrize("fault", FAULTS)
async def test_c059_an_effect_is_delivered_once(shared: Rig, fault: str) -> None:
    """It has executed and the answer is lost, late, or says 5xx: one delivery, and the error says that nobody knows."""
    handle = await shared.register("c059")
    shared.upstream.answer = failing(fault)
    answer = await shared.send(handle, f"once_{fault}", {"text": 1, "key": "k-1"})
    assert answer.body["refusal"]["ran"] == "unknown", answer.body
    assert answer.body["refusal"]["retry"] == "never"
    assert len(shared.sent(answer.call_id)) == 1
    assert json.loads(shared.upstream.received[-1].body)["key"] == "k-1"


@pytest.mark.parametrize("fault", ["reset", "502", "503", "504", "half"])
async def test_c059_a_declared_idempotent_tool_is_repeated_under_one_key(shared: Rig, fault: str) -> None:
    """Up to the declared retries, each with the same key of ours, the same body, and the client's own key untouched in it."""
    handle = await shared.register("c059i")
    shared.upstream.answer = failing(fault)
    answer = await shared.send(handle, f"again_{fault}", {"text": 1, "key": "k-2"})
    sent = shared.sent(answer.call_id)
    assert 1 < len(sent) <= 3
    assert {dict(r.headers)["idempotency-key"] for r in sent} == {answer.call_id}
    assert {r.body for r in sent} == {b'{"text":1,"key":"k-2"}'}
    assert answer.code != ""


async def test_c061_gone_while_the_answer_is_sent(shared: Rig) -> None:
    """The caller closes in the middle of a large answer: one record, done, and nothing is left open. (The other phases:
    tests/e2e/test_caller_gone.py.)"""
    handle = await shared.register("c061")
    shared.upstream.answer = says(json.dumps("x" * 60_000).encode())
    body = native("slow", {"text": 1})
    reader, writer = await asyncio.open_connection("127.0.0.1", shared.ports["agent"], limit=1024)
    head = f"POST /v1/tool-calls HTTP/1.1\r\nhost: 127.0.0.1\r\nx-sidegate-conversation: {handle}\r\n"
    writer.write(f"{head}content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n{body}".encode())
    assert await reader.read(100)
    writer.transport.abort()
    await shared.until_true(lambda: bool(shared.records(kind="terminal", conversation="c061")), "the call ends")
    (record,) = shared.records(kind="terminal", conversation="c061")
    assert (record["outcome"], record["ok"]) == ("done", True)
    assert len(shared.upstream.received) == 1


async def dripping(_: Received, writer: asyncio.StreamWriter) -> None:
    """A whole answer, piece by piece, for more than a second."""
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n")
    for piece in (b"[", *(b"1," for _ in range(12)), b"1]"):
        writer.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
        await writer.drain()
        await asyncio.sleep(0.1)
    writer.write(b"0\r\n\r\n")


async def late(request: Received, writer: asyncio.StreamWriter) -> None:
    """An answer after 1.3 s of silence."""
    await asyncio.sleep(1.3)
    await echo(request, writer)


@pytest.mark.parametrize("answering", [dripping, late])
async def test_c062_the_limit_is_the_tool_s_own(shared: Rig, answering: Answering) -> None:
    """1.3 s of work, dripping or silent: done under a limit of 10 s, ended at half a second under another, in either form; no
    default of a library or of another tool plays a part."""
    handle = await shared.register("c062")
    ended = []

    async def noted(request: Received, writer: asyncio.StreamWriter) -> None:
        try:
            await answering(request, writer)
        finally:
            ended.append(request)

    shared.upstream.answer = noted
    assert (await shared.send(handle, "slow", {"text": 1})).status == 200
    began = time.monotonic()
    answer = await shared.send(handle, "quick", {"text": 1})
    assert 0.45 < time.monotonic() - began < 5
    assert (answer.code, answer.body["refusal"]["ran"]) == ("tool_timeout", "unknown")
    assert "its limit is 0.5 s" in answer.body["refusal"]["message"]
    await shared.until_true(lambda: len(ended) == 2, "the upstream has given up, too")
