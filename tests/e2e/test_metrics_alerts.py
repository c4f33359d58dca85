"""Alert rules on what a running proxy exposes: each fires in its situation, and none for a proxy that does well.

The situations are real (tests/e2e/situations.py), the hours are promtool's (tests/e2e/scrapes.py).
"""

import asyncio
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from proxy.telemetry import names
from tests.e2e import situations
from tests.e2e.rig import free_ports, rig
from tests.e2e.scrapes import Scrape, Segment, Timeline, firing
from tests.e2e.situations import Pair

pytestmark = pytest.mark.slow

HOURS = 4 * 60  # minutes
CRITICAL, WARNING, INFO = "critical", "warning", "info"


# Of two ordinary sidecars, in order: a tool that fails takes its upstream's others with it for a while, and so comes last.
CALLS = ("healthy", "refused", "opa_killed", "unrecorded", "opa_silent", "tool_fails")
CHANGES = ("reload_fails", "policy_changed", "skewed", "not_enforcing")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def seen(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Pair]:
    """Every situation. The sidecars that they are made in run side by side, since most of the time they wait."""
    async with asyncio.TaskGroup() as group:
        ordinary = [
            group.create_task(one_after_the_other(tmp_path_factory.mktemp("ordinary"), wanted))
            for wanted in (CALLS, CHANGES)
        ]
        narrow = group.create_task(little_room(tmp_path_factory.mktemp("narrow")))
    return ordinary[0].result() | ordinary[1].result() | narrow.result()


async def one_after_the_other(folder: Path, wanted: tuple[str, ...]) -> dict[str, Pair]:
    """Situations of an ordinary sidecar."""
    async with rig(folder) as made:
        await made.start()
        return {name: await getattr(situations, name)(made) for name in wanted}


async def little_room(folder: Path) -> dict[str, Pair]:
    """Situations of a sidecar with little room: one call at a time, a short deadline for people; then one without a collector."""
    async with rig(folder) as made:
        made.settings |= {"review_ttl": f"{situations.DEADLINE}s", "limits": {"in_flight": 1}}
        await made.start()
        waits, overdue, expired = await situations.people_slow(made)
        found = {"waits": waits, "overdue": overdue, "expired": expired}
        found["overloaded"] = await situations.overloaded(made)
        await made.stop()
        made.environment = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{next(free_ports(1))}",
            "OTEL_BSP_MAX_QUEUE_SIZE": "4",
            "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "4",
        }
        await made.start()
        return found | {"spans_lost": await situations.spans_lost(made)}


@pytest.fixture(scope="module")
def volume(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A small volume of its own."""
    place = tmp_path_factory.mktemp("volume")
    try:
        mounting = ["mount", "-t", "tmpfs", "-o", "size=32m", "tmpfs", str(place)]
        subprocess.run(mounting, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no right to mount, and a volume that fills up needs a volume")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def drawn(pair: Pair, minutes: int, *, times: int = 1, glide: tuple[str, ...] = ()) -> Segment:
    return Segment(before=pair[0], after=pair[1], minutes=minutes, times=times, glide=glide)


def one(*segments: Segment) -> Timeline:
    """One pod."""
    return Timeline(pods={"agent-1": segments})


async def test_nothing_fires_for_a_proxy_that_does_well(seen: dict[str, Pair], tmp_path: Path) -> None:
    """Four hours of calls, some denied, held, approved, failing at the tool; nor one that nobody calls."""
    assert firing(one(drawn(seen["healthy"], HOURS)), tmp_path, ever=True) == set()
    idle = (seen["healthy"][0], seen["healthy"][0])
    assert firing(one(drawn(idle, 120)), tmp_path, ever=True) == set()


async def test_no_proxy_at_all_is_noticed(tmp_path: Path) -> None:
    """Without series no other alert can fire."""
    assert firing(Timeline(), tmp_path) == {("SidegateAbsent", CRITICAL)}


@pytest.mark.parametrize(
    ("situation", "minutes", "alerts"),
    [
        ("tool_fails", 20, {("SidegateToolFailing", WARNING)}),
        ("refused", 20, {("SidegateRefusalsSurge", WARNING)}),
        ("reload_fails", 10, {("SidegateReloadFailed", WARNING)}),
        ("policy_changed", 10, {("SidegatePolicyChanged", INFO)}),
        ("skewed", 10, {("SidegateRevisionSkew", CRITICAL)}),
        ("not_enforcing", 20, {("SidegateNotEnforcing", WARNING)}),
        (
            "opa_silent",
            10,
            {("SidegateOpaDown", CRITICAL)},
        ),
        (
            "opa_killed",
            40,
            {
                *(
                    ("SidegateFailingClosed", CRITICAL),
                    ("SidegateOpaDown", CRITICAL),
                    ("SidegateOpaRestarting", WARNING),
                ),
                *(("SidegateBudgetBurn", CRITICAL), ("SidegateBudgetBurn", WARNING)),
            },
        ),
        (
            "unrecorded",
            60,
            {
                ("SidegateFailingClosed", CRITICAL),
                ("SidegateBudgetBurn", CRITICAL),
                ("SidegateBudgetBurn", WARNING),
            },
        ),
    ],
)
async def test_what_goes_wrong_is_told_and_nothing_else(
    seen: dict[str, Pair], tmp_path: Path, situation: str, minutes: int, alerts: set[tuple[str, str]]
) -> None:
    """Half an hour of what was before, then the situation again and again."""
    before = seen[situation][0]
    assert firing(one(drawn((before, before), 30), drawn(seen[situation], minutes)), tmp_path) == alerts


@pytest.mark.parametrize(
    ("situation", "minutes", "alerts"),
    [
        ("waits", 10, {("SidegateReviewWaiting", WARNING)}),
        ("overdue", 10, {("SidegateReviewWaiting", WARNING), ("SidegateReviewOverdue", CRITICAL)}),
        ("expired", 10, {("SidegateReviewsExpire", WARNING)}),
        ("overloaded", 20, {("SidegateOverloaded", WARNING)}),
        ("spans_lost", 40, {("SidegateSpansDropped", WARNING)}),
    ],
)
async def test_want_of_room_is_told_and_nothing_else(
    seen: dict[str, Pair], tmp_path: Path, situation: str, minutes: int, alerts: set[tuple[str, str]]
) -> None:
    """Of people's time, of calls at once, of a collector."""
    assert firing(one(drawn(seen[situation], minutes)), tmp_path) == alerts


async def test_one_failure_wakes_nobody(seen: dict[str, Pair], tmp_path: Path) -> None:
    """OPA dies once and is back: the refusals of that second are over before anybody could look."""
    day, once, quiet = seen["healthy"], seen["opa_killed"], seen["healthy"][0]
    told = firing(one(drawn(day, 60), drawn(once, 1), drawn((quiet, quiet), 60)), tmp_path, ever=True)
    assert told == set()


async def test_a_slow_burn_is_a_ticket_and_a_fast_one_a_page(seen: dict[str, Pair], tmp_path: Path) -> None:
    """One call in 250 fails, hour after hour: four times what the objective allows. Then one in ten."""
    slow = mixed(seen, every=250)
    fast = mixed(seen, every=10)
    burning = {severity for alert, severity in firing(slow, tmp_path) if alert == "SidegateBudgetBurn"}
    assert burning == {WARNING}
    burning = {severity for alert, severity in firing(fast, tmp_path) if alert == "SidegateBudgetBurn"}
    assert burning == {WARNING, CRITICAL}


def mixed(seen: dict[str, Pair], *, every: int) -> Timeline:
    """Hours in which one of so many calls fails closed: the failing and the good ones as two pods."""
    failing, good = seen["unrecorded"], seen["healthy"]
    failed = grown(failing, names.FAIL_CLOSED_TOTAL)
    wanted = round(every * 5 * failed / grown(good, names.DECISIONS_TOTAL))
    assert min(failed, wanted) >= 1
    return Timeline(
        pods={"agent-1": [drawn(failing, HOURS, times=5)], "agent-2": [drawn(good, HOURS, times=wanted)]},
    )


def grown(pair: Pair, name: str) -> float:
    """By how much a counter grew, over all labels."""

    def total(scrape: Scrape) -> float:
        return sum(value for (found, _), value in scrape.values.items() if found == name)

    return total(pair[1]) - total(pair[0])


async def test_refusals_of_three_times_the_usual_share_are_a_surge(seen: dict[str, Pair], tmp_path: Path) -> None:
    """Hours with one denial in 44, then one in five: not most, but unusual."""
    usual, surge = drawn(seen["healthy"], HOURS), drawn(mixture(seen, healthy=3), 20)
    assert firing(one(usual, surge), tmp_path) == {("SidegateRefusalsSurge", WARNING)}


def mixture(seen: dict[str, Pair], *, healthy: int) -> Pair:
    """The denials of `refused` beside so many times what an ordinary day has."""
    (calm, day), (quiet, loud) = seen["healthy"], seen["refused"]
    values = dict(day.values)
    for series in loud.values:
        if series[0] in loud.growing:
            before = quiet.values.get(series, 0.0)
            ordinary = day.values.get(series, 0.0) - calm.values.get(series, 0.0)
            values[series] = calm.values.get(series, 0.0) + healthy * ordinary + loud.values[series] - before
    return calm, Scrape(values=values, growing=day.growing)


async def test_pods_of_one_agent_that_disagree_are_told(seen: dict[str, Pair], tmp_path: Path) -> None:
    """Once it lasts longer than a roll-out; and not while it does."""
    old, new = seen["policy_changed"]
    for minutes, alerts in ((10, set()), (30, {("SidegateRevisionsDiffer", WARNING)})):
        pods = {"agent-1": [drawn((old, old), minutes)], "agent-2": [drawn((new, new), minutes)]}
        assert firing(Timeline(pods=pods), tmp_path, ever=True) == alerts


async def test_a_volume_that_fills_up_is_told_before_it_is_full(
    volume: Path, tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> None:
    """By where it goes, and by where it is. One that is far from full is nobody's business, though it fills."""
    async with rig(tmp_path_factory.mktemp("volume")) as made:
        made.settings["state"] = str(volume / "state")
        await made.start()
        nearly = await situations.volume_filled(made, volume, leave=0.04)
        half = await situations.volume_filled(made, volume, leave=0.4)
        little = await situations.volume_filled(made, volume, leave=0.6)
    free = (names.JOURNAL_FREE_BYTES,)
    assert firing(one(drawn(nearly, 10)), tmp_path) == {("SidegateAuditVolumeFull", CRITICAL)}
    assert firing(one(drawn(half, 6 * 60, glide=free)), tmp_path) == {("SidegateAuditVolumeFilling", WARNING)}
    assert firing(one(drawn(little, 6 * 60, glide=free)), tmp_path) == set()
