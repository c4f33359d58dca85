"""A server that cannot serve for a while: calls are refused in bounded time, nothing is counted twice, and calls go on after."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from pathlib import Path

import pytest

from proxy.adapters.store_valkey import SharedStore
from proxy.adapters.store_valkey_troubles import why
from proxy.errors import Code, Refusal
from proxy.model import Caller, ToolCount
from tests.adapters.resp_server import answering
from tests.adapters.valkey_rig import Pods, pods_on_server, until_told
from tests.contracts.store_kit import register, run
from tests.contracts.store_values import checked, fresh, intent, refused, terminal, tool
from tests.e2e.redis_server import DURABLE, RedisServer, redis_server

WHAT = checked(tool("get_stock", labels=["quantities"]))
OTHER = checked(tool("get_prices", system="pricing", labels=["prices"]))
FAILED = {"outcome": "done", "ok": False, "code": Code.TOOL_FAILED, "ran": "yes"}
DEADLINE = 1.0
SLACK = 2.0
Fault = Callable[[RedisServer], AbstractAsyncContextManager[None]]


def _said(reply: bytes) -> None:
    assert not reply.startswith(b"-"), reply


async def _until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end, "waited too long"
        await asyncio.sleep(0.01)


def _set(name: str, broken: str, whole: str) -> Fault:
    """A setting of the server."""

    @asynccontextmanager
    async def fault(server: RedisServer) -> AsyncIterator[None]:
        _said(server.command("CONFIG", "SET", name, broken))
        yield
        _said(server.command("CONFIG", "SET", name, whole))

    return fault


def _replica(*settings: str) -> Fault:
    """It is made a replica of somebody who is not there."""

    @asynccontextmanager
    async def fault(server: RedisServer) -> AsyncIterator[None]:
        for name in settings:
            _said(server.command("CONFIG", "SET", name, "no"))
        _said(server.command("REPLICAOF", "127.0.0.1", "1"))
        yield
        _said(server.command("REPLICAOF", "NO", "ONE"))

    return fault


@asynccontextmanager
async def _disk(server: RedisServer) -> AsyncIterator[None]:
    """It cannot save: where its file should go there is a folder."""
    (server.folder / "dump.rdb").mkdir()
    _said(server.command("CONFIG", "SET", "save", "3600 1"))

    def saved(how: bytes) -> bool:
        if b"rdb_bgsave_in_progress:0" in server.command("INFO", "persistence"):
            server.command("BGSAVE")
        return b"rdb_last_bgsave_status:" + how in server.command("INFO", "persistence")

    await _until(lambda: saved(b"err"))
    yield
    (server.folder / "dump.rdb").rmdir()
    await _until(lambda: saved(b"ok"))


@asynccontextmanager
async def _loading(server: RedisServer) -> AsyncIterator[None]:
    """It was killed, and reads its data for some seconds."""
    _said(server.command("EVAL", "for i = 1, 4000 do redis.call('SET', 'filler' .. i, i) end", "0"))
    _said(server.command("BGREWRITEAOF"))
    await _until(lambda: b"aof_rewrite_in_progress:0" in server.command("INFO", "persistence"))
    server.kill()
    await server.start("--key-load-delay", "1500", "--loading-process-events-interval-bytes", "1024", loaded=False)
    yield
    assert b"loading:1" in server.command("INFO", "persistence"), "it was over before it had been seen"
    await _until(lambda: b"loading:0" in server.command("INFO", "persistence"))


@asynccontextmanager
async def _busy(server: RedisServer) -> AsyncIterator[None]:
    """Somebody's script does not end."""
    _said(server.command("CONFIG", "SET", "busy-reply-threshold", "10"))
    with socket.socket(socket.AF_UNIX) as other:
        other.connect(str(server.socket))
        other.sendall(b"EVAL 'while true do end' 0\r\n")
        await _until(lambda: server.command("PING").startswith(b"-BUSY"))
        yield
        _said(server.command("SCRIPT", "KILL"))


@asynccontextmanager
async def _password(server: RedisServer) -> AsyncIterator[None]:
    """It asks for a password from now on, and has hung up on everybody."""
    server.commands(("ACL", "SETUSER", "default", "resetpass", ">secret"), ("CLIENT", "KILL", "TYPE", "normal"))
    yield
    server.commands(("AUTH", "secret"), ("ACL", "SETUSER", "default", "nopass"))


@asynccontextmanager
async def _slots(server: RedisServer) -> AsyncIterator[None]:
    """Its cluster has lost the slots of our keys."""
    _said(server.command("CLUSTER", "DELSLOTSRANGE", "0", "16383"))
    yield
    await _whole(server)


async def _whole(server: RedisServer) -> None:
    _said(server.command("CLUSTER", "ADDSLOTSRANGE", "0", "16383"))
    await _until(lambda: b"cluster_state:ok" in server.command("CLUSTER", "INFO"))


FAULTS: dict[str, Fault] = {
    "OOM": _set("maxmemory", "1", "0"),
    "NOREPLICAS": _set("min-replicas-to-write", "1", "0"),
    "READONLY": _replica(),
    "MASTERDOWN": _replica("replica-serve-stale-data"),
    "MISCONF": _disk,
    "LOADING": _loading,
    "BUSY": _busy,
    "NOAUTH": _password,
    "CLUSTERDOWN": _slots,
}


async def _refused(work: Awaitable[object]) -> str:
    """It is refused within bounds; the operator's sentence."""
    began = time.monotonic()
    with pytest.raises(Refusal) as found:
        await work
    assert time.monotonic() - began < DEADLINE + SLACK
    assert found.value.code is Code.STATE_UNAVAILABLE
    return why(found.value)


async def _call_that_is_refused(store: SharedStore, who: Caller) -> str:
    """As the pipeline does it: no number, no intent, and an end that the server may not hear."""
    call = fresh("call")
    said = await _refused(store.calls.reserve(call, who, WHAT))
    end = terminal(call, who, WHAT, **refused(Code.STATE_UNAVAILABLE))
    with suppress(Refusal):
        await store.calls.settle(end, durable=False)
    return said


async def _under_way(store: SharedStore, who: Caller) -> tuple[str, dict[str, object]]:
    """A call that runs; what its end will say."""
    call = fresh("call")
    facts = await store.calls.reserve(call, who, WHAT)
    await store.calls.commit(intent(call, who, WHAT, facts), durable=True)
    return call, terminal(call, who, WHAT, facts, **FAILED)


async def _sound(store: SharedStore, who: Caller, started: int) -> None:
    """Every call counts once, and so does every failure."""
    await until_told(store)
    call = fresh("call")
    facts = await store.calls.reserve(call, who, OTHER)
    await store.calls.settle(terminal(call, who, OTHER, facts, **refused(Code.STATE_UNAVAILABLE)), durable=False)
    assert facts.history.tools == {"get_stock": ToolCount(started=started, ok=0)}
    assert facts.history.principal_counters == {"calls": started}
    assert store.calls.repeated(who.conversation, WHAT.digest) == started
    assert store.link.connected


@pytest.mark.parametrize("word", FAULTS)
async def test_a_server_that_cannot_serve_refuses_and_nothing_is_counted_twice(tmp_path: Path, word: str) -> None:
    """A call was under way when it began, three more came while it lasted; all is right once it is over."""
    more = ("--cluster-enabled", "yes") if word == "CLUSTERDOWN" else ()
    async with redis_server(tmp_path / "redis", *DURABLE, *more) as server:
        if more:
            await _whole(server)
        pods = Pods(tmp_path / "pods", server, deadline=DEADLINE)
        async with pods.pod() as store:
            who = await register(store)
            call, end = await _under_way(store, who)
            async with FAULTS[word](server):
                settled = store.calls.settle(end, durable=True)
                # What is full still takes what frees something, and an end does: it takes the call off its pod's list.
                if word == "OOM":
                    await settled
                said = [] if word == "OOM" else [await _refused(settled)]
                said += [await _call_that_is_refused(store, who) for _ in range(3)]
                assert [s for s in said if f"the server answers {word}: " in s], said
            await _sound(store, who, 1)
        assert len(pods.records("a", kind="terminal", call=call)) == 1
        unheard = [record["code"] for record in pods.records("a", kind="unheard", call=call)]
        assert unheard == ([] if word == "OOM" else ["state_unavailable"])


@pytest.mark.parametrize(
    "answer",
    [
        b"-MOVED 3999 10.9.8.7:6381\r\n",
        b"-ASK 3999 10.9.8.7:6381\r\n",
        b"-TRYAGAIN Multiple keys request during rehashing of slot\r\n",
        b"-NOBODYKNOWS this word\r\n",
        b"*0\r\n",
        b"$-1\r\n",
        b"*2\r\n:1\r\n*1\r\n$0\r\n\r\n",
        b"nonsense\r\n",
    ],
    ids=lambda answer: answer.split()[0].decode(),
)
async def test_an_answer_that_is_none_refuses_and_nothing_is_counted_twice(tmp_path: Path, answer: bytes) -> None:
    """The bytes are a server's of a cluster that is being changed, or nobody's. No address is told."""
    async with redis_server(tmp_path / "redis") as server, answering({}, server) as between:
        pods = Pods(tmp_path / "pods", server, url=between.url, deadline=DEADLINE)
        async with pods.pod() as store:
            who = await register(store)
            _, end = await _under_way(store, who)
            between.answers[b"EVALSHA"] = answer
            said = [await _refused(store.calls.settle(end, durable=True))]
            said += [await _call_that_is_refused(store, who) for _ in range(3)]
            assert "10.9.8.7" not in str(said)
            if answer.startswith((b"-MOVED", b"nonsense")):
                assert between.connections > 1, "behind the same name there may be another server by now"
            between.answers.clear()
            await _sound(store, who, 1)


async def test_what_was_done_although_its_reply_got_lost_counts_once(tmp_path: Path) -> None:
    """A number, an intent, an end and a refusal, each done by the server whose reply never comes."""
    async with redis_server(tmp_path / "redis") as server, answering({}, server) as between:
        pods = Pods(tmp_path / "pods", server, url=between.url, deadline=0.3)
        async with pods.pod() as store:
            who = await register(store)
            _, end = await _under_way(store, who)
            between.swallowed.add(b"EVALSHA")
            await _refused(store.calls.settle(end, durable=True))
            between.swallowed.clear()
            await _sound(store, who, 1)
            for lost in ("reserve", "commit"):
                call = fresh("call")
                await until_told(store)
                facts = await store.calls.reserve(call, who, WHAT) if lost == "commit" else None
                between.swallowed.add(b"EVALSHA")
                if facts is None:
                    await _refused(store.calls.reserve(call, who, WHAT))
                else:
                    await _refused(store.calls.commit(intent(call, who, WHAT, facts), durable=True))
                between.swallowed.clear()
                with suppress(Refusal):
                    ended = terminal(call, who, WHAT, facts, **refused(Code.STATE_UNAVAILABLE))
                    await store.calls.settle(ended, durable=False)
                await _sound(store, who, 1)


async def test_a_call_refused_without_a_number_is_not_counted_twice(tmp_path: Path) -> None:
    """Its end leaves no trace on the server but the count, so nobody can tell whether it was heard: it is not said again."""
    async with redis_server(tmp_path / "redis") as server, answering({}, server) as between:
        pods = Pods(tmp_path / "pods", server, url=between.url, deadline=0.3)
        async with pods.pod() as store:
            who = await register(store)
            between.swallowed.add(b"EVALSHA")
            end = terminal("c", who, WHAT, **refused(Code.DENIED))
            await _refused(store.calls.settle(end, durable=False))
            between.swallowed.clear()
            await until_told(store)
            await store.calls.reserve("d", who, OTHER)
            assert store.calls.repeated(who.conversation, WHAT.digest) <= 1


async def test_a_password_that_is_changed_on_both_sides_serves_without_a_restart(tmp_path: Path) -> None:
    """It is read anew for each connection."""
    (tmp_path / "password").write_text("first\n")
    async with (
        pods_on_server(tmp_path, *DURABLE, "--requirepass", "first", password_file=tmp_path / "password") as pods,
        pods.pod() as store,
    ):
        who = await register(store)
        await run(store, who, WHAT)
        change = ("ACL", "SETUSER", "default", "resetpass", ">second")
        pods.server.commands(("AUTH", "first"), change, ("CLIENT", "KILL", "TYPE", "normal"))
        said = [await _call_that_is_refused(store, who) for _ in range(3)]
        assert [s for s in said if "the server answers WRONGPASS: it does not take this password" in s], said
        (tmp_path / "password").write_text("second\n")
        await until_told(store)
        await run(store, who, WHAT)
