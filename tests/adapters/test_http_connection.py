"""One connection: what neither OPA's transport nor the upstreams' exchange tests by itself."""

import asyncio
import threading
import time

import pytest
import uvloop

from proxy.adapters.http_connection import HttpConnection, Request
from tests.adapters.one_answer import one_answer

REQUEST = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@pytest.mark.parametrize("factory", [uvloop.new_event_loop, asyncio.new_event_loop])
def test_an_answer_that_lay_in_time_behind_a_busy_loop_is_not_late(factory: object) -> None:
    answered = threading.Event()

    async def ask(port: int) -> bytes:
        loop = asyncio.get_running_loop()
        connection = HttpConnection(lambda _: None)
        await loop.create_connection(lambda: connection, "127.0.0.1", port)
        deadline = loop.time() + 0.05

        def busy() -> None:
            answered.wait(5)
            while time.monotonic() < deadline + 0.02:
                pass

        loop.call_soon(busy)  # runs when the request has been written, before its answer is looked for
        try:
            return (await connection.exchange(Request(data=REQUEST, most=100, deadline=deadline))).body
        finally:
            connection.abort()

    with one_answer(ANSWER, answered) as port, asyncio.Runner(loop_factory=factory) as runner:  # type: ignore[arg-type]  # parametrized
        assert runner.run(ask(port)) == b"ok"


@pytest.mark.parametrize("factory", [uvloop.new_event_loop, asyncio.new_event_loop])
def test_who_answers_before_it_has_read_all_is_not_asked_again_on_that_connection(factory: object) -> None:
    """It may take the rest of the request for the beginning of the next."""
    answered = threading.Event()

    async def ask(port: int) -> bool:
        loop = asyncio.get_running_loop()
        connection = HttpConnection(lambda _: None)
        await loop.create_connection(lambda: connection, "127.0.0.1", port)
        head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 40000000\r\n\r\n"
        request = Request(data=head + bytes(40_000_000), most=100, deadline=loop.time() + 10)
        assert (await connection.exchange(request)).body == b"ok"
        return connection.usable

    with one_answer(ANSWER, answered) as port, asyncio.Runner(loop_factory=factory) as runner:  # type: ignore[arg-type]  # parametrized
        assert not runner.run(ask(port))
