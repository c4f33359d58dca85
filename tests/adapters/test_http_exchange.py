"""One request, sent at most once: connections, TLS, bulkhead, deadline and health."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from proxy.adapters.http_exchange import FaultError, HttpExchange, Kind, Outbound, request_headers
from proxy.core.http_request import HttpRequest
from proxy.core.tool import Upstream
from proxy.model import Response, SpanContext
from tests.adapters.byte_server import ByteServer, answer, hang, raw, serving
from tests.contracts.executor import TRACE, SteppedClock
from tests.telemetry.certificates import make_authority, server_side


@pytest.fixture
async def server() -> AsyncIterator[ByteServer]:
    async with serving() as server:
        yield server


@pytest.fixture
async def exchange() -> AsyncIterator[HttpExchange]:
    exchange = HttpExchange(SteppedClock(), bulkhead=2)
    yield exchange
    await exchange.close()


def outbound(url: str, *, seconds: float = 5.0, name: str = "orders", method: str = "GET") -> Outbound:
    return Outbound(
        upstream=Upstream(name=name, kind="http", url=url),
        request=HttpRequest(method=method, target="/orders"),
        headers={},
        cap=1000,
        deadline=asyncio.get_running_loop().time() + seconds,
    )


async def fault(exchange: HttpExchange, sent: Outbound) -> FaultError:
    with pytest.raises(FaultError) as caught:
        await exchange.send(sent)
    return caught.value


async def test_over_the_bulkhead_a_call_waits_and_is_refused_at_its_deadline_unsent(
    server: ByteServer, exchange: HttpExchange
) -> None:
    server.script = [hang()]
    under_way = [asyncio.create_task(exchange.send(outbound(server.url))) for _ in range(2)]
    await server.until_received(2)
    third = outbound(server.url, seconds=0.05)
    assert (await fault(exchange, third)).kind is Kind.OVERLOADED
    assert not third.delivery.sent
    server.script = [answer()]
    assert (await exchange.send(outbound(server.url, name="another"))).status == 200
    waiting = asyncio.create_task(exchange.send(outbound(server.url)))
    under_way[0].cancel()
    assert (await waiting).status == 200
    under_way[1].cancel()
    await asyncio.gather(*under_way, return_exceptions=True)


async def test_a_stop_while_a_call_waits_for_a_place_is_in_force_when_it_gets_one(
    server: ByteServer, exchange: HttpExchange
) -> None:
    """Nothing is sent, no connection opened, and the upstream is not blamed."""
    server.script = [hang(), hang(), answer()]
    under_way = [asyncio.create_task(exchange.send(outbound(server.url))) for _ in range(2)]
    await server.until_received(2)
    switches: list[str] = []
    third = replace(outbound(server.url), stopped=lambda: switches[0] if switches else None)
    waiting = asyncio.create_task(exchange.send(third))
    await asyncio.sleep(0)  # it waits now
    switches.append("all calls are stopped")
    under_way[0].cancel()
    with pytest.raises(FaultError) as caught:
        await waiting
    assert (caught.value.kind, caught.value.why) == (Kind.STOPPED, "all calls are stopped")
    assert (third.delivery.ever_sent, len(server.received), server.connections) == (False, 2, 2)
    assert (await exchange.send(outbound(server.url))).status == 200
    under_way[1].cancel()
    await asyncio.gather(*under_way, return_exceptions=True)


async def test_a_stop_while_a_connection_is_opened_is_in_force_before_the_first_byte(
    server: ByteServer, exchange: HttpExchange
) -> None:
    """It is asked for once more at the last moment."""
    asked = iter([None, "all calls are stopped"])
    stopped = replace(outbound(server.url), stopped=lambda: next(asked))
    assert (await fault(exchange, stopped)).kind is Kind.STOPPED
    assert (stopped.delivery.ever_sent, server.received) == (False, [])


async def test_a_stopped_probe_leaves_the_breaker_half_open(server: ByteServer) -> None:
    """Else nothing would be sent for ever: the next one may probe."""
    exchange = HttpExchange(clock := SteppedClock())
    server.script = [answer(b"{}", b"500 Oops")]
    for _ in range(5):
        await exchange.send(outbound(server.url))
    clock.seconds += 10.0
    server.script = [answer()]
    stopped = replace(outbound(server.url), stopped=lambda: "all calls are stopped")
    assert (await fault(exchange, stopped)).kind is Kind.STOPPED
    assert (await exchange.send(outbound(server.url))).status == 200
    await exchange.close()


async def test_a_full_bulkhead_does_not_count_against_the_upstream(server: ByteServer, exchange: HttpExchange) -> None:
    server.script = [hang()]
    under_way = [asyncio.create_task(exchange.send(outbound(server.url))) for _ in range(2)]
    await server.until_received(2)
    for _ in range(6):
        assert (await fault(exchange, outbound(server.url, seconds=0.0))).kind is Kind.OVERLOADED
    for task in under_way:
        task.cancel()
    await asyncio.gather(*under_way, return_exceptions=True)


@pytest.mark.parametrize(
    ("behaviour", "kind"),
    [
        (raw(b"", then="close"), Kind.BROKEN),
        (answer(b"", b"302 Found"), Kind.REDIRECT),
        (answer(b"", headers=(b"Content-Encoding: gzip",)), Kind.UNREADABLE),
        (answer(b"x" * 1001), Kind.UNREADABLE),
    ],
)
async def test_answers_that_are_of_no_use_do_not_open_the_breaker(
    server: ByteServer, exchange: HttpExchange, behaviour: object, kind: Kind
) -> None:
    server.script = [behaviour]  # type: ignore[list-item] # parametrized
    for _ in range(7):
        assert (await fault(exchange, outbound(server.url))).kind is kind


@pytest.mark.parametrize("status", [b"500 Oops", b"503 Busy"])
async def test_an_unreadable_5xx_counts_as_a_5xx(server: ByteServer, exchange: HttpExchange, status: bytes) -> None:
    server.script = [answer(b"", status, headers=(b"Content-Encoding: gzip",))]
    for _ in range(5):
        assert (await fault(exchange, outbound(server.url))).kind is Kind.UNREADABLE
    opened = await fault(exchange, outbound(server.url))
    assert (opened.kind, opened.retry_after, len(server.received)) == (Kind.OPEN, 10.0, 5)


async def test_timeouts_open_the_breaker(server: ByteServer, exchange: HttpExchange) -> None:
    server.script = [hang()]
    for _ in range(5):
        assert (await fault(exchange, outbound(server.url, seconds=0.05))).kind is Kind.TIMEOUT
    assert (await fault(exchange, outbound(server.url))).kind is Kind.OPEN


async def test_breakers_are_apart(server: ByteServer, exchange: HttpExchange) -> None:
    server.script = [answer(b"", b"500 Oops")]
    for _ in range(5):
        await exchange.send(outbound(server.url))
    assert (await fault(exchange, outbound(server.url))).kind is Kind.OPEN
    assert (await exchange.send(outbound(server.url, name="another"))).status == 500


async def test_a_certificate_that_nobody_vouches_for_is_not_accepted(tmp_path: Path, exchange: HttpExchange) -> None:
    async with serving(server_side(make_authority(tmp_path))) as server:
        sent = outbound(server.url.replace("http:", "https:"))
        refused = await fault(exchange, sent)
        assert refused.kind is Kind.UNREACHABLE
        assert "no trusted TLS connection" in refused.why
        assert (sent.delivery.sent, server.received) == (False, [])


async def test_a_server_without_tls_is_told_apart_from_a_closed_port(exchange: HttpExchange) -> None:
    async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await reader.read()
        writer.close()

    server = await asyncio.start_server(plain, "127.0.0.1", 0)
    sent = outbound(f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    refused = await fault(exchange, sent)
    assert (refused.kind, sent.delivery.sent) == (Kind.UNREACHABLE, False)
    assert "no trusted TLS connection" in refused.why
    server.close()


async def test_a_fault_names_its_cause_for_the_record_only(server: ByteServer, exchange: HttpExchange) -> None:
    server.script = [raw(b"", then="close")]
    broken = await fault(exchange, outbound(server.url))
    assert broken.cause == "closed"
    assert "closed" not in broken.why


async def test_a_body_that_ends_with_the_connection_is_whole(server: ByteServer, exchange: HttpExchange) -> None:
    server.script = [raw(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\nhello", then="close")]
    assert await exchange.send(outbound(server.url)) == Response(status=200, media_type="text/plain", body=b"hello")


async def test_an_interim_answer_is_not_the_answer(server: ByteServer, exchange: HttpExchange) -> None:
    final = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
    server.script = [raw(b"HTTP/1.1 103 Early Hints\r\n\r\n" + final)]
    assert (await exchange.send(outbound(server.url))).body == b"ok"


async def test_an_answer_without_a_media_type_has_none(server: ByteServer, exchange: HttpExchange) -> None:
    server.script = [answer(b"?", headers=())]
    assert (await exchange.send(outbound(server.url))).media_type == ""


async def test_an_answer_that_announces_too_much_is_not_waited_for(server: ByteServer, exchange: HttpExchange) -> None:
    server.script = [raw(b"HTTP/1.1 200 OK\r\nContent-Length: 1001\r\n\r\n")]
    assert (await fault(exchange, outbound(server.url))).kind is Kind.UNREADABLE


async def test_each_attempt_tells_how_far_it_came_itself(server: ByteServer, exchange: HttpExchange) -> None:
    server.script = [answer(), raw(b"", then="close")]
    sent = outbound(server.url)
    await exchange.send(sent)
    assert (await fault(exchange, sent)).why == "broke off before its answer"


POISON = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison"


async def test_bytes_behind_an_answer_never_become_the_next_answer(server: ByteServer, exchange: HttpExchange) -> None:
    server.script = [raw(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok" + POISON), answer(b"next")]
    assert (await exchange.send(outbound(server.url))).body == b"ok"
    assert (await exchange.send(outbound(server.url))).body == b"next"


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_bytes_on_an_idle_connection_never_become_the_next_answer(
    server: ByteServer, exchange: HttpExchange, method: str
) -> None:
    server.script = [answer(b"ok"), answer(b"next")]
    assert (await exchange.send(outbound(server.url))).body == b"ok"
    server.say(POISON)
    # The poison is on its way when this request arrives on a second connection, so it has come by the time of its answer.
    assert (await exchange.send(outbound(server.url, name="other"))).body == b"next"
    assert (await exchange.send(outbound(server.url, method=method))).body == b"next"
    assert (len(server.received), server.connections) == (3, 3)


async def test_however_many_connections_are_spoiled_the_call_gets_its_own_answer(server: ByteServer) -> None:
    exchange = HttpExchange(SteppedClock())
    server.script = [hang()]
    under_way = [asyncio.create_task(exchange.send(outbound(server.url))) for _ in range(4)]
    await server.until_received(4)
    server.say(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    await asyncio.gather(*under_way)
    server.script = [answer(b"next")]
    server.say(POISON)
    assert (await exchange.send(outbound(server.url, name="other"))).body == b"next"
    assert (await exchange.send(outbound(server.url))).body == b"next"
    assert len(server.received) == 6
    await exchange.close()


async def test_a_cancelled_probe_makes_room_for_the_next(server: ByteServer) -> None:
    clock = SteppedClock()
    exchange = HttpExchange(clock)
    server.script = [answer(b"", b"500 Oops")]
    for _ in range(5):
        await exchange.send(outbound(server.url))
    clock.seconds += 10.0
    server.script = [hang()]
    probe = asyncio.create_task(exchange.send(outbound(server.url)))
    await server.until_received(6)
    assert (await fault(exchange, outbound(server.url))).kind is Kind.OPEN
    probe.cancel()
    await asyncio.wait([probe])
    server.script = [answer()]
    assert (await exchange.send(outbound(server.url))).status == 200
    await exchange.close()


def test_trace_state_is_left_out_where_there_is_none() -> None:
    bare = SpanContext(trace_id=TRACE.trace_id, span_id=TRACE.span_id, sampled=False)
    assert request_headers("text/plain", bare, None) == {"Accept": "text/plain", "traceparent": bare.traceparent}


@pytest.mark.parametrize("value", ["a\r\nX-B: c", "a\nb", "a\0b", "\u00e4"])
async def test_a_header_that_http_cannot_carry_is_not_sent(
    server: ByteServer, exchange: HttpExchange, value: str
) -> None:
    sent = replace(outbound(server.url), headers={"X-A": value})
    assert (await fault(exchange, sent)).kind is Kind.UNREACHABLE
    assert (sent.delivery.sent, server.received) == (False, [])
