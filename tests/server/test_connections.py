"""Connections of a port: one request at a time on each, and room for so much that has not come to its end."""

import pytest

from proxy.server.connections import AHEAD, Room, crowded
from proxy.server.listeners import MAX_HEADERS
from tests.contracts.store_kit import until
from tests.server.ports_by_hand import Dialled, Port, port

ROOM = 64 << 10
KIB = 1 << 10


def test_what_is_taken_is_given_back() -> None:
    """And none takes more than is free."""
    room = Room(limit=100)
    assert room.take(0, 50)
    assert not room.take(50, 1)
    assert room.take(0, 50)
    assert not room.take(0, 1)
    room.give_back(50)
    assert (room.take(0, 50), room.taken) == (True, 100)


async def filled(there: Port) -> list[Dialled]:
    """Three connections that each send 20 KiB of a body and no more: 4 KiB are free."""
    found = []
    for number in range(1, 4):
        found.append(await there.dial())
        await found[-1].post("/read", 30 * KIB, sent=20 * KIB)
        await there.until_taken(number * 20 * KIB)
    return found


async def test_bodies_that_never_end_take_up_the_room_and_no_more() -> None:
    """Who would take more is refused and closed; a small request is served, and those inside are when they end."""
    async with port(ROOM) as there:
        inside = await filled(there)
        fourth = await there.dial()
        await fourth.post("/read", 30 * KIB, sent=20 * KIB)
        status, headers, document = await fourth.answer()
        assert (status, headers["connection"], document["refusal"]["code"]) == (503, "close", "overloaded")
        assert await fourth.ended()
        small = await there.dial()
        await small.post("/read", KIB)
        assert (await small.answer())[2]["size"] == KIB
        for one in inside[1:]:
            one.writer.close()
        await there.until_taken(20 * KIB)
        await inside[0].say(b"x" * 10 * KIB)
        assert (await inside[0].answer())[2]["size"] == 30 * KIB
        assert there.room.taken == 0


async def test_a_body_for_whose_rest_there_is_no_room_is_refused_by_its_handler() -> None:
    """With the code, a time to come back and the end of the connection; what it held is free at once."""
    async with port(ROOM) as there:
        inside = await filled(there)
        await inside[0].say(b"x" * 9 * KIB)
        status, headers, document = await inside[0].answer()
        assert (status, headers["connection"], headers["retry-after"]) == (429, "close", "1")
        assert document["refusal"]["code"] == "overloaded"
        assert document["refusal"]["fix"] == crowded().fix
        await there.until_taken(40 * KIB)
        await inside[0].say(b"x" * KIB)
        assert await inside[0].ended()
        inside[2].writer.close()
        await there.until_taken(20 * KIB)
        await inside[1].say(b"x" * 10 * KIB)
        assert (await inside[1].answer())[2]["size"] == 30 * KIB


async def test_who_begins_to_read_after_that_is_told_the_same() -> None:
    """A handler that did something else first."""
    async with port(ROOM) as there:
        one = await there.dial()
        await one.post("/late", 60 * KIB, sent=20 * KIB)
        await there.until_taken(20 * KIB)
        await one.say(b"x" * 30 * KIB)
        await there.until_taken(0, 0)
        await one.say(b"x" * 10 * KIB)
        await there.round_trip()
        assert there.room.taken == 0
        there.go.set()
        assert (await one.answer())[2]["refusal"]["code"] == "overloaded"
        assert await one.ended()


async def test_heads_that_never_end_take_up_the_same_room() -> None:
    """A header may be long and there may be many: the answer needs no handler."""
    async with port(ROOM) as there:
        line = b"x-a: " + b"a" * (MAX_HEADERS - 100) + b"\r\n"
        first, second = await there.dial(), await there.dial()
        await first.say(b"GET /read HTTP/1.1\r\nhost: a\r\n" + line)
        await there.until_taken(16 * KIB - 200)
        await second.say(b"GET /read HTTP/1.1\r\nhost: a\r\n" + line * 4)
        assert (await second.answer())[0] == 503
        assert await second.ended()
        await first.say(b"\r\n")
        assert (await first.answer())[0] == 200
        assert (there.room.taken, there.entered) == (0, ["/read"])


async def test_a_whole_request_takes_no_room_while_it_is_worked_on() -> None:
    """The gate counts it from here on."""
    async with port(ROOM) as there:
        ones = [await there.dial() for _ in range(4)]
        for number, one in enumerate(ones, 1):
            await one.post("/late", 30 * KIB)
            await until(lambda: len(there.entered) == number and not there.room.taken)  # noqa: B023 - awaited here
        there.go.set()
        assert [(await one.answer())[2]["size"] for one in ones] == [30 * KIB] * 4


async def test_what_comes_behind_a_request_waits_for_its_answer() -> None:
    """In the order in which it came, each handler after the other, also if the next is a part so far."""
    async with port(ROOM) as there:
        one = await there.dial()
        await one.say(b"GET /wait?1 HTTP/1.1\r\nhost: a\r\n\r\n" + b"GET /wait?2 HTTP/1.1\r\nhost: a\r\n\r\n")
        await until(lambda: there.entered == ["/wait"])
        await one.say(b"GET /read?3 HTTP/1.1\r\nhost: a\r\n\r\n" + b"POST /read?4 HTTP/1.1\r\nhost: a\r\ncontent-le")
        await there.round_trip()
        assert there.entered == ["/wait", "/read"]
        there.go.set()
        assert [(await one.answer())[2]["path"] for _ in range(3)] == ["/wait?1", "/wait?2", "/read?3"]
        await one.say(b"ngth: 5\r\n\r\nhello")
        assert (await one.answer())[2] == {"size": 5, "path": "/read?4"}
        assert there.room.taken == 0


async def test_who_sends_on_and_on_without_an_answer_gets_that_one_answer() -> None:
    """Nothing behind it is a request any more."""
    async with port(ROOM) as there:
        one = await there.dial()
        await one.say(b"GET /wait HTTP/1.1\r\nhost: a\r\n\r\n")
        await until(lambda: bool(there.entered))
        await one.say(b"GET /read HTTP/1.1\r\nhost: a\r\n\r\n" * (AHEAD // 30))
        await there.round_trip()
        there.go.set()
        status, headers, _ = await one.answer()
        assert (status, headers.get("connection"), there.entered) == (200, "close", ["/wait", "/read"])
        assert await one.ended()


async def test_the_rest_of_a_body_that_nobody_wanted_is_dropped_and_takes_no_room() -> None:
    """Its answer has been given; the connection is good for another request."""
    async with port(4 << 20) as there:
        one = await there.dial()
        await one.post("/deaf", 8 << 20)
        assert (await one.answer())[2]["size"] == -1
        assert there.room.taken == 0
        await one.post("/read", 5)
        assert (await one.answer())[2]["size"] == 5


@pytest.mark.parametrize("how", ["closing", "resetting"])
async def test_who_hangs_up_gives_the_room_back(how: str) -> None:
    """In the middle of a head or of a body."""
    async with port(ROOM) as there:
        head, body = await there.dial(), await there.dial()
        await head.say(b"GET /read HTTP/1.1\r\nhost: a\r\nx-a: " + b"a" * 5000)
        await body.post("/read", 20 * KIB, sent=10 * KIB)
        await there.until_taken(15_000)
        for one in (head, body):
            if how == "resetting":
                one.writer.transport.abort()
            one.writer.close()
        await there.until_taken(0, 0)


async def test_who_does_not_take_its_answer_is_let_go() -> None:
    """With what it has sent behind: aiohttp would wait for it as long as its socket lives."""
    async with port(ROOM, taking=0.2) as there:
        deaf = await there.dial()
        deaf.writer.transport.pause_reading()  # type: ignore[attr-defined]  # a transport of a socket
        await deaf.say(b"GET /large HTTP/1.1\r\nhost: a\r\n\r\n" * 3)
        await until(lambda: there.entered == ["/large"])
        await until(lambda: not there.open())
        assert there.entered == ["/large"]
        assert there.room.taken == 0
        await there.round_trip()
