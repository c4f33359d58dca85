"""Requests that never end: they take up the room that there is for them, and nobody else's calls."""

import asyncio
import io

import pytest

from tests.e2e.rig import Rig, native

MANY = 90  # bodies of almost 1 MiB each; there is room for 64 MiB
CHUNK = b"1\r\n \r\n"


def head(handle: str, *lines: str) -> bytes:
    fixed = ("host: 127.0.0.1", "content-type: application/json", f"x-sidegate-conversation: {handle}")
    return "\r\n".join(["POST /v1/tool-calls HTTP/1.1", *fixed, *lines, "", ""]).encode()


async def test_bodies_that_never_end_leave_room_for_calls(shared: Rig) -> None:
    """Of 90 that send almost a whole MiB each, at least 26 are turned away at once with `overloaded` and their connection is
    closed; meanwhile a call is as quick as ever, and all is as before when they are gone."""
    greedy, handle = await shared.register("greedy"), await shared.register("modest", "ben")
    dialled = [await asyncio.open_connection("127.0.0.1", shared.ports["agent"]) for _ in range(MANY)]
    answers: list[bytes] = []

    async def listen(reader: asyncio.StreamReader) -> None:
        answers.append(await reader.read())

    listening = [asyncio.create_task(listen(reader)) for reader, _ in dialled]
    for _, writer in dialled:
        writer.write(head(greedy, f"content-length: {1 << 20}") + b" " * ((1 << 20) - 1000))
    await shared.until_true(lambda: len(answers) >= MANY - 64, "the first are turned away")
    assert (await shared.send(handle, "get_stock")).status == 200
    assert all(answer.startswith((b"HTTP/1.1 429", b"HTTP/1.1 503")) for answer in answers), answers
    assert all(b"overloaded" in answer and b"onnection: close" in answer for answer in answers), answers
    for _, writer in dialled:
        writer.transport.abort()
    await asyncio.gather(*listening, return_exceptions=True)
    assert (await shared.send(greedy, "get_stock")).status == 200
    for record in shared.records(kind="terminal", code="overloaded"):
        assert (record["outcome"], record["ran"]) == ("refused", "no")


@pytest.mark.parametrize("whole", [False, True], ids=["without end", "whole"])
async def test_a_body_in_chunks_of_one_byte_is_refused_long_before_its_limit(shared: Rig, *, whole: bool) -> None:
    """Such chunks cost fifty times what they carry. A call in few chunks runs."""
    handle = await shared.register(f"chunks-{whole}")
    body = native("get_stock").encode()
    few = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
    answer = await shared.raw(head(handle, "transfer-encoding: chunked", "connection: close") + few)
    assert answer.startswith(b"HTTP/1.1 200")
    many = CHUNK * 100_000 + (few if whole else b"")
    answer = await shared.raw(head(handle, "transfer-encoding: chunked") + many)
    assert answer.startswith(b"HTTP/1.1 400"), answer
    assert b"more than 4096 chunks" in answer
    assert b"onnection: close" in answer
    assert [request.target for request in shared.upstream.received] == ["/stock/SKU-1"]


async def test_a_body_of_the_largest_size_that_is_set_has_room(prepared: Rig) -> None:
    """The room grows with `limits.body_bytes`: a lone body is never refused for want of it."""
    prepared.settings["limits"] = {"body_bytes": 40 << 20}
    await prepared.start()
    headers = {"content-type": "application/json", "x-sidegate-conversation": await prepared.register("large")}
    body = io.BytesIO(native("get_stock").encode() + b" " * (33 << 20))
    async with prepared.session.post(prepared.url("agent") + "/v1/tool-calls", data=body, headers=headers) as answer:
        assert (answer.status, (await answer.json())["status"]) == (200, "done")
