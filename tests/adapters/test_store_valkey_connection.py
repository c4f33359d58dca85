"""Whatever is wrong with the server refuses in bounded time, and calls go on by themselves when it is right again."""

import asyncio
import signal
import socket
import threading
import time
from collections.abc import Awaitable
from contextlib import suppress
from pathlib import Path

import pytest
import uvloop

from proxy.adapters.state_directory import UnusableError
from proxy.adapters.store_valkey import SharedStore
from proxy.adapters.store_valkey_connection import Ask, Connection
from proxy.errors import Code, Refusal
from proxy.settings import Valkey
from tests.adapters.one_answer import one_answer
from tests.adapters.valkey_rig import Pods, pods_on_server
from tests.adapters.valkey_tls import PASSWORD, certificates, tls_server
from tests.contracts.store_kit import register, run
from tests.contracts.store_values import checked, tool

STOCK = tool("get_stock", labels=["quantities"])
DEADLINE = 1.0  # seconds for an answer; what a server does that is well takes milliseconds, and a disk may be busy
SLACK = 2.0


async def _works(store: SharedStore, conversation: str) -> None:
    await run(store, await register(store, conversation), checked(STOCK))


async def _again(store: SharedStore, conversation: str) -> None:
    """Until it works, within ten seconds."""
    end = time.monotonic() + 10
    while True:
        with suppress(Refusal):
            return await _works(store, conversation)
        assert time.monotonic() < end, "it does not recover"
        await asyncio.sleep(0.02)


async def _refused_within(seconds: float, work: Awaitable[object]) -> Refusal:
    began = time.monotonic()
    with pytest.raises(Refusal) as found:
        await work
    assert time.monotonic() - began < seconds
    assert found.value.code is Code.STATE_UNAVAILABLE
    return found.value


async def test_a_server_that_is_gone_refuses_and_is_found_again(tmp_path: Path) -> None:
    async with pods_on_server(tmp_path, deadline=DEADLINE) as pods, pods.pod() as store:
        await _works(store, "one")
        pods.server.kill()
        await _refused_within(DEADLINE + SLACK, _works(store, "two"))
        await pods.server.start()
        await _again(store, "two")


async def test_a_server_that_is_silent_refuses_by_the_deadline(tmp_path: Path) -> None:
    """Stopped, it takes the connection and says nothing."""
    async with pods_on_server(tmp_path, deadline=DEADLINE) as pods, pods.pod() as store:
        await _works(store, "one")
        pods.server.kill(signal.SIGSTOP)
        await _refused_within(DEADLINE + SLACK, _works(store, "two"))
        await _refused_within(DEADLINE + SLACK, _works(store, "three"))
        pods.server.kill(signal.SIGCONT)
        await _again(store, "two")


@pytest.mark.parametrize("factory", [uvloop.new_event_loop, asyncio.new_event_loop])
def test_an_answer_that_lay_in_time_behind_a_busy_loop_is_not_late(factory: object) -> None:
    """A process that the machine let wait for longer than the deadline takes what has come meanwhile."""
    may, answered, deadline = threading.Event(), threading.Event(), 0.5
    ours, theirs = socket.socketpair()

    async def nothing(_: Ask) -> None:
        """Fit, unseen."""

    async def ask(port: int) -> object:
        settings = Valkey(url=f"redis://127.0.0.1:{port}", mac_key_file=Path(), deadline=deadline)
        connection, loop = Connection(settings, nothing), asyncio.get_running_loop()
        await connection.connect()
        asked = time.monotonic()

        def busy() -> None:
            loop.remove_reader(ours)
            may.set()
            assert answered.wait(10)
            while time.monotonic() < asked + deadline + 0.02:
                pass

        loop.add_reader(ours, busy)
        try:
            return await connection.ask("PING")
        finally:
            await connection.close()

    with (
        ours,
        theirs,
        one_answer(b"+PONG\r\n", answered, heard=lambda: theirs.send(b"!"), may=may) as port,
        asyncio.Runner(loop_factory=factory) as runner,  # type: ignore[arg-type]  # parametrized
    ):
        assert runner.run(ask(port)) == b"PONG"


@pytest.mark.parametrize(
    ("break_it", "repair_it", "word"),
    [
        (("CONFIG", "SET", "maxmemory", "1"), ("CONFIG", "SET", "maxmemory", "0"), "OOM"),
        (("REPLICAOF", "127.0.0.1", "1"), ("REPLICAOF", "NO", "ONE"), "READONLY"),
        (
            ("ACL", "SETUSER", "default", "-evalsha"),
            ("ACL", "SETUSER", "default", "+evalsha"),
            "NOPERM",
        ),
    ],
    ids=["full", "read-only", "not permitted"],
)
async def test_a_server_that_says_no_refuses_until_it_says_yes(
    tmp_path: Path, break_it: tuple[str, ...], repair_it: tuple[str, ...], word: str
) -> None:
    """The cause is in the details, for the record; the message names nothing."""
    async with pods_on_server(tmp_path, deadline=DEADLINE) as pods, pods.pod() as store:
        await _works(store, "one")
        assert pods.server.command(*break_it).startswith(b"+")
        refusal = await _refused_within(DEADLINE + SLACK, _works(store, "two"))
        assert word in str(refusal.details)
        assert word not in refusal.message
        assert pods.server.command(*repair_it).startswith(b"+")
        await _again(store, "two")


async def test_who_does_not_speak_resp_is_refused(tmp_path: Path) -> None:
    async def web(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await writer.drain()
        writer.close()

    async with pods_on_server(tmp_path) as pods:
        server = await asyncio.start_server(web, "127.0.0.1", 0)
        async with server:
            port = server.sockets[0].getsockname()[1]
            lost = Pods(tmp_path / "lost", pods.server, url=f"redis://127.0.0.1:{port}", deadline=0.1)
            with pytest.raises(UnusableError, match="the shared store cannot be used"):
                async with lost.pod():
                    pass


async def test_what_is_said_in_one_turn_goes_in_one_write(tmp_path: Path) -> None:
    """The server reads a hundred commands at once, and so would flush once."""

    def reads(pods: Pods) -> int:
        return int(pods.server.command("INFO", "stats").split(b"total_reads_processed:")[1].split()[0])

    async with pods_on_server(tmp_path) as pods, pods.pod() as store:
        before = reads(pods)
        await asyncio.gather(*(store.link.run([], []) for _ in range(100)))
        assert reads(pods) - before <= 3  # of this count, perhaps of a beat


async def test_over_tls_as_a_user_with_few_rights_all_of_it_works(tmp_path: Path) -> None:
    """The rights are those that README names. A wrong password, or a server of another CA, is refused with a sentence."""
    certificates(tmp_path / "other")
    (tmp_path / "wrong").write_text("wrong")
    async with tls_server(tmp_path) as (server, good):
        pods = Pods(tmp_path / "pods", server, **good)
        async with pods.pod() as store, pods.pod("b") as other:
            await _works(store, "one")
            await store.pods.beat()
            await other.pods.end_the_gone()
            await other.reviews.find()
            await store.conversations.throw({"scope": "tool", "name": "x"}, standing=True)
        for change in ({"password_file": tmp_path / "wrong"}, {"ca_file": tmp_path / "other" / "ca.crt"}):
            bad = Pods(tmp_path / "pods", server, **{**good, **change, "deadline": 0.1})
            with pytest.raises(UnusableError, match="the shared store cannot be used") as found:
                async with bad.pod():
                    pass
            assert PASSWORD not in str(found.value)
            assert "wrong" not in str(found.value).replace("WRONGPASS", "")
