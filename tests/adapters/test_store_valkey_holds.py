"""Limits hold for all pods together, and what is long over is forgotten by all."""

import asyncio
from pathlib import Path

from proxy.core.hold_rules import HoldLimits
from proxy.core.review import ReviewStatus
from proxy.errors import Code, Refusal
from tests.adapters.valkey_rig import pods_on_server
from tests.contracts.store_kit import hold, register
from tests.contracts.store_values import checked, tool

PRICES = tool("get_prices", system="pricing", labels=["prices"])


async def test_limits_of_holds_are_shared_also_when_all_ask_at_once(tmp_path: Path) -> None:
    """Ten through two pods with room for three."""
    limits = HoldLimits(total=3)
    async with pods_on_server(tmp_path) as pods, pods.pod("a", limits=limits) as a, pods.pod("b", limits=limits) as b:
        callers = [await register(a) for _ in range(10)]
        ends = await asyncio.gather(
            *(hold((a, b)[n % 2], who, checked(PRICES)) for n, who in enumerate(callers)), return_exceptions=True
        )
        refused = [end for end in ends if isinstance(end, Refusal)]
        assert {refusal.code for refusal in refused} == {Code.OVERLOADED}
        assert len(refused) == 7
        assert len(await a.reviews.find()) == len(await b.reviews.find()) == 3


async def test_rejections_are_counted_over_all_pods(tmp_path: Path) -> None:
    async with pods_on_server(tmp_path) as pods, pods.pod("a") as a, pods.pod("b") as b:
        who = await register(a)
        for store in (a, b, a):
            asked = await hold(store, who, checked(PRICES))
            await b.reviews.resolve(asked.id, ReviewStatus.REJECTED, "rita", None)
        refusal = (await asyncio.gather(hold(b, who, checked(PRICES)), return_exceptions=True))[0]
        assert isinstance(refusal, Refusal)
        assert refusal.code is Code.DENIED


async def test_a_pod_that_comes_late_knows_all_that_is_open(tmp_path: Path) -> None:
    """More than it reads at once."""
    limits = HoldLimits(total=1000, principal=1000, agent=1000, conversation=1000, new_per_hour=1000)
    async with pods_on_server(tmp_path) as pods, pods.pod("a", limits=limits) as a:
        who = await register(a)
        for _ in range(230):
            await hold(a, who, checked(PRICES))
        async with pods.pod("b") as b:
            assert len(b.open_reviews()) == 230


async def test_a_row_that_the_server_has_forgotten_is_forgotten_here(tmp_path: Path) -> None:
    """What has been concluded for a week leaves by itself."""
    async with pods_on_server(tmp_path) as pods, pods.pod("a") as a:
        asked = await hold(a, await register(a), checked(PRICES))
        await a.reviews.resolve(asked.id, ReviewStatus.REJECTED, "rita", None)
        key = a.link.seal.name("review", asked.id).decode()
        assert pods.server.command("TTL", key)[1:-2].isdigit()
        pods.server.command("DEL", key)
        async with pods.pod("b") as b:
            assert await b.reviews.find() == []
        assert pods.server.command("ZCARD", a.link.seal.name("changes").decode()) == b":0\r\n"
