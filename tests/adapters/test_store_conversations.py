"""Conversations of the embedded store when the disk fails."""

from pathlib import Path

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
