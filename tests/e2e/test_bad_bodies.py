"""Bodies and requests that nobody should send: a clear error, nothing runs, one record, and the next call works."""

import asyncio
import gzip
import io
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
            assert response.status == 400, path
            assert "web pages" in (await response.json())["refusal"]["message"], path
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


async def test_a_flood_of_bad_bodies_is_answered_one_by_one_and_recorded_in_sum(shared: Rig) -> None:
    """300 of them: every one has its code, few have a record of their own, and the counts of the others add up."""
    handle = await shared.register("flood")
    before = len(shared.records(kind="terminal", code="invalid_json"))
    answers = [await asyncio.gather(*(send(shared, handle, b"{") for _ in range(100))) for _ in range(3)]
    assert {answer["refusal"]["code"] for batch in answers for _, _, answer in batch} == {"invalid_json"}

    def recorded() -> tuple[int, int]:
        records = shared.records(kind="terminal", code="invalid_json")[before:]
        summed = [record["coalesced"]["invalid_json"] for record in records if "coalesced" in record]
        return len(records), len(records) - len(summed) + sum(summed)

    await shared.until_true(lambda: recorded()[1] == 300, "all are accounted for")
    assert recorded()[0] < 250
    assert (await shared.send(handle, "get_stock")).status == 200


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
