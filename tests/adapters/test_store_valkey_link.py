"""A server that could lose what it acknowledges is not used; scripts that it has forgotten are given to it again."""

from pathlib import Path

import pytest

from proxy.adapters.state_directory import UnusableError
from proxy.adapters.store_valkey import read_mac_key
from proxy.errors import Code, Refusal
from tests.adapters.valkey_rig import pods_on_server
from tests.contracts.store_kit import refusing, register, run
from tests.contracts.store_values import checked, intent, tool

STOCK = tool("get_stock")
WHAT = checked(STOCK)


@pytest.mark.parametrize(
    "arguments",
    [("--appendonly", "no"), ("--appendonly", "yes", "--appendfsync", "everysec")],
    ids=["no log", "each second"],
)
async def test_without_appendfsync_always_it_is_not_used_unless_stated(
    tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    async with pods_on_server(tmp_path / "checked", *arguments) as pods:
        with pytest.raises(UnusableError, match=r"`append(only yes|fsync always)`: what it acknowledges could be lost"):
            async with pods.pod():
                pass
    async with pods_on_server(tmp_path / "stated", *arguments, appendfsync="stated") as pods, pods.pod() as store:
        await run(store, await register(store), checked(STOCK))


async def test_a_server_that_does_not_tell_is_not_used_unless_stated(tmp_path: Path) -> None:
    async with pods_on_server(tmp_path) as pods:
        assert pods.server.command("ACL", "SETUSER", "default", "-config|get").startswith(b"+")
        with pytest.raises(UnusableError, match="state `appendfsync: stated`"):
            async with pods.pod():
                pass


async def test_durability_is_looked_at_on_each_new_connection(tmp_path: Path) -> None:
    """Behind the same name there may be another server by now."""
    async with pods_on_server(tmp_path, deadline=1.0) as pods, pods.pod() as store:
        who = await register(store)
        pods.server.command("CONFIG", "SET", "appendfsync", "everysec")
        pods.server.command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        with refusing(Code.STATE_UNAVAILABLE):
            await run(store, who, checked(STOCK))
        assert not store.link.connected


async def test_a_script_that_was_forgotten_is_loaded_again(tmp_path: Path) -> None:
    async with pods_on_server(tmp_path) as pods, pods.pod() as store:
        who = await register(store)
        pods.server.command("SCRIPT", "FLUSH")
        await run(store, who, checked(STOCK))


async def test_pods_with_another_secret_are_refused(tmp_path: Path) -> None:
    """One group, one Secret."""
    async with pods_on_server(tmp_path) as pods:
        async with pods.pod() as store:
            await store.conversations.throw({"scope": "all"}, standing=True)
        (pods.path / "mac.key").write_bytes(b"x" * 32)
        with pytest.raises(UnusableError, match="was not written by us"):
            async with pods.pod():
                pass


def test_a_secret_that_is_short_or_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(UnusableError, match="cannot be read"):
        read_mac_key(tmp_path / "nothing")
    (tmp_path / "short").write_bytes(b"short")
    with pytest.raises(UnusableError, match="has 5 bytes"):
        read_mac_key(tmp_path / "short")


async def test_taking_the_switches_away_lifts_no_stop(tmp_path: Path) -> None:
    """Who can write to the server cannot lift a stop that this pod has heard of."""
    async with pods_on_server(tmp_path) as pods, pods.pod() as store:
        who = await register(store)
        await store.conversations.throw({"scope": "tool", "name": "other"}, standing=True)
        pods.server.command("DEL", store.link.seal.name("switches").decode())
        with refusing(Code.STATE_UNAVAILABLE):
            await store.calls.reserve("c", who, checked(STOCK))


async def test_a_pod_with_another_secret_writes_nothing_also_where_there_is_no_state_yet(tmp_path: Path) -> None:
    """The first pod of a group has left a row."""
    async with pods_on_server(tmp_path) as pods:
        async with pods.pod():
            pass
        before = pods.server.command("DBSIZE")
        (pods.path / "mac.key").write_bytes(b"x" * 32)
        with pytest.raises(UnusableError, match="not written by us: `mac_key_file` is to be the same in all pods"):
            async with pods.pod("b"):
                pass
        assert pods.server.command("DBSIZE") == before


async def test_an_end_in_a_forged_conversation_is_in_nobody_else_s_way(tmp_path: Path) -> None:
    """Of two ends that the server has not heard, and of two calls of a pod that is gone, the other one is ended."""
    async with pods_on_server(tmp_path, deadline=1.0) as pods, pods.pod("b") as b, pods.pod("a") as a:
        whos = [await register(a), await register(a)]
        facts = [await a.calls.reserve(f"c{n}", whos[n], WHAT) for n in range(2)]
        for n in range(2):
            await a.calls.commit(intent(f"c{n}", whos[n], WHAT, facts[n]), durable=False)
        pods.server.command("SET", a.link.seal.name("talk", whos[0].conversation).decode(), "forged")
        pods.server.command("DEL", a.link.seal.name("lease", "a").decode())
        assert await b.pods.end_the_gone() == 0
        with refusing(Code.STATE_UNAVAILABLE):
            await b.pods.end_the_gone()
        assert list(await b.calls.calls_of("a")) == ["c0"]
        assert [record["call"] for record in pods.records("b", kind="terminal")] == ["c1"]


@pytest.mark.parametrize("each", ["each", "each_there"])
async def test_what_is_not_for_a_row_is_raised_at_once(tmp_path: Path, each: str) -> None:
    """A journal that is full is no reason to go on to the next call, and is not passed over."""
    done: list[str] = []

    async def work(name: str) -> None:
        done.append(name)
        raise Refusal(Code.STATE_UNAVAILABLE if name == "forged" else Code.AUDIT_UNAVAILABLE, "as it is")

    async with pods_on_server(tmp_path) as pods, pods.pod() as store:
        with refusing(Code.AUDIT_UNAVAILABLE):
            await getattr(store.link, each)(["forged", "full", "next"], work)
    assert done == ["forged", "full"]
