"""HttpUpstreams against servers that misbehave by byte and time."""

import asyncio
import base64
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from proxy.adapters.credentials import Credentials
from proxy.adapters.http_exchange import HttpExchange
from proxy.adapters.http_upstream import HttpUpstreams
from proxy.core.tool import RequestTemplate, ResultRule, Tool, Upstream
from proxy.errors import Code, Ran
from proxy.ports import Executor
from tests.adapters.byte_server import ByteServer, answer, drip, flood, free_port, hang, raw, serving
from tests.contracts.executor import (
    CALL_ID,
    SECRET,
    TRACE,
    Bench,
    ExecutorContract,
    SteppedClock,
    http_tool,
    permit,
)

WAYS = {
    "answer": answer(b'{"ok":true}'),
    "hang": hang(),
    "reset": raw(b"", then="reset"),
    "half": raw(b'HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n{"half":', then="close"),
    "echo": answer(f'{{"you sent":"Bearer {SECRET}"}}'.encode()),
}
POST = RequestTemplate(method="POST", path="/orders", body={"n": "n"})
GET = RequestTemplate(method="GET", path="/orders")


class HttpBench(Bench):
    """An HTTP upstream on loopback."""

    def __init__(self, server: ByteServer, credentials: Credentials, clock: SteppedClock) -> None:
        self.server = server
        self.clock = clock
        self.exchange = HttpExchange(clock)
        self.executor: Executor = HttpUpstreams(self.exchange, credentials, clock, lambda: 0.0)
        self.url = server.url

    @property
    def deliveries(self) -> int:  # type: ignore[override] # counted by the server
        """Whole requests that arrived."""
        return len(self.server.received)

    def tool(self, *, timeout: float = 5.0, idempotent: bool = False, retries: int = 0) -> Tool:
        """A POST."""
        return self.make(POST, timeout=timeout, idempotent=idempotent, retries=retries)

    def make(self, request: RequestTemplate, **fields: object) -> Tool:
        """A tool with this request."""
        upstream = Upstream(name="orders", kind="http", url=self.url, credential="key", owner="orders-team")
        return http_tool(upstream, request, **fields)

    async def behave(self, *ways: str) -> None:
        """Set the script."""
        self.url = f"http://127.0.0.1:{free_port()}/v2" if ways == ("refuse",) else self.server.url
        self.server.script = [WAYS[way] for way in ways if way != "refuse"]


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[HttpBench]:
    file = tmp_path / "key"
    file.write_text(SECRET + "\n")
    file.chmod(0o600)
    clock = SteppedClock()
    credentials = Credentials({"key": {"bearer_file": str(file)}}, {}, clock, pytest.fail)
    async with serving() as server:
        bench = HttpBench(server, credentials, clock)
        yield bench
        await bench.exchange.close()


class TestContract(ExecutorContract):
    """The port's promises."""


async def test_a_request_carries_the_credential_the_trace_and_nothing_that_was_not_asked_for(bench: HttpBench) -> None:
    await bench.executor.execute(permit(bench.tool(idempotent=True), b'{"n": 1.10}'), TRACE)
    [request] = bench.server.received
    assert (request.method, request.target, request.body) == (b"POST", b"/v2/orders", b'{"n":1.10}')
    assert dict(request.headers) == {
        "host": f"127.0.0.1:{bench.server.port}".encode(),
        "user-agent": b"sidegate/0.1",
        "accept-encoding": b"identity",
        "accept": b"application/json",
        "content-type": b"application/json",
        "content-length": b"10",
        "authorization": f"Bearer {SECRET}".encode(),
        "traceparent": TRACE.traceparent.encode(),
        "tracestate": b"vendor=1",
        "idempotency-key": CALL_ID.encode(),
    }
    assert len(request.headers) == 10


@pytest.mark.parametrize(("template", "idempotent"), [(POST, False), (GET, True)])
async def test_an_idempotency_key_goes_only_with_writes_that_are_idempotent(
    bench: HttpBench, template: RequestTemplate, idempotent: bool
) -> None:
    await bench.call(bench.make(template, idempotent=idempotent))
    assert bench.server.received[0].values("idempotency-key") == []


TRAVERSALS = [
    ('"../admin"', b"..%2Fadmin"),
    ('"a/b"', b"a%2Fb"),
    ('"%2e%2e"', b"%252e%252e"),
    ('"..%2fadmin"', b"..%252fadmin"),
    ('"..;/x"', b"..%3B%2Fx"),
    ('"a\\\\..\\\\b"', b"a%5C..%5Cb"),
    ('"x?y=1#z"', b"x%3Fy%3D1%23z"),
    ('"a\\r\\nHost: evil"', b"a%0D%0AHost%3A%20evil"),
    ('"@evil.example:80"', b"%40evil.example%3A80"),
    ('"\u212a\uff0e\uff0e"', b"%E2%84%AA%EF%BC%8E%EF%BC%8E"),
    ("12345678901234567890123", b"12345678901234567890123"),
    ("1.10", b"1.10"),
]


@pytest.mark.parametrize(("value", "segment"), TRAVERSALS)
async def test_a_path_argument_arrives_as_one_encoded_segment(bench: HttpBench, value: str, segment: bytes) -> None:
    tool = bench.make(RequestTemplate(method="GET", path="/s/{id}/capacity", query={"q": "q"}))
    await bench.executor.execute(permit(tool, f'{{"id": {value}, "q": {value}}}'.encode()), TRACE)
    [request] = bench.server.received
    assert request.target == b"/v2/s/" + segment + b"/capacity?q=" + segment
    assert request.values("host") == [f"127.0.0.1:{bench.server.port}".encode()]


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


async def test_cookies_are_not_kept(bench: HttpBench) -> None:
    bench.url = bench.url.replace("127.0.0.1", "localhost")  # a cookie jar keeps no cookies of addresses
    bench.server.script = [answer(headers=(b"Set-Cookie: sid=1; Path=/",))]
    await bench.call(bench.tool())
    await bench.call(bench.tool())
    assert [request.values("cookie") for request in bench.server.received] == [[], []]


async def test_connections_are_kept(bench: HttpBench) -> None:
    for _ in range(3):
        await bench.call(bench.tool())
    assert (bench.deliveries, bench.server.connections) == (3, 1)


@pytest.mark.parametrize("template", [GET, POST])
async def test_a_kept_connection_closed_between_two_calls_costs_no_call(
    bench: HttpBench, template: RequestTemplate
) -> None:
    await bench.call(bench.make(template))
    bench.server.drop()
    await asyncio.wait_for(bench.server.closed.wait(), 5)
    await bench.call(bench.make(template))
    assert (bench.deliveries, bench.server.connections) == (2, 2)


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "POST"])
@pytest.mark.parametrize("then", ["close", "reset"])
async def test_a_kept_connection_that_dies_on_the_request_is_never_sent_again_in_secret(
    bench: HttpBench, method: str, then: str
) -> None:
    bench.server.script = [answer(), raw(b"", then=then), answer()]
    tool = bench.make(RequestTemplate(method=method, path="/orders"))
    await bench.call(tool)
    refusal = await bench.refusal(tool)
    assert (refusal.code, bench.deliveries) == (Code.OUTCOME_UNKNOWN, 2)


@pytest.mark.parametrize("status", [b"502 Bad", b"503 Busy", b"504 Late"])
async def test_an_unavailable_upstream_is_asked_again_only_for_idempotent_tools(
    bench: HttpBench, status: bytes
) -> None:
    bench.server.script = [answer(b"{}", status), answer()]
    assert (await bench.call(bench.tool(retries=2))).status == int(status[:3])
    assert bench.deliveries == 1
    bench.server.script = [answer(b"{}", status), answer()]
    assert (await bench.call(bench.tool(idempotent=True, retries=2))).status == 200
    assert bench.deliveries == 3
    assert bench.clock.slept == [0.05]


@pytest.mark.parametrize("status", [b"400 Bad", b"404 None", b"409 Clash", b"429 Slow", b"500 Oops"])
async def test_other_answers_are_given_on_as_they_are(bench: HttpBench, status: bytes) -> None:
    bench.server.script = [answer(b'{"why":1}', status), answer()]
    response = await bench.call(bench.tool(idempotent=True, retries=2))
    assert (response.status, response.body, bench.deliveries) == (int(status[:3]), b'{"why":1}', 1)


async def test_before_the_first_byte_any_tool_is_tried_again(bench: HttpBench) -> None:
    await bench.behave("refuse")
    refusal = await bench.refusal(bench.tool(retries=2))
    assert (refusal.code, bench.clock.slept) == (Code.TOOL_UNREACHABLE, [0.05, 0.1])
    assert "the connection was refused" in refusal.message


async def test_a_retry_that_cannot_connect_does_not_unsay_that_something_was_sent(bench: HttpBench) -> None:
    async def die(writer: asyncio.StreamWriter) -> None:
        bench.server.stop_listening()
        writer.close()

    bench.server.script = [die]
    refusal = await bench.refusal(bench.tool(idempotent=True, retries=1))
    assert (refusal.code, refusal.ran, bench.deliveries) == (Code.OUTCOME_UNKNOWN, Ran.UNKNOWN, 1)
    assert "an earlier attempt had been sent; whether it ran is not known" in refusal.message


async def test_what_went_wrong_is_told_even_if_the_breaker_ends_the_retries(bench: HttpBench) -> None:
    bench.server.script = [answer(b'{"why":"busy"}', b"503 Busy")]
    response = await bench.call(bench.tool(idempotent=True, retries=9))
    assert (response.status, response.body, bench.deliveries) == (503, b'{"why":"busy"}', 5)


async def test_no_retry_begins_after_the_deadline(bench: HttpBench) -> None:
    await bench.behave("refuse")
    await bench.refusal(bench.tool(timeout=0.08, retries=5))
    assert bench.clock.slept in ([], [0.05])


async def test_the_breaker_lets_one_probe_through_after_a_while(bench: HttpBench) -> None:
    bench.server.script = [answer(b"{}", b"500 Oops")]
    for _ in range(5):
        await bench.call(bench.tool())
    assert (await bench.refusal(bench.tool())).code is Code.UPSTREAM_OPEN
    bench.clock.seconds += 10.0
    bench.server.script = [answer()]
    assert (await bench.call(bench.tool())).status == 200
    assert (await bench.call(bench.tool())).status == 200


async def test_a_name_that_does_not_resolve_is_told_apart(bench: HttpBench) -> None:
    bench.url = "http://no-such-host.invalid:1/v2"
    refusal = await bench.refusal(bench.tool())
    assert (refusal.code, refusal.ran) == (Code.TOOL_UNREACHABLE, Ran.NO)
    assert "could not be resolved" in refusal.message
    assert "invalid" not in refusal.message


async def test_a_connection_that_is_not_accepted_in_time_did_not_run(bench: HttpBench) -> None:
    async def never(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    mute = await asyncio.start_server(never, "127.0.0.1", 0)
    bench.url = f"https://127.0.0.1:{mute.sockets[0].getsockname()[1]}/v2"  # the TLS handshake is never answered
    refusal = await bench.refusal(bench.tool(timeout=0.2))
    assert (refusal.code, refusal.ran) == (Code.TOOL_TIMEOUT, Ran.NO)
    mute.close()


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


async def test_a_missing_credential_sends_nothing(bench: HttpBench) -> None:
    upstream = Upstream(name="orders", kind="http", url=bench.url, credential="other")
    refusal = await bench.refusal(http_tool(upstream, POST))
    assert (refusal.code, refusal.ran, bench.deliveries) == (Code.TOOL_UNREACHABLE, Ran.NO, 0)
    assert "its credential is not available" in refusal.message


async def test_without_a_credential_no_authorization_is_sent(bench: HttpBench) -> None:
    await bench.call(http_tool(Upstream(name="orders", kind="http", url=bench.url), POST))
    assert bench.server.received[0].values("authorization") == []


@pytest.mark.parametrize("kind", ["mcp", "caller"])
async def test_other_kinds_of_upstreams_are_refused(bench: HttpBench, kind: str) -> None:
    upstream = Upstream(name="orders", kind=kind, url=bench.url)  # type: ignore[arg-type] # parametrized text
    refusal = await bench.refusal(http_tool(upstream, POST))
    assert (refusal.code, refusal.ran, bench.deliveries) == (Code.TOOL_UNREACHABLE, Ran.NO, 0)


async def test_a_cancelled_call_leaves_the_breaker_usable_and_closes_its_connection(bench: HttpBench) -> None:
    await bench.behave("hang")
    task = asyncio.create_task(bench.call(bench.tool()))
    await bench.server.until_received(1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.wait_for(bench.server.closed.wait(), 5)
    await bench.behave("answer")
    assert (await bench.call(bench.tool())).status == 200
