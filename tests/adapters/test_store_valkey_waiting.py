"""A sign that somebody waits is there while somebody does, also when the pod that gave it is gone."""

from pathlib import Path

from proxy.adapters.store_valkey_waiting import LIVE_MS
from tests.adapters.valkey_rig import pods_on_server


async def test_a_sign_stands_while_somebody_waits_and_runs_out_by_itself(tmp_path: Path) -> None:
    """Two callers are one sign, which the last takes with it."""
    async with pods_on_server(tmp_path) as pods, pods.pod("a") as a, pods.pod("b") as b:
        here, there = a.reviews.waiting, b.reviews.waiting
        async with here.alive_for_all("r"):
            async with here.alive_for_all("r"):
                assert await there.live_anywhere(["r", "other"]) == {"r"}
            assert await there.live_anywhere(["r"]) == {"r"}
            left = int(pods.server.command("PTTL", a.link.seal.name("live", "r").decode())[1:])
            assert 0 < left <= LIVE_MS
            pods.server.command("DEL", a.link.seal.name("live", "r").decode())
            await a.pods.beat()
            assert await there.live_anywhere(["r"]) == {"r"}
        assert await there.live_anywhere(["r"]) == set()
        with here.alive("r"):
            assert await here.live_anywhere(["r"]) == {"r"}
            assert await there.live_anywhere(["r"]) == set()
