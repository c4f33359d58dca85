"""A connection to an upstream: what of HTTP/1.1 it takes, beside what the exchange's own tests show."""

import asyncio

import pytest

from proxy.adapters.http_connection import ConnectionFault, HttpAnswer, Request
from proxy.adapters.upstream_connection import UpstreamConnection, codings, dial
from tests.adapters.byte_server import Behaviour, free_port, raw, serving

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


async def asked(behaviour: Behaviour, *, head_only: bool = False) -> HttpAnswer:
    async with serving() as server:
        server.script = [behaviour]
        connection = UpstreamConnection(lambda _: None)
        await dial(connection, "localhost", server.port, secure=False)
        deadline = asyncio.get_running_loop().time() + 5
        try:
            return await connection.exchange(Request(data=GET, most=100, deadline=deadline, head_only=head_only))
        finally:
            connection.abort()


async def test_interim_answers_are_passed_over_with_their_headers() -> None:
    interim = b"HTTP/1.1 103 Early\r\nContent-Type: x/y\r\n\r\nHTTP/1.1 102 Wait\r\n\r\n"
    found = await asked(raw(interim + b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"))
    assert (found.status, found.body, found.headers) == (200, b"ok", ((b"content-length", b"2"),))


async def test_interim_answers_without_end_are_a_fault() -> None:
    with pytest.raises(ConnectionFault, match="malformed"):
        await asked(raw(b"HTTP/1.1 103 Early\r\nX: yyyyyyyyyyyyyyyyyyy\r\n\r\n" * 2000))


async def test_the_head_of_an_answer_to_head_is_the_whole_of_it() -> None:
    found = await asked(raw(b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n"), head_only=True)
    assert (found.status, found.body) == (200, b"")


@pytest.mark.parametrize(
    "head", [b"302 Found\r\nContent-Length: 9", b"200 OK\r\nContent-Encoding: br\r\nContent-Length: 9"]
)
async def test_a_body_of_no_use_is_not_waited_for(head: bytes) -> None:
    assert (await asked(raw(b"HTTP/1.1 " + head + b"\r\n\r\n"))).body == b""


@pytest.mark.parametrize(
    "cut",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        b"HTTP/1.1 200 OK\r\n",
    ],
)
async def test_an_answer_that_is_cut_is_none(cut: bytes) -> None:
    with pytest.raises(ConnectionFault, match="closed"):
        await asked(raw(cut, then="close"))


async def test_an_answer_without_a_length_that_is_reset_is_none() -> None:
    with pytest.raises(ConnectionFault, match="closed"):
        await asked(raw(b"HTTP/1.1 200 OK\r\n\r\nhello", then="reset"))


def test_codings_are_those_that_change_a_body() -> None:
    headers = ((b"content-encoding", b"gzip, identity"), (b"transfer-encoding", b"Chunked"), (b"x", b"br"))
    assert codings(headers) == {b"gzip"}


async def test_nobody_there_is_a_refused_connection() -> None:
    with pytest.raises(ConnectionRefusedError):
        await dial(UpstreamConnection(lambda _: None), "localhost", free_port(), secure=False)
