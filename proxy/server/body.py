"""The body of a request, whole: bounded in bytes, pieces and time."""

import asyncio
from typing import cast

from aiohttp import web

from proxy.errors import Code, Refusal
from proxy.server.connections import Connection, crowded
from proxy.server.rescue import too_large

SECONDS = 5.0
CHUNKS = 4096  # each costs as much as 50 bytes and more, whatever is in it


async def read_body(request: web.Request, most: int) -> bytes:
    """All of it, at most so many bytes. Raises Refusal too_large, overloaded, invalid_call."""
    if not request.body_exists:
        return b""
    length = request.content_length
    if length is not None and length > most:
        raise too_large(most)
    if length is not None and request.content.is_eof():
        return await request.read()  # it came with its head, as most do: nothing to wait for
    connection = cast("Connection", request.protocol)
    try:
        # Also the end of a body whose framing broke while it was read: aiohttp tells its reader nothing of that.
        async with asyncio.timeout(0 if connection.crowded else SECONDS) as connection.reading:
            return await _joined(request, most)
    except TimeoutError:
        if connection.crowded:
            raise crowded() from None
        raise Refusal(Code.INVALID_CALL, f"the body was not there within {SECONDS:.0f} s") from None
    finally:
        connection.reading = None


async def _joined(request: web.Request, most: int) -> bytes:
    body, chunks = bytearray(), 0
    async for piece, ends in request.content.iter_chunks():
        body += piece
        chunks += ends
        if len(body) > most:
            raise too_large(most)
        if chunks > CHUNKS:
            request.protocol.close()  # those behind are not even counted
            raise Refusal(
                Code.INVALID_CALL,
                f"the body came in more than {CHUNKS} chunks",
                fix="send it with a content-length, or in larger chunks",
            )
    return bytes(body)
