"""What would keep a pod from using the shared store is said beforehand, each thing in one sentence, in bounded time."""

import asyncio
import re
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from proxy.adapters.state_directory import UnusableError
from proxy.adapters.store_valkey_check import COMMANDS, Looked, look_at_store
from proxy.adapters.store_valkey_rows import UNKNOWN
from tests.adapters.resp_server import Answer, answering, fit
from tests.adapters.valkey_rig import KEY, LATER, Pods, pods_on_server
from tests.adapters.valkey_tls import PASSWORD, RIGHTS, administer, certificates, tls_server
from tests.e2e.redis_server import DURABLE, free_port, redis_server

NO_POD_YET = (
    "/store/valkey: no pod has used the store under this `prefix` yet, so its `mac_key_file` cannot be compared"
)
BOUND = 15.0  # seconds


async def looked(pods: Pods) -> Looked:
    """What is found, within bounds and without a secret in it."""
    began = time.monotonic()
    found = await look_at_store(pods.settings)
    assert time.monotonic() - began < BOUND
    said = " ".join([*found.problems, *found.notes])
    assert PASSWORD not in said
    assert KEY.decode() not in said
    return found


async def problem(pods: Pods) -> str:
    """The one thing that is wrong."""
    found = await looked(pods)
    assert len(found.problems) == 1, found
    return found.problems[0]


@asynccontextmanager
async def over_tls(path: Path, **change: Any) -> AsyncIterator[Pods]:
    """Pods as they are in production, but for `change`."""
    async with tls_server(path) as (server, good):
        yield Pods(path / "pods", server, **{**good, **change})


async def test_a_server_that_serves_is_in_order_and_nothing_is_written(tmp_path: Path) -> None:
    """Over TLS, with no more rights than README names; a key of a group that nobody has used is not said to be right."""
    async with over_tls(tmp_path) as pods:
        assert await looked(pods) == Looked(problems=[], notes=[NO_POD_YET])
        assert administer(pods.server, "DBSIZE").endswith(b":0\r\n")
        async with pods.pod():
            pass
        assert await looked(pods) == Looked()


async def test_a_server_out_of_reach_is_said_by_its_cause(tmp_path: Path) -> None:
    async with redis_server(tmp_path / "redis") as server:
        for url, said in (
            (f"redis://127.0.0.1:{free_port()}", "nobody listens there"),
            ("redis://store.invalid:6379", "the name of its host is not known"),
            (f"unix:{tmp_path}/nothing.sock", "there is no such socket"),
            (f"rediss://127.0.0.1:{free_port()}", "nobody listens there"),
        ):
            assert said in await problem(Pods(tmp_path / "pods", server, url=url))
        server.kill(signal.SIGSTOP)
        assert "no answer within the deadline" in await problem(Pods(tmp_path / "pods", server, deadline=0.1))


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"*1000000\r\n" + b"$1\r\nx\r\n" * 1000])
async def test_somebody_else_who_listens_there_is_said_in_bounded_time(tmp_path: Path, answer: bytes) -> None:
    async with redis_server(tmp_path / "redis") as unused, answering({b"HELLO": answer}) as other:
        pods = Pods(tmp_path / "pods", unused, url=other.url, deadline=0.1)
        assert re.search("no answer within the deadline|does not speak RESP", await problem(pods))


async def _web(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    writer.close()


async def test_tls_is_said_by_what_is_wrong_with_it(tmp_path: Path) -> None:
    """Another CA, none named, a file that is none, the other port, and no TLS where it is wanted."""
    certificates(tmp_path / "other")
    (tmp_path / "nonsense").write_text("nonsense")
    async with (
        tls_server(tmp_path) as (server, good),
        redis_server(tmp_path / "plain", port=free_port()) as plain,
        await asyncio.start_server(_web, "127.0.0.1", 0) as other,
    ):
        encrypted = good["url"]
        for change, said in (
            ({"ca_file": tmp_path / "other" / "ca.crt"}, "its certificate is not trusted"),
            ({"ca_file": None}, "its certificate is not trusted"),
            ({"ca_file": tmp_path / "nothing"}, "`ca_file` holds no certificates that can be read: No such file"),
            ({"ca_file": tmp_path / "nonsense"}, "`ca_file` holds no certificates that can be read"),
            ({"url": f"rediss://localhost:{plain.port}"}, "no answer in time; does it speak TLS there?"),
            ({"url": f"rediss://localhost:{other.sockets[0].getsockname()[1]}"}, "it does not speak TLS there"),
            ({"url": encrypted.replace("rediss", "redis"), "ca_file": None}, "does it want TLS (rediss://)?"),
        ):
            assert said in await problem(Pods(tmp_path / "pods", server, **{**good, **change}))


async def test_who_may_not_log_in_is_told_why(tmp_path: Path) -> None:
    (tmp_path / "wrong").write_text("wrong")
    async with tls_server(tmp_path) as (server, good):
        for change, said in (
            ({"password_file": tmp_path / "wrong"}, "it does not take this password for this user"),
            ({"username": "nobody"}, "it does not take this password for this user"),
            ({"username": None, "password_file": None}, "it asks for a password"),
            ({"password_file": tmp_path / "nothing"}, "`password_file` cannot be read: No such file or directory"),
        ):
            assert said in await problem(Pods(tmp_path / "pods", server, **{**good, **change}))


@pytest.mark.parametrize("command", [words.split()[0].lower() for words in COMMANDS])
async def test_each_command_that_is_not_permitted_is_named(tmp_path: Path, command: str) -> None:
    """Asked of the server, without running it."""
    async with pods_on_server(tmp_path, "--appendonly", "no") as pods:
        pods.server.command("ACL", "SETUSER", "default", f"-{command}")
        found = (await looked(pods)).problems
        assert f"/store/valkey: user default may not run {command.upper()} on our keys (ACL: +{command})" in found


async def test_rights_beside_the_commands_are_named(tmp_path: Path) -> None:
    """Scripts, keys, and the question after durability."""
    async with tls_server(tmp_path) as (server, good):
        pods = Pods(tmp_path / "pods", server, **good)
        for change, said in (
            ("-evalsha", "user sidegate may not run EVALSHA (ACL: +evalsha)"),
            ("-script|load", "user sidegate may not run SCRIPT LOAD (ACL: +script|load)"),
            ("resetkeys ~other:*", "user sidegate may not use our keys (ACL: ~{test}:*)"),
            ("resetkeys %R~{test}:*", "user sidegate may not run SET, DEL, EXPIRE, HSET, HDEL, ZADD, ZREM on our keys"),
        ):
            administer(server, "ACL", "SETUSER", "sidegate", "reset", "on", f">{PASSWORD}", *RIGHTS.split())
            administer(server, "ACL", "SETUSER", "sidegate", *change.split())
            assert said in await problem(pods)
        administer(server, "ACL", "SETUSER", "sidegate", "reset", "on", f">{PASSWORD}", *RIGHTS.split(), "-config|get")
        found = (await looked(pods)).problems
        assert [p for p in found if "may not ask for `appendfsync` (CONFIG GET)" in p]
        stated = await looked(Pods(tmp_path / "pods", server, **good, appendfsync="stated"))
        assert stated.problems == []
        assert [n for n in stated.notes if "does not tell its `maxmemory-policy`: see that it is noeviction" in n]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--appendonly", "no"), "without `appendonly yes`: what it acknowledges could be lost"),
        (("--appendonly", "yes", "--appendfsync", "everysec"), "without `appendfsync always`"),
        (
            (*DURABLE, "--maxmemory-policy", "allkeys-lru"),
            "without `maxmemory-policy noeviction`: it would throw state",
        ),
    ],
    ids=["no log", "each second", "eviction"],
)
async def test_a_server_that_could_lose_state_is_said_to(tmp_path: Path, arguments: tuple[str, ...], said: str) -> None:
    """What its operator has stated is not a problem, but it is said that it looks otherwise."""
    async with pods_on_server(tmp_path, *arguments) as pods:
        assert [p for p in (await looked(pods)).problems if said in p]
        stated = await looked(Pods(pods.path, pods.server, appendfsync="stated"))
        assert [s for s in (*stated.notes, *stated.problems) if said in s]
        assert bool(stated.problems) == ("noeviction" in said)


async def test_a_server_that_cannot_serve_now_is_said_to(tmp_path: Path) -> None:
    """A replica, an old one, one with a database that is not there."""
    async with pods_on_server(tmp_path) as pods:
        pods.server.command("REPLICAOF", "127.0.0.1", "1")
        assert "the server is a replica: name the primary" in await problem(pods)
        pods.server.command("REPLICAOF", "NO", "ONE")
        port = free_port()
        pods.server.command("CONFIG", "SET", "port", str(port))
        other = Pods(tmp_path / "pods", pods.server, url=f"redis://127.0.0.1:{port}/99")
        assert "the server answers ERR" in await problem(other)


async def test_an_old_server_and_one_that_tells_little_are_told_apart(tmp_path: Path) -> None:
    """Not known is said, and is no problem. The answers are those of the servers, in bytes."""
    usual: dict[bytes, Answer] = {b"CONFIG": fit, b"SCRIPT": b"$1\r\nx\r\n", b"EVALSHA": b"*0\r\n", b"GET": b"$-1\r\n"}
    nothing = {b"HELLO": b"-ERR unknown command\r\n", b"EVALSHA": b"-ERR unknown function\r\n"}
    old = {b"HELLO": b"*4\r\n$7\r\nversion\r\n$6\r\n6.2.14\r\n$4\r\nrole\r\n$6\r\nmaster\r\n"}
    async with redis_server(tmp_path / "redis") as unused:
        for answers, problems, notes in ((old, 1, 1), (nothing, 0, 3)):
            async with answering({**usual, **answers}) as server:
                found = await looked(Pods(tmp_path / "pods", unused, url=server.url))
            assert (len(found.problems), len(found.notes)) == (problems, notes), found
            assert not problems or "the server is version 6.2.14; it has to be 7.0 or newer" in found.problems[0]


async def test_switches_of_a_later_version_are_said_to_keep_this_one_from_serving(tmp_path: Path) -> None:
    """Before somebody goes back to it."""
    async with pods_on_server(tmp_path) as pods:
        async with pods.pod() as store:
            await store.conversations.throw({"scope": "tool", "name": "x"}, standing=True)
            pods.rewrite_later(store.link.seal.name("switches").decode())
        assert await problem(pods) == f"/store/valkey: {UNKNOWN.format(LATER)}"
        with pytest.raises(UnusableError, match=f"is of format {LATER}"):
            async with pods.pod():
                pass


async def test_another_key_than_the_group_s_is_said_to_be(tmp_path: Path) -> None:
    """And one that is short or missing, with whatever is wrong with the server."""
    async with pods_on_server(tmp_path) as pods:
        async with pods.pod():
            pass
        key = pods.path / "mac.key"
        key.write_bytes(b"o" * 32)
        assert "the rows in the store were not written with this `mac_key_file`" in await problem(pods)
        key.write_bytes(b"short")
        assert "/store/valkey/mac_key_file: the key" in await problem(pods)
        key.unlink()
        pods.server.kill()
        assert len((await looked(pods)).problems) == 2


async def test_a_server_slower_than_the_deadline_is_noted(tmp_path: Path) -> None:
    """A look is more patient than a call is."""
    async with pods_on_server(tmp_path, deadline=0.000001) as pods:
        assert "longer than `deadline`: a call would have been refused" in (await looked(pods)).notes[0]
