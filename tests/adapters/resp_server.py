"""A server on loopback that answers RESP commands byte by byte as it is told, and passes on the others to a real one."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import hiredis

from tests.e2e.redis_server import RedisServer

FIT = {b"appendonly": b"yes", b"appendfsync": b"always", b"maxmemory-policy": b"noeviction"}
Ask = Callable[[bytes], Awaitable[bytes]]
Answer = bytes | Callable[[list[bytes]], bytes]  # to the words of a command


def fit(words: list[bytes]) -> bytes:
    """To CONFIG GET: as it has to be."""
    return b"*2\r\n" + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in (words[2], FIT[words[2]]))


class RespServer:
    """Use `answering`. `answers` by a command's name; of what is not in there, the real server is asked."""

    def __init__(self, answers: dict[bytes, Answer], behind: RedisServer | None) -> None:
        self.answers = answers
        self.behind = behind
        self.connections = 0
        self.swallowed: set[bytes] = set()  # a command with one of these words is done, and its reply gets lost
        self.url = ""
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()

    async def meet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._writers.add(writer)
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, ValueError):
            async with _real(self.behind) as ask:
                while True:
                    words, raw = await _command(reader)
                    writer.write(await self._answer(words, raw, ask))
                    await writer.drain()
        writer.close()
        self._tasks.discard(task)

    async def _answer(self, words: list[bytes], raw: bytes, ask: Ask) -> bytes:
        answer = self.answers.get(words[0])
        if answer is None:
            reply = await ask(raw)
            return b"" if self.swallowed.intersection(words) else reply
        return answer if isinstance(answer, bytes) else answer(words)

    async def end(self) -> None:
        """Close every connection and wait for the tasks."""
        for writer in self._writers:
            writer.close()
        await asyncio.gather(*self._tasks)


async def _command(reader: asyncio.StreamReader) -> tuple[list[bytes], bytes]:
    raw = await reader.readuntil(b"\r\n")
    words = []
    for _ in range(int(raw[1:])):
        head = await reader.readuntil(b"\r\n")
        word = await reader.readexactly(int(head[1:]) + 2)
        words.append(word[:-2])
        raw += head + word
    return words, raw


async def _silence(_: bytes) -> bytes:
    return b""


@contextlib.asynccontextmanager
async def _real(server: RedisServer | None) -> AsyncIterator[Ask]:
    if server is None:
        yield _silence
        return
    reader, writer = await asyncio.open_unix_connection(str(server.socket))

    async def ask(raw: bytes) -> bytes:
        """One reply, as it comes."""
        writer.write(raw)
        parser, reply = hiredis.Reader(notEnoughData=...), b""
        while parser.gets() is ...:
            piece = await reader.read(1 << 16)
            if not piece:
                raise ConnectionError
            parser.feed(piece)
            reply += piece
        return reply

    try:
        yield ask
    finally:
        writer.close()


@contextlib.asynccontextmanager
async def answering(answers: dict[bytes, Answer], behind: RedisServer | None = None) -> AsyncIterator[RespServer]:
    """A server on a free port."""
    server = RespServer(answers, behind)
    async with await asyncio.start_server(server.meet, "127.0.0.1", 0) as listening:
        server.url = f"redis://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
        yield server
        await server.end()
