"""HttpUpstreams: which answers are believed, and how much of them."""

import asyncio
import base64
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from proxy.core.tool import ResultRule
from proxy.errors import Code, Ran
from tests.adapters.byte_server import answer, drip, flood, raw, serving
from tests.adapters.http_bench import GET, HttpBench, http_bench
from tests.contracts.executor import SECRET


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[HttpBench]:
    async with http_bench(tmp_path) as bench:
        yield bench


@pytest.mark.parametrize("status", [b"301 Moved", b"302 Found", b"303 See", b"307 Again", b"308 Moved", b"304 Same"])
async def test_a_redirect_is_not_followed(bench: HttpBench, status: bytes) -> None:
    async with serving() as other:
        location = f"Location: http://127.0.0.1:{other.port}/steal".encode()
        bench.server.script = [answer(b"", status, headers=(location,))]
        refusal = await bench.refusal(bench.make(GET, idempotent=True, retries=2))
        assert (refusal.code, other.connections, bench.deliveries) == (Code.TOOL_FAILED, 0, 1)
        assert "redirect, which is not followed" in refusal.message


async def test_switching_protocols_is_no_answer(bench: HttpBench) -> None:
    bench.server.script = [raw(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n")]
    assert (await bench.refusal(bench.tool(timeout=2.0))).code is Code.TOOL_FAILED


@pytest.mark.parametrize("coding", [b"Content-Encoding: gzip", b"Content-Encoding: identity, br"])
async def test_a_compressed_answer_is_refused_unread(bench: HttpBench, coding: bytes) -> None:
    bench.server.script = [answer(b"\x1f\x8b", headers=(coding,))]
    refusal = await bench.refusal(bench.tool())
    assert (refusal.code, refusal.ran) == (Code.INVALID_RESULT, Ran.YES)
    assert "compressed" in refusal.message


async def test_an_identity_encoding_is_none(bench: HttpBench) -> None:
    bench.server.script = [answer(b"[]", headers=(b"Content-Encoding: identity",))]
    assert (await bench.call(bench.tool())).body == b"[]"


HUGE = b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n"
ENDLESS = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(("head", "piece"), [(HUGE, b"x" * 65536), (ENDLESS, b"10000\r\n" + b"x" * 65536 + b"\r\n")])
async def test_a_huge_answer_is_not_read_to_its_end(bench: HttpBench, head: bytes, piece: bytes) -> None:
    bench.server.script = [flood(head, piece)]
    refusal = await bench.refusal(bench.make(GET, result=ResultRule(max_bytes=1000)))
    assert (refusal.code, refusal.ran) == (Code.INVALID_RESULT, Ran.YES)
    assert "more than 1049576 bytes" in refusal.message
    await asyncio.wait_for(bench.server.closed.wait(), 5)


async def test_no_tool_may_declare_more_than_what_is_ever_read(bench: HttpBench) -> None:
    bench.server.script = [raw(b"HTTP/1.1 200 OK\r\nContent-Length: 8388609\r\n\r\n")]
    refusal = await bench.refusal(bench.make(GET, result=ResultRule(max_bytes=1 << 40)))
    assert refusal.code is Code.INVALID_RESULT
    assert "more than 8388608 bytes" in refusal.message


async def test_an_answer_just_within_what_is_read_passes(bench: HttpBench) -> None:
    bench.server.script = [answer(b"x" * 1049576)]
    response = await bench.call(bench.make(GET, result=ResultRule(max_bytes=1000)))
    assert len(response.body) == 1049576


async def test_a_slow_drip_ends_at_the_total_deadline(bench: HttpBench) -> None:
    bench.server.script = [drip(b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n" + b"x" * 500, 0.01)]
    refusal = await bench.refusal(bench.tool(timeout=0.3))
    assert (refusal.code, refusal.ran) == (Code.TOOL_TIMEOUT, Ran.UNKNOWN)


GARBAGE = [
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nhello\r\n0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel",
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 4\r\n\r\n{}{}",
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n{}",
    b"SSH-2.0-OpenSSH_9.6\r\n",
    b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000 + b"\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Le",
]


@pytest.mark.parametrize("data", GARBAGE)
async def test_an_answer_that_is_not_http_has_an_unknown_outcome(bench: HttpBench, data: bytes) -> None:
    bench.server.script = [raw(data, then="close")]
    refusal = await bench.refusal(bench.tool(timeout=2.0))
    assert (refusal.code, refusal.ran, bench.deliveries) == (Code.OUTCOME_UNKNOWN, Ran.UNKNOWN, 1)


async def test_several_content_types_are_refused(bench: HttpBench) -> None:
    bench.server.script = [answer(b"{}", headers=(b"Content-Type: application/json", b"Content-Type: text/html"))]
    assert (await bench.refusal(bench.tool())).code in {Code.INVALID_RESULT, Code.OUTCOME_UNKNOWN}


async def test_of_the_answers_headers_only_the_media_type_is_kept(bench: HttpBench) -> None:
    bench.server.script = [answer(b"hi", headers=(b"Content-Type: Text/Plain; charset=utf-8", b"X-A: 1", b"X-A: 2"))]
    response = await bench.call(bench.tool())
    assert (response.media_type, response.body) == ("text/plain", b"hi")


ENCODED = [
    SECRET.encode(),
    base64.b64encode(SECRET.encode()),
    base64.urlsafe_b64encode(b"ab" + SECRET.encode()),
    SECRET.replace("/", "%2F").replace("+", "%2B").encode(),
    SECRET.replace("/", "%2f").replace("+", "%2b").encode(),
    SECRET.replace("/", "\\/").encode(),
    SECRET.encode().hex().encode(),
]


@pytest.mark.parametrize("form", ENCODED)
@pytest.mark.parametrize("status", [b"200 OK", b"500 Oops"])
async def test_the_credential_is_found_in_its_usual_encodings(bench: HttpBench, form: bytes, status: bytes) -> None:
    bench.server.script = [answer(b'{"debug":"...' + form + b'..."}', status)]
    assert (await bench.refusal(bench.tool())).code is Code.RESULT_WITHHELD


async def test_the_credential_is_found_in_the_media_type(bench: HttpBench) -> None:
    bench.server.script = [answer(b"{}", headers=(f"Content-Type: text/{SECRET}".encode(),))]
    assert (await bench.refusal(bench.tool())).code is Code.RESULT_WITHHELD
