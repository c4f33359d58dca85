"""Situations that an SRE is alerted on, each made real in a running sidecar, with a scrape before and one after."""

import asyncio
import json
import os
import resource
import shutil
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from proxy.telemetry import names
from tests.e2e.gates import Gate
from tests.e2e.holds import held_price, review_of
from tests.e2e.rig import Received, Reply, Rig, reply
from tests.e2e.scrapes import Scrape, scrape

Pair = tuple[Scrape, Scrape]
DEADLINE = 5  # seconds that a review stays open, where people are slow
BETWEEN_SCRAPES = 0.1  # seconds; a scrape is costly for both sides


async def healthy(rig: Rig) -> Pair:
    """An ordinary day: most calls go well, one is denied, one is held and approved and runs, one finds its tool failing."""
    handle, buyer = await rig.register("healthy"), await rig.register("buyer")
    held = await held_price(rig, buyer)
    await rig.send(handle, "create_order", {"sku": "S", "quantity": 1000})
    before = await scrape(rig)  # with most series there: what makes one is no increase to Prometheus
    for number in range(40):
        assert (await rig.send(handle, "get_stock", {"sku": f"H{number}"})).status == 200
    assert (await rig.send(handle, "create_order", {"sku": "H", "quantity": 1000})).code == "denied"
    assert (await rig.approve(review_of(held)))[0] == 200
    assert (await rig.post(f"/v1/tool-calls/{held.call_id}/resume", b"", buyer))[0] == 200
    rig.upstream.answer = failing
    assert (await rig.send(handle, "get_stock", {"sku": "H"})).code == "tool_failed"
    rig.upstream.answer = None
    assert (await rig.send(handle, "get_stock", {"sku": "H"})).status == 200
    return before, await scrape(rig)


async def failing(_: Received, writer: asyncio.StreamWriter) -> None:
    """An upstream's bad day."""
    await reply(writer, b'{"error":"no"}', status="500 Internal Server Error")


async def tool_fails(rig: Rig) -> Pair:
    """One tool answers with 500 until its upstream's breaker opens; its upstream's others go down with it for the next 10 s."""
    handle = await rig.register("tool")
    before = await scrape(rig)
    rig.upstream.answer = failing
    codes = [(await rig.send(handle, "create_order", {"sku": f"T{n}", "quantity": 1})).code for n in range(7)]
    rig.upstream.answer = None
    assert codes == ["tool_failed"] * 5 + ["upstream_open"] * 2
    return before, await scrape(rig)


async def refused(rig: Rig) -> Pair:
    """An agent asks for what policy does not give, again and again."""
    handle = await rig.register("refused")
    before = await scrape(rig)
    for number in range(25):
        assert (await rig.send(handle, "create_order", {"sku": f"R{number}", "quantity": 1000})).code == "denied"
    return before, await scrape(rig)


async def opa_killed(rig: Rig) -> Pair:
    """kill -9: calls are refused until the next one is up. Who looked when it was up already tries again."""
    for turn in range(3):
        handle = await rig.register(f"killed-{turn}")
        before = await scrape(rig)
        assert (await killed_at_a_call(rig, handle)).code == "policy_unavailable"

        def restarted(now: Scrape, before: Scrape = before) -> bool:
            return restarts(now) > restarts(before)

        after = await until(rig, restarted, "OPA is started again", pause=0.01)
        await rig.until(rig.ready, "OPA is back")
        if after.value(names.OPA_UP) == 0:
            return before, after
    raise AssertionError("nobody saw that OPA was away before the next one was up")


async def killed_at_a_call(rig: Rig, handle: str) -> Reply:
    """The answer to a call that OPA has before it when it is killed; the next OPA may be up before another call comes."""
    pid = rig.opa_pid()
    os.kill(pid, signal.SIGSTOP)
    asking = asyncio.create_task(rig.send(handle, "get_stock", {"sku": "K"}))

    async def under_way() -> bool:
        return asking.done() or bool((await rig.review("GET", "/v1/status"))[1]["in_flight"])

    await rig.until(under_way, "a call is under way")
    os.kill(pid, signal.SIGKILL)
    return await asking


async def opa_silent(rig: Rig) -> Pair:
    """SIGSTOP: it runs and does not answer. Who notices ends it, too, and soon another one runs: that is another situation, so
    who looked too late tries again."""
    for _ in range(3):
        before, pid = await scrape(rig), rig.opa_pid()

        def noticed(now: Scrape, before: Scrape = before) -> bool:
            return now.value(names.OPA_UP) == 0 or restarts(now) > restarts(before)

        os.kill(pid, signal.SIGSTOP)
        try:
            after = await until(rig, noticed, "it is noticed", 30, pause=0.01)
        finally:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        await rig.until(rig.ready, "OPA is back")
        if restarts(after) == restarts(before):
            return before, after
    raise AssertionError("nobody saw that OPA was silent before it was ended for it")


def restarts(now: Scrape) -> float:
    """Of OPA."""
    return now.value(names.OPA_RESTARTS_TOTAL)


async def unrecorded(rig: Rig) -> Pair:
    """The journal cannot be written: a limit set from outside stands for a broken disk."""
    handle = await rig.register("unrecorded")
    before = await scrape(rig)
    async with unwritable(rig):
        assert (await rig.send(handle, "get_stock", {"sku": "U"})).code == "audit_unavailable"
        after = await scrape(rig)
    return before, after


@asynccontextmanager
async def unwritable(rig: Rig) -> AsyncIterator[None]:
    """No file of the sidecar's can grow."""
    limit = resource.prlimit(rig.pid, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
    try:
        yield
    finally:
        resource.prlimit(rig.pid, resource.RLIMIT_FSIZE, limit)


async def reload_fails(rig: Rig) -> Pair:
    """Somebody delivers a policy with a mistake."""
    before = await scrape(rig)
    rig.put_file("policy.yaml", json.dumps({**rig.policy, "granting": ["nobody"]}))
    after = await until(rig, lambda now: now.value(names.RELOAD_SUCCESSFUL) == 0, "the reload has failed")
    rig.write()
    await until(rig, lambda now: now.value(names.RELOAD_SUCCESSFUL) == 1, "the mistake is mended")
    return before, after


async def policy_changed(rig: Rig) -> Pair:
    """Somebody delivers another policy."""
    before = await scrape(rig)
    rig.policy["arguments"]["create_order"]["limits"]["quantity"]["buyer"] += 1
    rig.write()
    return before, await until(rig, lambda now: revision(now) != revision(before) and agreed(now), "it is in force")


async def skewed(rig: Rig) -> Pair:
    """The policy before comes back under OPA, and not by way of the proxy."""
    bundle = rig.folder / str(rig.settings["state"]) / "bundle" / "policy.tar.gz"
    kept = Path(shutil.copy(bundle, rig.folder / "kept.tar.gz"))
    await policy_changed(rig)
    newer = Path(shutil.copy(bundle, rig.folder / "newer.tar.gz"))
    before = await scrape(rig)
    await asyncio.to_thread(kept.replace, bundle)
    after = await until(rig, lambda now: now.value(names.REVISION_SKEW) == 1, "OPA has the old one")
    await asyncio.to_thread(newer.replace, bundle)
    await until(rig, agreed, "OPA has the new one again")
    return before, after


async def not_enforcing(rig: Rig) -> Pair:
    """A policy is only watched."""
    before = await scrape(rig)
    waiver = {"mode": "warn", "because": "a trial", "until": "2099-12-31"}
    rig.policy["policies"]["combination"] = waiver
    rig.write()
    after = await until(rig, lambda now: now.value(names.NOT_ENFORCING, mode="warn") == 1 and agreed(now), "it watches")
    rig.policy["policies"]["combination"] = "enforce"
    rig.write()
    await until(rig, lambda now: revision(now) == revision(before) and agreed(now), "it is enforced again")
    return before, after


async def people_slow(rig: Rig) -> tuple[Pair, Pair, Pair]:
    """A review waits; then its end cannot be written; then it expires. `review_ttl` is DEADLINE."""
    before = await scrape(rig)
    await held_price(rig, await rig.register("people"))
    async with unwritable(rig):
        waits = await until(rig, lambda now: now.value(names.REVIEWS_OLDEST_SECONDS) > DEADLINE / 2, "it waits")
        overdue = await until(rig, lambda now: now.value(names.REVIEWS_OLDEST_SECONDS) > DEADLINE + 1, "it stays")
    expired = await until(
        rig, lambda now: now.value(f"{names.REVIEW_WAIT_SECONDS}_count", outcome="expired") == 1, "it expires"
    )
    return (before, waits), (waits, overdue), (waits, expired)


async def overloaded(rig: Rig) -> Pair:
    """A call is under way and no other may be: `limits.in_flight` is 1."""
    gate, handle = Gate(), await rig.register("overloaded")
    before = await scrape(rig)
    rig.upstream.answer = gate
    under_way = asyncio.create_task(rig.send(handle, "get_stock", {"sku": "O"}))
    await rig.until(gate.has_one, "a call is under way")
    assert (await rig.send(handle, "get_terms", {"sku": "O"})).code == "overloaded"
    after = await scrape(rig)
    gate.open.set()
    assert (await under_way).status == 200
    rig.upstream.answer = None
    return before, after


async def spans_lost(rig: Rig) -> Pair:
    """No collector where the spans go, and no room to keep them."""
    handle, before = await rig.register("spans"), await scrape(rig)

    async def lost() -> bool:
        await rig.send(handle, "get_stock", {"sku": "L"})
        return (await scrape(rig)).value(names.SPANS_DROPPED_TOTAL) > before.value(names.SPANS_DROPPED_TOTAL)

    await rig.until(lost, "spans are lost")
    return before, await scrape(rig)


async def volume_filled(rig: Rig, volume: Path, leave: float) -> Pair:
    """Something fills the volume but for a share of it."""
    before, left = await scrape(rig), os.statvfs(volume)
    ballast = volume / "ballast"
    with ballast.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, int((left.f_bavail - leave * left.f_blocks) * left.f_frsize))
    after = await scrape(rig)
    ballast.unlink()
    return before, after


def agreed(now: Scrape) -> bool:
    """Whether OPA has told the revision that the proxy has: it is asked once a second."""
    return now.value(names.REVISION_SKEW) == 0


def revision(now: Scrape) -> set[str]:
    """The policy revision that is told."""
    return {dict(labels)["revision"] for name, labels in now.values if name == names.POLICY_REVISION_INFO}


async def until(
    rig: Rig, holds: Callable[[Scrape], bool], what: str, seconds: float = 20.0, pause: float = BETWEEN_SCRAPES
) -> Scrape:
    """The first scrape for which it holds."""
    found: list[Scrape] = []

    async def now() -> bool:
        found[:] = [await scrape(rig)]
        return holds(found[0])

    asked: Callable[[], Awaitable[bool]] = now
    await rig.until(asked, what, seconds, pause)
    return found[0]
