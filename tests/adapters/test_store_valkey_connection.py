"""Whatever is wrong with the server refuses in bounded time, and calls go on by themselves when it is right again."""

import asyncio
import signal
import subprocess
import time
from collections.abc import Awaitable
from contextlib import suppress
from pathlib import Path

import pytest

from proxy.adapters.state_directory import UnusableError
from proxy.adapters.store_valkey import SharedStore
from proxy.errors import Code, Refusal
from tests.adapters.valkey_rig import Pods, pods_on_server
from tests.contracts.store_kit import register, run
from tests.contracts.store_values import checked, tool
from tests.e2e.redis_server import DURABLE, free_port, redis_server

STOCK = tool("get_stock", labels=["quantities"])


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
    async with pods_on_server(tmp_path, deadline=0.3) as pods, pods.pod() as store:
        await _works(store, "one")
        pods.server.kill()
        await _refused_within(2, _works(store, "two"))
        await pods.server.start()
        await _again(store, "two")


async def test_a_server_that_is_silent_refuses_by_the_deadline(tmp_path: Path) -> None:
    """Stopped, it takes the connection and says nothing."""
    async with pods_on_server(tmp_path, deadline=0.3) as pods, pods.pod() as store:
        await _works(store, "one")
        pods.server.kill(signal.SIGSTOP)
        await _refused_within(2, _works(store, "two"))
        await _refused_within(2, _works(store, "three"))
        pods.server.kill(signal.SIGCONT)
        await _again(store, "two")


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
    async with pods_on_server(tmp_path, deadline=1.0) as pods, pods.pod() as store:
        await _works(store, "one")
        assert pods.server.command(*break_it).startswith(b"+")
        refusal = await _refused_within(3, _works(store, "two"))
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


def _certificates(folder: Path) -> None:
    """A CA and a server's certificate for localhost."""
    folder.mkdir()
    (folder / "ext").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
    for command in (
        "req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.crt -subj /CN=test-ca -days 2",
        "req -newkey rsa:2048 -nodes -keyout server.key -out server.csr -subj /CN=localhost",
        "x509 -req -in server.csr -CA ca.crt -CAkey ca.key -CAcreateserial -out server.crt -days 2 -extfile ext",
    ):
        subprocess.run(["openssl", *command.split()], cwd=folder, check=True, capture_output=True)


ACL = (
    "user default off\n"
    "user admin on >all ~* &* +@all\n"
    "user sidegate on >{password} ~{{test}}:* resetchannels -@all +@connection +eval +evalsha +script|load +get +set +del "
    "+hset +hget +hdel +hkeys +hgetall +hincrby +exists +expire +zadd +zrem +zrangebyscore +config|get\n"
)


async def test_over_tls_as_a_user_with_few_rights_all_of_it_works(tmp_path: Path) -> None:
    """The rights are those that README names. A wrong password, or a server of another CA, is refused with a sentence."""
    _certificates(tmp_path / "tls")
    _certificates(tmp_path / "other")
    (tmp_path / "users.acl").write_text(ACL.format(password="s3cret"))
    (tmp_path / "password").write_text("s3cret\n")
    (tmp_path / "wrong").write_text("wrong")
    port, tls = free_port(), tmp_path / "tls"
    arguments = (
        *DURABLE,
        *(
            "--tls-port",
            str(port),
            "--tls-cert-file",
            str(tls / "server.crt"),
            "--tls-key-file",
            str(tls / "server.key"),
        ),
        *(
            "--tls-ca-cert-file",
            str(tls / "ca.crt"),
            "--tls-auth-clients",
            "no",
            "--aclfile",
            str(tmp_path / "users.acl"),
        ),
    )
    async with redis_server(tmp_path / "redis", *arguments) as server:
        good = {
            "url": f"rediss://localhost:{port}/0",
            "ca_file": tls / "ca.crt",
            "username": "sidegate",
            "password_file": tmp_path / "password",
        }
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
            assert "s3cret" not in str(found.value)
            assert "wrong" not in str(found.value).replace("WRONGPASS", "")
