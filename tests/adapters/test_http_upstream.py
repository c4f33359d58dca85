"""HttpUpstreams: what is sent, how often, and what is said when it fails."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from proxy.adapters.http_upstream import HttpUpstreams
from proxy.core.tool import RequestTemplate, Tool, Upstream
from proxy.errors import Code, Ran, Refusal
from tests.adapters.byte_server import Behaviour, answer, raw
from tests.adapters.http_bench import GET, POST, HttpBench, http_bench
from tests.contracts.executor import CALL_ID, SECRET, TRACE, ExecutorContract, http_tool, permit


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[HttpBench]:
    async with http_bench(tmp_path) as bench:
        yield bench


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
    ('"a/b"', b"a%2Fb"),
    ('"a%2fadmin"', b"a%252fadmin"),
    ('"a;/x"', b"a%3B%2Fx"),
    ('"a\\\\b"', b"a%5Cb"),
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


STOP = "calls of this tool are stopped"


async def stopped(bench: HttpBench, tool: Tool) -> Refusal:
    with pytest.raises(Refusal) as caught:
        await bench.call(tool)
    return caught.value


def thrown_by(bench: HttpBench, behaviour: Behaviour) -> Behaviour:
    """A stop is acknowledged while the upstream has the request; then it behaves like this."""

    async def behave(writer: asyncio.StreamWriter) -> None:
        bench.switch = STOP
        await behaviour(writer)

    return behave


async def test_after_a_stop_nothing_is_sent(bench: HttpBench) -> None:
    """As it says itself, and it did not run."""
    bench.switch = STOP
    no = await stopped(bench, bench.tool(idempotent=True, retries=3))
    assert (no.code, no.message, no.ran) == (Code.STOPPED, STOP, Ran.NO)
    assert (bench.deliveries, bench.server.connections, bench.clock.slept) == (0, 0, [])


async def test_a_stop_between_two_attempts_of_which_none_was_sent_is_the_outcome(bench: HttpBench) -> None:
    """The first found nobody there; by the second calls were stopped."""
    await bench.behave("refuse")
    asked = iter([None, STOP])
    bench.executor = HttpUpstreams(bench.exchange, bench.credentials, bench.clock, lambda: 0.0, lambda *_: next(asked))
    no = await stopped(bench, bench.tool(retries=3))
    assert (no.code, no.ran, bench.clock.slept) == (Code.STOPPED, Ran.NO, [0.05])


async def test_a_stop_after_an_attempt_that_was_sent_leaves_its_outcome_unknown(bench: HttpBench) -> None:
    """Nothing more is sent, and nobody says that nothing was."""
    bench.server.script = [thrown_by(bench, raw(b"", then="reset")), answer()]
    no = await bench.refusal(bench.tool(idempotent=True, retries=3))
    assert (no.code, no.ran, bench.deliveries) == (Code.OUTCOME_UNKNOWN, Ran.UNKNOWN, 1)


async def test_a_stop_after_an_answer_leaves_that_answer(bench: HttpBench) -> None:
    """An upstream that was busy said so; it is not asked again."""
    bench.server.script = [thrown_by(bench, answer(b"{}", b"503 Busy")), answer()]
    assert (await bench.call(bench.tool(idempotent=True, retries=3))).status == 503
    assert bench.deliveries == 1


async def test_a_stop_does_not_take_back_what_is_under_way(bench: HttpBench) -> None:
    """It was sent before; its result is one."""
    bench.server.script = [thrown_by(bench, answer())]
    assert (await bench.call(bench.tool())).status == 200
