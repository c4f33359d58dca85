"""Bodies and requests that nobody should send: a clear error, nothing runs, one record, and the next call works."""

import asyncio
import gzip
import io
import json
import re
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.e2e.rig import Rig, native

LIMIT = 64 << 10
GOOD = native("get_stock").encode()


def prepare(rig: Rig) -> None:
    """A small limit."""
    rig.settings["limits"] = {"body_bytes": LIMIT}


def call(arguments: str) -> bytes:
    """A native call with arguments as they are."""
    return b'{"id":"1","tool":"get_stock","arguments":' + arguments.encode("utf-8", "surrogatepass") + b"}"


BODIES: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "invalid_json"),
    "white space": (b" \n", "invalid_json"),
    "not JSON": (b"hello", "invalid_json"),
    "single quotes": (b"{'id':'1'}", "invalid_json"),
    "a comment": (b"/* */" + GOOD, "invalid_json"),
    "a duplicate key": (b'{"id":"1","tool":"drop_all","tool":"get_stock","arguments":{"sku":"1"}}', "invalid_json"),
    "a duplicate key inside": (call('{"sku":"1","sku":"2"}'), "invalid_json"),
    "a duplicate key by escape": (call('{"sku":"1","\\u0073ku":"2"}'), "invalid_json"),
    "NaN": (call('{"sku":NaN}'), "invalid_json"),
    "Infinity": (call('{"sku":-Infinity}'), "invalid_json"),
    "a number that overflows": (call('{"sku":1e999999}'), "invalid_json"),
    "a byte order mark": (b"\xef\xbb\xbf" + GOOD, "invalid_json"),
    "UTF-16": (GOOD.decode().encode("utf-16"), "invalid_json"),
    "UTF-32": (GOOD.decode().encode("utf-32-le"), "invalid_json"),
    "bad UTF-8": (b'{"id":"\xff","tool":"get_stock","arguments":{}}', "invalid_json"),
    "a lone surrogate": (call('{"sku":"\\ud800"}'), "invalid_json"),
    "a raw surrogate": (call('{"sku":"\ud800"}'), "invalid_json"),
    "a control character": (call('{"sku":"\x01"}'), "invalid_json"),
    "trailing data": (GOOD + b"x", "invalid_json"),
    "two documents": (GOOD + b"\n" + GOOD, "invalid_json"),
    "cut off": (GOOD[:-2], "invalid_json"),
    "deep": (call("[" * 5000 + "]" * 5000), "invalid_json"),
    "null": (b"null", "invalid_call"),
    "a number": (b"17", "invalid_call"),
    "a text": (b'"get_stock"', "invalid_call"),
    "an empty object": (b"{}", "invalid_call"),
    "a list of texts": (b'["get_stock"]', "invalid_call"),
    "no id": (b'{"tool":"get_stock","arguments":{"sku":"1"}}', "invalid_call"),
    "an id of a wrong type": (b'{"id":1,"tool":"get_stock","arguments":{"sku":"1"}}', "invalid_call"),
    "a long tool name": (b'{"id":"1","tool":"' + b"x" * 5000 + b'","arguments":{}}', ""),
}


@pytest.mark.parametrize("bad", BODIES)
async def test_a_bad_body_is_refused_once_and_clearly(shared: Rig, bad: str) -> None:
    """400 or an answer in place, in JSON, with its code and its one record; nothing runs, and the next call works."""
    body, code = BODIES[bad]
    handle = await shared.register(f"body-{list(BODIES).index(bad)}")
    status, headers, answer = await send(shared, handle, body)
    assert status in (400, 404), answer
    assert headers["content-type"].startswith("application/json")
    refusal = (answer[0] if isinstance(answer, list) else answer)["refusal"]
    assert code in ("", refusal["code"])
    assert len(refusal["message"]) > 10
    assert shared.upstream.received == []
    for call_id in headers["x-sidegate-call-id"].split(","):
        assert (await shared.ended(call_id))["outcome"] == "refused"
    assert (await shared.send(handle, "get_stock")).status == 200


HEADERS: dict[str, tuple[dict[str, str], str]] = {
    "gzip": ({"content-encoding": "gzip"}, "invalid_call"),
    "deflate": ({"content-encoding": "deflate"}, "invalid_call"),
    "plain text": ({"content-type": "text/plain"}, "invalid_call"),
    "a form": ({"content-type": "application/x-www-form-urlencoded"}, "invalid_call"),
    "a multipart form": ({"content-type": "multipart/form-data; boundary=x"}, "invalid_call"),
    "no content type": ({"content-type": ""}, "invalid_call"),
    "another charset": ({"content-type": "application/json; charset=utf-16"}, "invalid_call"),
    "an origin": ({"origin": "http://evil.example"}, "invalid_call"),
    "an opaque origin": ({"origin": "null"}, "invalid_call"),
    "a foreign host": ({"host": "evil.example"}, "invalid_call"),
    "a foreign host with our port": ({"host": "evil.example:{port}"}, "invalid_call"),
    "a host that begins like ours": ({"host": "127.0.0.1.evil.example"}, "invalid_call"),
}


@pytest.mark.parametrize("bad", HEADERS)
async def test_a_request_that_is_not_for_us_is_refused(shared: Rig, bad: str) -> None:
    """By its media type, its encoding, or as what a web page could send: refused and recorded, and nothing runs."""
    headers, code = HEADERS[bad]
    headers = {name: value.replace("{port}", str(shared.ports["agent"])) for name, value in headers.items()}
    handle = await shared.register(f"header-{list(HEADERS).index(bad)}")
    body = gzip.compress(GOOD) if bad == "gzip" else GOOD
    status, answered, answer = await send(shared, handle, body, headers)
    assert (status, answer["refusal"]["code"]) == (400, code)
    assert (await shared.ended(answered["x-sidegate-call-id"]))["code"] == code
    assert shared.upstream.received == []
    assert (await shared.send(handle, "get_stock")).status == 200


async def test_a_web_page_reaches_no_route(shared: Rig) -> None:
    """Origin is refused on every route of the agent port and of the review port."""
    handle = await shared.register("page")
    for method, path in (
        ("GET", "/v1/tools"),
        ("GET", "/v1/tool-calls/x"),
        ("POST", "/v1/tool-calls/x/resume"),
        ("POST", "/v1/tool-calls/x/result"),
        ("PUT", "/v1/conversations/page"),
        ("POST", "/v1/conversations/page/requests"),
        ("POST", f"/c/{handle}/v1/tool-calls"),
    ):
        headers = {"origin": "http://evil.example", "x-sidegate-conversation": handle}
        async with shared.session.request(method, shared.url("agent") + path, headers=headers, json={}) as response:
            assert (response.status, (await response.json())["refusal"]["code"]) == (400, "invalid_call"), path
    headers = {"origin": "http://evil.example", "authorization": f"Bearer {shared.reviewers['rob']}"}
    async with shared.session.get(shared.url("review") + "/v1/reviews", headers=headers) as response:
        assert response.status == 400


def padded(size: int) -> bytes:
    """A good body of exactly this size."""
    return GOOD + b" " * (size - len(GOOD))


async def pieces(body: bytes) -> AsyncIterator[bytes]:
    """Without a length."""
    for begin in range(0, len(body), 10_000):
        yield body[begin : begin + 10_000]


@pytest.mark.parametrize("chunked", [False, True], ids=["with a length", "chunked"])
@pytest.mark.parametrize(("size", "status"), [(LIMIT - 1, 200), (LIMIT, 200), (LIMIT + 1, 413), (50 * LIMIT, 413)])
async def test_the_limit_of_bodies(shared: Rig, size: int, status: int, *, chunked: bool) -> None:
    """Up to the limit they pass; over it 413 names the setting."""
    handle = await shared.register(f"size-{size}-{chunked}")
    body = padded(size)
    got, headers, answer = await send(shared, handle, pieces(body) if chunked else io.BytesIO(body))
    assert got == status
    if status == 413:
        assert answer["refusal"]["code"] == "too_large"
        assert "limits.body_bytes" in answer["refusal"]["fix"]
        assert (await shared.ended(headers["x-sidegate-call-id"]))["code"] == "too_large"
        assert shared.upstream.received == []
    assert (await shared.send(handle, "get_stock")).status == 200


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


@pytest.mark.parametrize("rest", [b"", b"zz\r\n" + GOOD + b"\r\n0\r\n\r\n"], ids=["stalled", "broken"])
async def test_a_body_that_ends_in_the_middle_is_a_refusal_in_bounded_time(shared: Rig, rest: bytes) -> None:
    """The handler is reading already when nothing more comes, or when the framing breaks: nothing runs, one record."""
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
    assert shared.upstream.received == []
    assert (await shared.send(handle, "get_stock")).status == 200


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


async def test_unknown_routes_and_methods_are_json_too(shared: Rig) -> None:
    """404 and 405 on all ports that speak JSON."""
    for port, method, path, status in (
        ("agent", "GET", "/", 404),
        ("agent", "GET", "/v1/tool-calls", 405),
        ("agent", "DELETE", "/v1/conversations/x", 405),
        ("agent", "GET", "/v1/reviews", 404),
        ("review", "POST", "/v1/tool-calls", 404),
        ("review", "PUT", "/v1/reviews", 405),
    ):
        async with shared.session.request(method, shared.url(port) + path) as response:
            assert (response.status, (await response.json())["refusal"]["code"]) == (status, "invalid_call")
            assert response.headers["server"] == "sidegate"


async def send(
    rig: Rig, handle: str, body: Any, headers: dict[str, str] | None = None
) -> tuple[int, dict[str, str], Any]:
    """A request with these bytes: status, headers, body."""
    given = {"content-type": "application/json", "x-sidegate-conversation": handle, **(headers or {})}
    skipped = () if given["content-type"] else ("content-type",)
    given = {name: value for name, value in given.items() if value}
    async with rig.session.post(
        rig.url("agent") + "/v1/tool-calls", data=body, headers=given, skip_auto_headers=skipped
    ) as response:
        lower = {name.lower(): value for name, value in response.headers.items()}
        return response.status, lower, await response.json(content_type=None)
