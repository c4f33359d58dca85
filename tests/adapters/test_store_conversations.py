"""Conversations of the embedded store when the disk fails."""

from pathlib import Path

from proxy.core.policy_input import timestamp
from proxy.errors import Code
from tests.adapters.embedded_rig import Rig
from tests.contracts.store_kit import refusing, register
from tests.contracts.store_values import checked, registered, tool


async def test_a_registration_and_a_stop_are_acknowledged_only_when_they_are_on_disk(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    async with rig.opened() as store:
        who = await register(store)
        rig.flush_fails = True
        with refusing(Code.AUDIT_UNAVAILABLE):
            await store.conversations.register(registered("talk"))
        with refusing(Code.AUDIT_UNAVAILABLE):
            await store.conversations.throw({"scope": "all"}, standing=True)
        # What could not be made sure of stops all the same.
        assert store.conversations.stopped(who, checked(tool("get_stock"))) == "all calls are stopped"


async def test_a_stop_is_remembered_with_since_when_and_by_whom(tmp_path: Path) -> None:
    """After a restart as before it."""
    rig = Rig(tmp_path)
    async with rig.opened() as store:
        await store.conversations.throw({"scope": "all", "by": "olga"}, standing=True)
        before = dict(store.switches)
        assert (before["all "]["by"], before["all "]["since"]) == ("olga", timestamp(rig.clock.now()))
    async with rig.opened() as store:
        assert store.switches == before
