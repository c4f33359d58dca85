"""An upstream that misbehaves by byte and by time: the code, whether it ran, one delivery, and a message without its inner life."""

import asyncio
import base64
import json
import re
import socket
import struct
import time
from typing import Any

import pytest

from tests.e2e.rig import CREDENTIAL, Received, Rig, reply, tool
from tests.e2e.upstream import Answering

LIMIT = (
    0.6  # seconds, the timeout of tools whose upstream never comes to an end; the others have time on a busy machine
)
PATIENCE = 10.0
INNER_LIFE = re.compile(
    r"127\.0\.0\.1|localhost|:\d{4,5}|aiohttp|asyncio|Errno|Error|Exception|Traceback|http://", re.ASCII
)


def prepare(rig: Rig) -> None:
    """Tools each on an upstream of its own: a breaker of one must not hide the fault of another."""
    for number, fault in enumerate([*FAULTS, "refusing"]):
        name = f"t{number}"
        rig.catalog["upstreams"][name] = {
            "http": {"base_url": f"http://127.0.0.1:{'1' if fault == 'refusing' else '{upstream}'}"},
            "credential": "api",
            "owner": "platform-team",
        }
        rig.catalog["tools"].append(
            tool(
                name,
                "suppliers",
                "write",
                {"method": "POST", "path": "/t", "body": {"sku": "sku"}},
                upstream=name,
                timeout=f"{limit_of(fault)}s",
                result={"max_bytes": 1000, "failure_when": {"path": "ok", "equals": False}},
            )
        )


def limit_of(fault: str) -> float:
    """Seconds."""
    return LIMIT if FAULTS.get(fault, ("", ""))[1] == "tool_timeout" else PATIENCE


def says(body: bytes, **how: Any) -> Answering:
    """A whole answer."""

    async def answer(_: Received, writer: asyncio.StreamWriter) -> None:
        await reply(writer, body, **how)

    return answer


def raw(data: bytes, *, close: bool) -> Answering:
    """Bytes as they are."""

    async def answer(_: Received, writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        await writer.drain()
        if close:
            writer.close()

    return answer


async def reset(_: Received, writer: asyncio.StreamWriter) -> None:
    """RST after the request has arrived."""
    sock: socket.socket = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def slowly(_: Received, writer: asyncio.StreamWriter) -> None:
    """A byte now and then, for longer than the limit."""
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 1000\r\n\r\n")
    for _drop in range(40):
        writer.write(b"1")
        await writer.drain()
        await asyncio.sleep(LIMIT / 20)


HALF = b'HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{"half"'
ENDLESS = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n" + b"[" + b"1," * (5 << 20)
REDIRECT = b"HTTP/1.1 307 Go\r\nlocation: http://127.0.0.1:1/x\r\ncontent-length: 0\r\n\r\n"
ENCODED = base64.b64encode(b"x" + CREDENTIAL.encode()).decode()
FAULTS: dict[str, tuple[Answering, str, str]] = {
    "resetting": (reset, "outcome_unknown", "unknown"),
    "closing without an answer": (raw(b"", close=True), "outcome_unknown", "unknown"),
    "hanging": (raw(b"", close=False), "tool_timeout", "unknown"),
    "hanging inside the head": (raw(b"HTTP/1.1 200 OK\r\n", close=False), "tool_timeout", "unknown"),
    "hanging inside the body": (raw(HALF, close=False), "tool_timeout", "unknown"),
    "dripping": (slowly, "tool_timeout", "unknown"),
    "half an answer": (raw(HALF, close=True), "outcome_unknown", "unknown"),
    "not HTTP": (raw(b"hello\r\n\r\n", close=True), "outcome_unknown", "unknown"),
    "over its limit": (says(b'"' + b"x" * 2000 + b'"'), "invalid_result", "yes"),
    "endless": (raw(ENDLESS, close=True), "invalid_result", "yes"),
    "HTML": (says(b"<html>", media_type="text/html"), "invalid_result", "yes"),
    "no JSON": (says(b"{'a': 1}"), "invalid_result", "yes"),
    "duplicate keys": (says(b'{"ok":true,"ok":false}'), "invalid_result", "yes"),
    "an empty body": (says(b""), "invalid_result", "yes"),
    "failing inside a 200": (says(b'{"ok":false,"why":"secret"}'), "tool_failed", "yes"),
    "500": (says(b"at Server.java:17", status="500 No"), "tool_failed", "unknown"),
    "503": (says(b"{}", status="503 No"), "tool_failed", "unknown"),
    "401": (says(b"{}", status="401 No"), "tool_failed", "yes"),
    "404": (says(b"{}", status="404 No"), "tool_failed", "yes"),
    "redirect": (raw(REDIRECT, close=False), "tool_failed", "yes"),
    "echoing the credential": (says(json.dumps({"k": CREDENTIAL}).encode()), "result_withheld", "yes"),
    "echoing it encoded": (says(json.dumps([ENCODED]).encode()), "result_withheld", "yes"),
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_fault_of_the_upstream_is_told_apart_and_delivered_once(shared: Rig, fault: str) -> None:
    """Code and `ran` are true, the request arrived exactly once, in bounded time, and nothing inner is told."""
    answering, code, ran = FAULTS[fault]
    name = f"t{list(FAULTS).index(fault)}"
    handle = await shared.register(f"fault-{name}")
    shared.upstream.answer = answering
    began = time.monotonic()
    answer = await shared.send(handle, name)
    assert time.monotonic() - began < LIMIT + 2
    refusal = answer.body["refusal"]
    assert (answer.code, refusal["ran"]) == (code, ran), refusal
    record = await shared.ended(answer.call_id)
    assert (record["code"], record["ran"]) == (code, ran)
    assert len(shared.sent(answer.call_id)) == 1
    told = f"{refusal['message']} {refusal.get('fix', '')}"
    assert name in told
    assert INNER_LIFE.search(told) is None, told
    assert CREDENTIAL not in json.dumps(answer.body) + json.dumps(record)
    shared.upstream.answer = None
    assert (await shared.send(handle, "get_stock")).status == 200


async def test_an_upstream_that_refuses_connections_ran_nothing(shared: Rig) -> None:
    """Connection refused: the one fault after which it is certain that nothing ran."""
    name = f"t{len(FAULTS)}"
    handle = await shared.register("refusing")
    answer = await shared.send(handle, name)
    refusal = answer.body["refusal"]
    assert (answer.status, answer.code, refusal["ran"], refusal["retry"]) == (502, "tool_unreachable", "no", "later")
    assert INNER_LIFE.search(refusal["message"]) is None
    assert (await shared.ended(answer.call_id))["outcome"] == "refused"


async def test_a_kept_connection_that_died_is_not_a_second_delivery(shared: Rig) -> None:
    """The upstream closes a kept connection between two calls: each of many calls arrives at most once."""

    async def once(request: Received, writer: asyncio.StreamWriter) -> None:
        await reply(writer, b"{}")
        await writer.drain()
        writer.close()

    handle = await shared.register("kept")
    shared.upstream.answer = once
    for number in range(20):
        answer = await shared.send(handle, "create_order", {"sku": f"S{number}", "quantity": 1})
        assert len(shared.sent(answer.call_id)) <= 1
        if answer.status != 200:
            assert answer.code in {"outcome_unknown", "tool_unreachable"}
