"""Metrics of pods on a shared store: what is added up over pods is counted once."""

import contextlib
from pathlib import Path

import pytest

from proxy.telemetry import names
from tests.e2e.holds import held_price, review_of
from tests.e2e.redis_server import redis_server
from tests.e2e.rig import Rig, rig
from tests.e2e.scrapes import scrape

pytestmark = pytest.mark.slow


def of_group(made: Rig, url: str, name: str) -> Rig:
    """A pod of the group on this server."""
    (made.folder / "mac.key").write_bytes(b"m" * 32)
    made.settings["store"] = {"valkey": {"url": url, "mac_key_file": "mac.key", "deadline": "2s"}}
    made.settings["agent"]["pod"] = name
    return made


async def told(pods: tuple[Rig, ...], outcome: str) -> tuple[list[float], list[float]]:
    """Reviews that wait, and those that ended so, by pod."""
    now = [await scrape(pod) for pod in pods]
    return (
        [each.value(names.REVIEWS_WAITING) for each in now],
        [each.value(f"{names.REVIEW_WAIT_SECONDS}_count", outcome=outcome) for each in now],
    )


async def test_a_review_waits_where_its_call_is_and_ends_where_it_was_answered(tmp_path: Path) -> None:
    """Held in A, known to B, approved at the desk: one waiting, one approved. The next one expires: in A alone."""
    async with contextlib.AsyncExitStack() as stack:
        server = await stack.enter_async_context(redis_server(tmp_path / "redis"))
        pods = []
        for name in ("a", "b", "desk"):
            (tmp_path / name).mkdir()
            pods.append(of_group(await stack.enter_async_context(rig(tmp_path / name)), server.url, name))
            pods[-1].settings["review_ttl"] = "8s"  # time enough to answer the first
        a, b, desk = pods
        desk.arguments.append("--desk")
        for pod in pods:
            await pod.start()
        held = await held_price(a, await a.register("c1"))

        async def known() -> bool:
            return bool((await b.review("GET", "/v1/reviews"))[1])

        await b.until(known, "B knows of it")
        assert await told((a, b, desk), "approved") == ([1, 0, 0], [0, 0, 0])
        assert (await desk.approve(review_of(held)))[0] == 200

        async def answered() -> bool:
            return (await told((a, b, desk), "approved"))[0] == [0, 0, 0]

        await a.until(answered, "A knows of the answer")
        await held_price(a, await a.register("c2"))

        async def expired() -> bool:
            return (await told((a, b, desk), "expired"))[1] == [1, 0, 0]

        await a.until(expired, "the next one expires")
        assert await told((a, b, desk), "approved") == ([0, 0, 0], [0, 0, 1])
