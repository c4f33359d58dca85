"""What is not HTTP, or not for ever: at most one clear error, nothing runs, nothing behind it is a request (RFC 9112)."""

import asyncio
import json
import re

import pytest

from tests.e2e.rig import Rig, native

GOOD = native("get_stock").encode()


def prepare(rig: Rig) -> None:
    """A small limit."""
    rig.settings["limits"] = {"body_bytes": 64 << 10}


@pytest.mark.parametrize("chunked", [False, True], ids=["with a length", "chunked"])
async def test_reading_stops_over_the_limit(shared: Rig, *, chunked: bool) -> None:
    """An endless body: the answer comes at once, and soon after it the connection is closed while the sender still sends."""
    handle = await shared.register(f"endless-{chunked}")
    reader, writer = await asyncio.open_connection("127.0.0.1", shared.ports["agent"])
    writer.write(head(handle, "transfer-encoding: chunked" if chunked else f"content-length: {1 << 40}"))
    piece = b"10000\r\n" + b" " * 65536 + b"\r\n" if chunked else b" " * 65536

    async def send_for_ever() -> None:
        while True:
            writer.write(piece)
            await writer.drain()

    sending = asyncio.create_task(send_for_ever())
    assert (await asyncio.wait_for(reader.readline(), 5)).startswith(b"HTTP/1.1 413")
    async with asyncio.timeout(5):
        await asyncio.wait([sending])
    assert isinstance(sending.exception(), ConnectionError)
    writer.close()
    assert (await shared.send(handle, "get_stock")).status == 200


def head(handle: str, *lines: str, target: str = "/v1/tool-calls") -> bytes:
    """The head of a request by hand."""
    fixed = ("host: 127.0.0.1", "content-type: application/json", f"x-sidegate-conversation: {handle}")
    return "\r\n".join([f"POST {target} HTTP/1.1", *fixed, *lines, "", ""]).encode()


def length(body: bytes) -> str:
    return f"content-length: {len(body)}"


SMUGGLED = b"POST /v1/tool-calls HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: 5\r\n\r\nhello"
BROKEN: dict[str, tuple[tuple[str, ...], bytes]] = {
    "length and chunked": ((length(GOOD), "transfer-encoding: chunked"), b"0\r\n\r\n" + SMUGGLED),
    "chunked and length": (("transfer-encoding: chunked", length(GOOD)), b"0\r\n\r\n" + SMUGGLED),
    "two lengths": ((length(GOOD), "content-length: 1"), GOOD),
    "two equal lengths": ((length(GOOD), length(GOOD)), GOOD),
    "a list of lengths": ((f"content-length: {len(GOOD)}, {len(GOOD)}",), GOOD),
    "a negative length": (("content-length: -1",), GOOD),
    "a signed length": ((f"content-length: +{len(GOOD)}",), GOOD),
    "a length in hex": ((f"content-length: {len(GOOD):#x}",), GOOD),
    "an unknown transfer coding": (("transfer-encoding: xchunked",), GOOD),
    "chunked twice": (("transfer-encoding: chunked, chunked",), b"%x\r\n%s\r\n0\r\n\r\n" % (len(GOOD), GOOD)),
    "chunked before identity": (("transfer-encoding: chunked, identity",), GOOD),
    "a bad chunk size": (("transfer-encoding: chunked",), b"zz\r\n" + GOOD + b"\r\n0\r\n\r\n"),
    "a negative chunk size": (("transfer-encoding: chunked",), b"-1\r\n" + GOOD + b"\r\n0\r\n\r\n"),
    "a chunk longer than said": (("transfer-encoding: chunked",), b"1\r\n" + GOOD + b"\r\n0\r\n\r\n"),
    "a white space before the colon": (("content-length : 5",), b"hello"),
    "a folded header": (("x-a: b\r\n c: d", length(GOOD)), GOOD),
    "a NUL in a header": (("x-a: b\0c", length(GOOD)), GOOD),
    "a huge header": (("x-a: " + "b" * (64 << 10), length(GOOD)), GOOD),
}


@pytest.mark.parametrize("broken", BROKEN)
async def test_broken_http_runs_nothing(shared: Rig, broken: str) -> None:
    """At most one error comes back, of no library's making, and the connection is closed: nothing behind it is a request."""
    lines, body = BROKEN[broken]
    handle = await shared.register(f"broken-{list(BROKEN).index(broken)}")
    calls = len(shared.records(kind="terminal"))
    answer = await shared.raw(head(handle, *lines) + body)
    assert answer.count(b"HTTP/1.") <= 1, answer
    assert answer == b"" or answer.startswith((b"HTTP/1.1 400", b"HTTP/1.0 400", b"HTTP/1.1 431")), answer
    assert shared.upstream.received == []
    for word in (b"aiohttp", b"Python", b"Traceback", b"<html", b"Server.py"):
        assert word not in answer, answer
    if answer:
        assert json.loads(answer.partition(b"\r\n\r\n")[2])["refusal"]["code"] in ("invalid_call", "invalid_json")
    assert len(shared.records(kind="terminal")) - calls <= 1
    assert (await shared.send(handle, "get_stock")).status == 200


@pytest.mark.slow
async def test_a_body_that_ends_in_the_middle_is_a_refusal_in_bounded_time(shared: Rig) -> None:
    """The handler is reading already when nothing more comes, or when the framing breaks: nothing runs, one record each."""
    await asyncio.gather(*(cut_short(shared, rest) for rest in (b"", b"zz\r\n" + GOOD + b"\r\n0\r\n\r\n")))
    assert shared.upstream.received == []
    assert (await shared.send(await shared.register("stalled"), "get_stock")).status == 200


async def cut_short(shared: Rig, rest: bytes) -> None:
    """A body whose reading has begun, and which goes on with this."""
    handle = await shared.register(f"stalled-{len(rest)}")
    reader, writer = await asyncio.open_connection("127.0.0.1", shared.ports["agent"])
    writer.write(head(handle, "transfer-encoding: chunked", "expect: 100-continue"))
    assert (await asyncio.wait_for(reader.readline(), 5)).startswith(b"HTTP/1.1 100")  # it is being read now
    writer.write(rest)
    answer = await asyncio.wait_for(reader.read(), 10)
    writer.close()
    assert re.findall(rb"HTTP/1\.[01] (\d+)", answer)[0] == b"400", answer
    (call_id,) = re.findall(rb"x-sidegate-call-id: (\w+)", answer)
    assert (await shared.ended(call_id.decode()))["code"] == "invalid_call"


async def test_pipelined_requests_are_answered_in_order(shared: Rig) -> None:
    """Three on one connection in one write, the second of them bad: three answers, two executions."""
    handle = await shared.register("pipelined")
    bodies = [native("get_stock", {"sku": "1"}).encode(), b"{", native("get_stock", {"sku": "3"}).encode()]
    requests = [head(handle, length(body)) + body for body in bodies[:2]]
    requests.append(head(handle, length(bodies[2]), "connection: close") + bodies[2])
    answer = await shared.raw(b"".join(requests))
    statuses = re.findall(rb"HTTP/1\.1 (\d+)", answer)
    assert statuses == [b"200", b"400", b"200"]
    assert [request.target for request in shared.upstream.received] == ["/stock/1", "/stock/3"]


async def test_a_body_that_never_comes_whole_is_no_call(shared: Rig) -> None:
    """Hanging up inside the body: nothing runs and nothing is left under way."""
    handle = await shared.register("half")
    _, writer = await asyncio.open_connection("127.0.0.1", shared.ports["agent"])
    writer.write(head(handle, "content-length: 1000") + GOOD)
    await writer.drain()
    writer.close()
    await shared.sound()
    assert shared.upstream.received == []
