"""Watching the catalog and the policy's files by their content."""

import os
from pathlib import Path

import pytest

from proxy.adapters.bundle_check import BundleError
from proxy.core.catalog import CatalogError
from tests.adapters.snapshot_world import World, names, new_world


@pytest.fixture
def world(tmp_path: Path) -> World:
    return new_world(tmp_path / "catalog")


async def test_watching_reloads_what_has_changed_and_nothing_else(world: World) -> None:
    keeper = world.keeper()
    await keeper.reload()
    async with world.watching(keeper):
        await world.clock.turn()
        os.utime(world.directory / "tools.yaml")
        await world.clock.turn()
        assert len(world.prepared) == 1
        world.write("two")
        await world.clock.turn()
        assert names(keeper) == ["two"]


async def test_watching_sees_the_swap_of_a_mounted_config_map(world: World) -> None:
    (world.directory / "tools.yaml").unlink()
    for name in ("one", "two"):
        (world.directory / f"..{name}").mkdir()
        world.write(name, f"..{name}/tools.yaml")
    (world.directory / "..data").symlink_to("..one")
    (world.directory / "tools.yaml").symlink_to("..data/tools.yaml")
    keeper = world.keeper()
    await keeper.reload()
    async with world.watching(keeper):
        (world.directory / "..data_tmp").symlink_to("..two")
        (world.directory / "..data_tmp").rename(world.directory / "..data")
        await world.clock.turn()
        assert names(keeper) == ["two"]


async def test_a_new_file_a_removed_file_and_a_renamed_file_are_changes(world: World) -> None:
    keeper = world.keeper()
    await keeper.reload()
    async with world.watching(keeper):
        (world.directory / "z.yaml").write_text("systems: {crm: {}}")
        await world.clock.turn()
        assert "crm" in keeper.current().catalog.systems
        (world.directory / "z.yaml").rename(world.directory / "y.yaml")
        await world.clock.turn()
        assert len(world.prepared) == 3
        (world.directory / "y.yaml").unlink()
        await world.clock.turn()
        assert "crm" not in keeper.current().catalog.systems


async def test_a_change_of_the_policys_files_is_a_reload_too(world: World, tmp_path: Path) -> None:
    policies = tmp_path / "policies"
    (policies / "team").mkdir(parents=True)
    settings = tmp_path / "policy.yaml"
    keeper = world.keeper(policies, settings)
    await keeper.reload()
    async with world.watching(keeper):
        (policies / "team" / "team.rego").write_text("package x")
        await world.clock.turn()
        settings.write_text("a: 1")
        await world.clock.turn()
        await world.clock.turn()
    assert len(world.prepared) == 3


async def test_content_that_is_wrong_in_itself_is_tried_once(world: World) -> None:
    keeper = world.keeper()
    await keeper.reload()
    world.fault = CatalogError(["the policy names a tool that is not there"])
    async with world.watching(keeper):
        world.write("two")
        for _ in range(3):
            await world.clock.turn()
        assert len(world.prepared) == 2
        (world.directory / "tools.yaml").write_text("tools: [")
        for _ in range(3):
            await world.clock.turn()
    assert len(world.reported) == 2
    assert len(world.prepared) == 2


async def test_a_preparation_that_failed_for_the_moment_is_tried_again(world: World) -> None:
    keeper = world.keeper()
    await keeper.reload()
    world.fault = TimeoutError("slow")
    async with world.watching(keeper):
        world.write("two")
        await world.clock.turn()
        assert names(keeper) == ["get_stock"]
        world.fault = None
        await world.clock.turn()
        assert names(keeper) == ["two"]
    assert world.reported == [("TimeoutError: slow",), ()]


async def test_a_place_that_cannot_be_looked_into_does_not_end_the_watch(world: World, tmp_path: Path) -> None:
    keeper = world.keeper(tmp_path / ("x" * 300))
    await keeper.reload()
    async with world.watching(keeper):
        await world.clock.turn()
        world.write("two")
        await world.clock.turn()
        assert names(keeper) == ["two"]
    assert len(world.prepared) == 2


async def test_a_new_day_is_a_reload_since_waivers_and_tools_may_have_ended(world: World) -> None:
    keeper = world.keeper()
    await keeper.reload()
    async with world.watching(keeper):
        await world.clock.turn()
        assert len(world.prepared) == 1
        world.clock.day += 1
        await world.clock.turn()
        await world.clock.turn()
    assert len(world.prepared) == 2


async def test_an_opa_command_that_failed_is_no_fault_of_the_content(world: World) -> None:
    keeper = world.keeper()
    await keeper.reload()
    world.fault = BundleError(["opa check did not end within 30 s"], passing=True)
    async with world.watching(keeper):
        world.write("two")
        await world.clock.turn()
        world.fault = None
        await world.clock.turn()
        assert names(keeper) == ["two"]
