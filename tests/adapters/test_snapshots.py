"""The snapshot in force: swapped whole or not at all, from real directories."""

import asyncio
from pathlib import Path

import pytest

from proxy.adapters.snapshots import Announce
from proxy.adapters.watched_file import settled
from proxy.adapters.yaml_file import YamlError
from proxy.core.catalog import CatalogError, cross_check
from proxy.core.tool import Catalog
from tests.adapters.snapshot_world import World, names, new_world


@pytest.fixture
def world(tmp_path: Path) -> World:
    return new_world(tmp_path / "catalog")


async def test_the_first_reload_puts_a_snapshot_in_force(world: World) -> None:
    keeper = world.keeper()
    snapshot = await keeper.reload()
    assert keeper.current() is snapshot
    assert names(keeper) == ["get_stock"]
    assert snapshot.policy_revision == f"p-{snapshot.catalog.revision[:8]}"
    assert world.reported == []


async def test_there_is_no_snapshot_before_the_first_reload(world: World) -> None:
    with pytest.raises(RuntimeError):
        world.keeper().current()
    assert world.keeper().by_policy("p") is None


@pytest.mark.parametrize("text", ["tools: [", "tool: []", "tools: [{name: a, upstream: x, versions: []}]"])
async def test_a_first_catalog_that_is_wrong_is_an_error_and_told_once(world: World, text: str) -> None:
    (world.directory / "tools.yaml").write_text(text)
    with pytest.raises((YamlError, CatalogError), match=r"tools\.yaml"):
        await world.keeper().reload()
    assert world.reported == []


async def test_a_directory_without_catalog_files_is_no_empty_catalog(world: World) -> None:
    (world.directory / "tools.yaml").unlink()
    with pytest.raises(YamlError, match=r"catalog: has no \.yaml or \.yml file"):
        await world.keeper().reload()


async def test_a_wrong_catalog_leaves_the_old_snapshot_in_force_and_says_why(world: World) -> None:
    keeper = world.keeper()
    old = await keeper.reload()
    (world.directory / "more.yaml").write_text("tools: [{name: broken}]")
    assert await keeper.reload() is old
    assert keeper.current() is old
    assert world.reported == [
        ("more.yaml: /tools/0: key 'upstream' is missing", "more.yaml: /tools/0: key 'versions' is missing")
    ]
    assert len(world.prepared) == 1


async def test_a_policy_that_cannot_be_prepared_leaves_the_old_snapshot_in_force(world: World) -> None:
    keeper = world.keeper()
    old = await keeper.reload()
    world.write("other")
    world.fault = TimeoutError("OPA does not serve the new revision")
    assert await keeper.reload() is old
    assert world.reported == [("TimeoutError: OPA does not serve the new revision",)]


async def test_a_cross_check_in_the_preparation_refuses_the_snapshot(world: World) -> None:
    async def prepare(catalog: Catalog, announce: Announce) -> str:
        if problems := cross_check(catalog, tools=["get_stok"]):
            raise CatalogError(problems)
        return "p"

    with pytest.raises(CatalogError, match="the policy names tool 'get_stok', which the catalog does not have"):
        await world.keeper(prepare=prepare).reload()


async def test_the_end_of_a_problem_is_reported_once_and_so_is_the_problem(world: World) -> None:
    keeper = world.keeper()
    await keeper.reload()
    loaded, keeper.loaded_at = keeper.loaded_at, 0.0
    assert (keeper.failing, loaded) == (False, world.clock.now().timestamp())
    world.fault = TimeoutError("slow")
    await keeper.reload()
    await keeper.reload()
    assert (keeper.failing, keeper.loaded_at) == (True, 0.0)
    world.fault = None
    await keeper.reload()
    await keeper.reload()
    assert (keeper.failing, keeper.loaded_at) == (False, loaded)
    assert world.reported == [("TimeoutError: slow",), ()]


async def test_the_last_two_snapshots_are_found_by_their_policy(world: World) -> None:
    keeper = world.keeper()
    snapshots = []
    for name in ("one", "two", "three"):
        world.write(name)
        snapshots.append(await keeper.reload())
    revisions = [s.policy_revision for s in snapshots]
    assert keeper.by_policy(revisions[2]) is keeper.current() is snapshots[2]
    assert keeper.by_policy(revisions[1]) is snapshots[1]
    assert keeper.by_policy(revisions[0]) is None


async def test_reloading_the_same_content_keeps_the_snapshot_before(world: World) -> None:
    keeper = world.keeper()
    first = await keeper.reload()
    world.write("two")
    await keeper.reload()
    await keeper.reload()
    assert keeper.by_policy(first.policy_revision) is first


async def test_a_new_policy_for_the_same_catalog_is_a_new_snapshot(world: World) -> None:
    keeper = world.keeper()
    first = await keeper.reload()
    world.policy = "q"
    second = await keeper.reload()
    assert second.catalog.revision == first.catalog.revision
    assert keeper.current() is second
    assert keeper.by_policy(first.policy_revision) is first


async def test_two_snapshots_under_one_policy_are_the_newer_one(world: World) -> None:
    async def prepare(catalog: Catalog, announce: Announce) -> str:
        return "same"

    keeper = world.keeper(prepare=prepare)
    await keeper.reload()
    world.write("two")
    newer = await keeper.reload()
    assert keeper.by_policy("same") is newer


async def test_reloads_do_not_overlap(world: World) -> None:
    running = 0

    async def prepare(catalog: Catalog, announce: Announce) -> str:
        nonlocal running
        running += 1
        assert running == 1
        await asyncio.sleep(0)
        running -= 1
        return "p"

    keeper = world.keeper(prepare=prepare)
    await asyncio.gather(*(keeper.reload() for _ in range(5)))
    assert world.reported == []


OLD = [("a.yaml", b"1"), ("b.yaml", b"1")]
MIXED = [("a.yaml", b"1"), ("b.yaml", b"2")]
NEW = [("a.yaml", b"2"), ("b.yaml", b"2")]


def test_files_of_two_revisions_are_never_read_as_one() -> None:
    reads = iter([MIXED, NEW, NEW, OLD])
    assert settled(lambda: next(reads), YamlError(["it keeps changing"])) == NEW


def test_a_catalog_that_never_rests_is_an_error() -> None:
    reads = iter([OLD, NEW] * 10)
    with pytest.raises(YamlError, match="keeps changing"):
        settled(lambda: next(reads), YamlError(["it keeps changing"]))


async def test_what_is_announced_is_known_before_it_is_in_force(world: World) -> None:
    """OPA may answer for the new revision before the reload has heard that it does."""
    known: list[bool] = []

    async def prepare(catalog: Catalog, announce: Announce) -> str:
        announce("next")
        snapshot = keeper.by_policy("next")
        known.append(snapshot is not None and snapshot.catalog is catalog)
        return "next"

    keeper = world.keeper(prepare=prepare)
    await keeper.reload()
    assert known == [True]


async def test_what_was_announced_and_then_refused_is_not_known(world: World) -> None:
    """OPA may serve it all the same: then no call is decided by it."""
    keeper = world.keeper()
    old = await keeper.reload()
    world.write("two")
    world.fault = CatalogError(["policies loaded but not listed: extra"])
    await keeper.reload()
    assert keeper.by_policy(f"p-{world.prepared[-1].revision[:8]}") is None
    assert keeper.by_policy(old.policy_revision) is old


async def test_what_opa_may_take_over_late_stays_known_whatever_is_refused_after_it(world: World) -> None:
    keeper = world.keeper()
    await keeper.reload()
    world.write("two")
    world.fault = TimeoutError("slow")
    await keeper.reload()
    late = f"p-{world.prepared[-1].revision[:8]}"
    world.write("three")
    world.fault = CatalogError(["wrong"])
    await keeper.reload()
    found = keeper.by_policy(late)
    assert found is not None
    assert list(found.catalog.tools) == ["two"]
