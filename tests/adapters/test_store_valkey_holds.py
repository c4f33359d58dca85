"""Limits hold for all pods together, and what is long over is forgotten by all."""

import asyncio
from pathlib import Path

import pytest

from proxy.adapters.store_valkey_rows import FORMAT, UNKNOWN
from proxy.adapters.store_valkey_troubles import why
from proxy.core.hold_rules import HoldLimits
from proxy.core.review import ReviewStatus
from proxy.errors import Code, Refusal
from tests.adapters.valkey_rig import LATER, pods_on_server
from tests.contracts.store_kit import hold, refusing, register
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


@pytest.mark.parametrize(
    ("format_", "sentence"), [(LATER, UNKNOWN.format(LATER)), (FORMAT, "does not hold what it should")]
)
async def test_a_review_that_a_later_version_has_written_is_in_no_other_s_way(
    tmp_path: Path, format_: int, sentence: str
) -> None:
    """Whoever asks for it is told why; others are asked for, found, answered and expire. It comes back when it can be read."""
    async with pods_on_server(tmp_path) as pods, pods.pod("a") as a, pods.pod("b") as b:
        whos = [await register(a) for _ in range(3)]
        one, two = await hold(a, whos[0], checked(PRICES)), await hold(a, whos[1], checked(PRICES))
        seal = a.link.seal
        key, counter, index = (seal.name(*n).decode() for n in (("review", one.id), ("reviews",), ("changes",)))
        readable = pods.server.command("GET", key).split(b"\r\n")[1].decode()
        for row in (key, seal.name("talk", whos[0].conversation).decode()):
            pods.rewrite_later(row, format_=format_)
        pods.server.commands(("ZADD", index, "3", one.id), ("SET", counter, "3"))
        for store in (a, b):
            await store.pods.beat()
            assert [review.id for review in await store.reviews.find()] == [two.id]
            for ask in (store.reviews.find(review_id=one.id), store.reviews.outcome(one.id, 0)):
                with pytest.raises(Refusal) as found:
                    await ask
                assert sentence in why(found.value)
        await b.reviews.resolve(two.id, ReviewStatus.REJECTED, "rita", None)
        three = await hold(b, whos[2], checked(PRICES))
        pods.clock.advance(3600)
        await a.pods.beat()
        assert await a.reviews.expire() == 1
        assert [review.status for review in await b.reviews.find(review_id=three.id)] == [ReviewStatus.EXPIRED]
        at = int(pods.server.command("GET", counter).split(b"\r\n")[1])
        pods.server.commands(
            ("SET", key, readable), ("ZADD", index, str(at + 1), one.id), ("SET", counter, str(at + 1))
        )
        await a.pods.beat()
        assert [review.id for review in a.open_reviews()] == [one.id]


async def test_a_review_that_somebody_has_forged_refuses(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Nobody knows in which conversation it was: no call is let through without it."""
    async with pods_on_server(tmp_path) as pods, pods.pod("a") as a, pods.pod("b") as b:
        who = await register(a)
        asked = await hold(a, who, checked(PRICES))
        pods.server.command("SET", a.link.seal.name("review", asked.id).decode(), "forged")
        with refusing(Code.STATE_UNAVAILABLE):
            await b.pods.beat()
        with refusing(Code.STATE_UNAVAILABLE):
            await b.calls.reserve("c", who, checked(PRICES))
        assert "was not written by us" in caplog.text


async def test_one_that_is_due_in_a_conversation_that_cannot_be_read_keeps_no_other_from_a_person(
    tmp_path: Path,
) -> None:
    async with pods_on_server(tmp_path) as pods, pods.pod("a") as a:
        whos = [await register(a) for _ in range(3)]
        for who in whos[:2]:
            await hold(a, who, checked(PRICES))
        pods.rewrite_later(a.link.seal.name("talk", whos[0].conversation).decode())
        pods.clock.advance(3600)
        assert await a.reviews.expire() == 1
        await hold(a, whos[2], checked(PRICES))


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
