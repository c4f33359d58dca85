"""A pool of kept connections: what neither OPA's transport nor the upstreams' exchange tests by itself."""

import asyncio
import math

import pytest

from proxy.adapters.http_connection import ConnectionFault, HttpConnection, Request
from proxy.adapters.http_pool import ConnectionPool
from tests.adapters.byte_server import answer, hang, raw, serving


def pool_to(port: int, *, keep: float = math.inf) -> ConnectionPool:
    async def connect(connection: HttpConnection) -> None:
        await asyncio.get_running_loop().create_connection(lambda: connection, "127.0.0.1", port)

    return ConnectionPool(connect, places=2, keep=keep)


def request(seconds: float = 5.0) -> Request:
    deadline = asyncio.get_running_loop().time() + seconds
    return Request(data=b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", most=100, deadline=deadline)


async def test_an_idle_connection_is_kept_so_long_and_then_closed() -> None:
    async with serving() as server:
        server.script = [answer()]
        kept, pool = pool_to(server.port, keep=60.0), pool_to(server.port, keep=0.05)
        await kept.send(request())
        await kept.send(request())
        assert server.connections == 1
        await pool.send(request())
        await asyncio.wait_for(server.closed.wait(), 5)
        await pool.send(request())
        assert server.connections == 3
        kept.close()
        pool.close()


async def test_after_its_deadline_nothing_is_sent() -> None:
    async with serving() as server:
        server.script = [answer()]
        pool, sent = pool_to(server.port), list[int]()
        await pool.send(request())  # which leaves a connection that could be written to at once
        with pytest.raises(ConnectionFault, match="timeout"):
            await pool.send(request(-1), sending=lambda: sent.append(1))
        assert (sent, len(server.received)) == ([], 1)
        pool.close()


async def test_half_of_the_time_is_left_for_the_answer_of_whoever_waits_for_a_place() -> None:
    """Else a call that got its place at the last moment would blame the far side for what is our own queue."""
    async with serving() as server:
        server.script = [hang(), hang()]
        pool, loop = pool_to(server.port), asyncio.get_running_loop()
        holders = [asyncio.create_task(pool.send(request())) for _ in range(2)]
        await server.until_received(2)
        waiting = request(2.0)
        with pytest.raises(ConnectionFault, match="busy"):
            await pool.send(waiting)
        assert loop.time() < waiting.deadline
        for holder in holders:
            holder.cancel()
        await asyncio.gather(*holders, return_exceptions=True)


async def test_a_request_is_repeated_only_on_demand_and_only_if_nothing_was_heard() -> None:
    async with serving() as server:
        server.script = [answer(), raw(b"", then="close"), answer(b"again")]
        pool = pool_to(server.port)
        await pool.send(request())
        assert (await pool.send(request(), again=True)).body == b"again"
        server.script = [raw(b"", then="close"), answer()]
        with pytest.raises(ConnectionFault, match="closed"):
            await pool.send(request())
        server.script = [answer(), raw(b"HTTP/1.1 2", then="close")]
        await pool.send(request())
        with pytest.raises(ConnectionFault, match="closed") as caught:
            await pool.send(request(), again=True)
        assert caught.value.heard
        pool.close()


async def test_a_connection_that_is_lost_as_it_opens_has_sent_nothing() -> None:
    """Whoever asks may then be told so, and try again."""
    sent = list[int]()

    async def connect(connection: HttpConnection) -> None:
        connection.connection_lost(None)

    pool = ConnectionPool(connect, places=1)
    with pytest.raises(ConnectionFault, match="closed"):
        await pool.send(request(), sending=lambda: sent.append(1))
    assert sent == []


async def test_closing_ends_what_is_under_way_and_closing_what_is_idle_does_not() -> None:
    async with serving() as server:
        server.script = [hang()]
        pool = pool_to(server.port)
        under_way = asyncio.create_task(pool.send(request()))
        await server.until_received(1)
        pool.close_idle()
        assert not under_way.done()
        pool.close()
        with pytest.raises(ConnectionFault, match="closed"):
            await under_way


def no_more() -> None:
    raise OSError("no more")


async def test_who_is_not_wanted_any_more_after_waiting_for_a_place_opens_no_connection() -> None:
    """And the place is free for the next."""
    async with serving() as server:
        server.script = [hang(), hang(), answer()]
        pool = pool_to(server.port)
        holders = [asyncio.create_task(pool.send(request())) for _ in range(2)]
        await server.until_received(2)
        waiting = asyncio.create_task(pool.send(request(), wanted=no_more))
        holders[0].cancel()
        with pytest.raises(OSError, match="no more"):
            await waiting
        assert (server.connections, len(server.received)) == (2, 2)
        assert (await pool.send(request())).status == 200
        holders[1].cancel()
        await asyncio.gather(*holders, return_exceptions=True)
        pool.close()


@pytest.mark.parametrize("kept", [False, True], ids=["new", "kept"])
async def test_a_no_at_the_last_moment_sends_nothing_and_keeps_the_connection(*, kept: bool) -> None:
    """It is as good as before: the next request goes over it."""
    async with serving() as server:
        pool = pool_to(server.port)
        if kept:
            await pool.send(request())
        with pytest.raises(OSError, match="no more"):
            await pool.send(request(), sending=no_more)
        assert len(server.received) == int(kept)
        assert (await pool.send(request())).status == 200
        assert (server.connections, len(server.received)) == (1, 1 + kept)
        pool.close()
