"""The body of a request: with a length, in chunks, or none; over its limits refused in bounded time."""

import pytest

from proxy.server.body import CHUNKS
from tests.contracts.store_kit import until
from tests.server.ports_by_hand import MOST, Dialled, port

ROOM = 4 << 20
CHUNKED = b"POST /read HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n"


async def size(one: Dialled) -> int:
    return int((await one.answer())[2]["size"])


async def code(one: Dialled) -> tuple[int, str]:
    status, _, document = await one.answer()
    return status, str(document["refusal"]["code"])


async def test_a_body_is_read_whole_however_it_comes() -> None:
    """At once, with pauses, in chunks, or not at all; one after the other on one connection."""
    async with port(ROOM) as there:
        one = await there.dial()
        for _ in range(2):
            await one.say(b"POST /read HTTP/1.1\r\nhost: a\r\n\r\n")
            assert await size(one) == 0
            await one.post("/read", 0)
            assert await size(one) == 0
            await one.post("/read", MOST)
            assert await size(one) == MOST
            await one.post("/read", 10, sent=4)
            await there.until_taken(1)
            await one.say(b"x" * 6)
            assert await size(one) == 10
            await one.say(CHUNKED + b"3\r\nabc\r\n10\r\n" + b"x" * 16 + b"\r\n0\r\n\r\n")
            assert await size(one) == 19
            await one.say(CHUNKED + b"3\r\nab")
            await there.until_taken(1)
            await one.say(b"c\r\n0\r\n\r\n")
            assert await size(one) == 3
        assert there.room.taken == 0


async def test_over_the_limit_a_body_is_refused_and_by_its_length_before_it_is_sent() -> None:
    """Nothing is waited for."""
    async with port(ROOM) as there:
        one = await there.dial()
        await one.post("/read", MOST + 1, sent=0)
        assert await code(one) == (413, "too_large")
        assert await one.ended()
        other = await there.dial()
        await other.say(CHUNKED + b"%x\r\n" % (MOST + 1) + b"x" * (MOST + 1))
        assert await code(other) == (413, "too_large")


@pytest.mark.parametrize("less", [0, 1])
async def test_a_body_may_come_in_so_many_chunks_and_no_more(less: int) -> None:
    """Of one byte each: over it, it is refused in the middle and the connection ends."""
    async with port(ROOM) as there:
        one = await there.dial()
        await one.say(CHUNKED + b"1\r\nx\r\n" * (CHUNKS + 1 - less))
        if less:
            await one.say(b"0\r\n\r\n")
            assert await size(one) == CHUNKS
            return
        status, headers, document = await one.answer()
        assert (status, headers["connection"], document["refusal"]["code"]) == (400, "close", "invalid_call")
        assert "content-length" in document["refusal"]["fix"]
        assert await one.ended()


async def test_of_a_body_that_nobody_reads_little_is_kept_also_in_chunks_of_one_byte() -> None:
    """The rest waits at its sender's; when its handler has it read at last, it is refused."""
    async with port(ROOM) as there:
        one = await there.dial()
        one.writer.write(CHUNKED.replace(b"/read", b"/late") + b"1\r\nx\r\n" * (1 << 20))
        await until(lambda: bool(there.entered))
        await there.round_trip()
        assert there.bodies[0].total_bytes < 5000  # of 40,000 that came at once
        there.go.set()
        assert await code(one) == (400, "invalid_call")
        assert await one.ended()
