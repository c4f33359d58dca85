"""A server that could lose what it acknowledges is not used; scripts that it has forgotten are given to it again."""

from pathlib import Path

import pytest

from proxy.adapters.state_directory import UnusableError
from proxy.adapters.store_valkey import read_mac_key
from proxy.errors import Code
from tests.adapters.valkey_rig import pods_on_server
from tests.contracts.store_kit import refusing, register, run
from tests.contracts.store_values import checked, tool

STOCK = tool("get_stock")


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
    async with pods_on_server(tmp_path, deadline=0.5) as pods, pods.pod() as store:
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
