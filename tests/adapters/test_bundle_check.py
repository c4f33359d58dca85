"""What was found in order is not checked again, and only that, and only from a memory that is ours alone."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from proxy.adapters.bundle import Assembled, BundleError, Sources, assemble
from proxy.adapters.bundle_check import Checks, check_rego
from tests.adapters.team import REGO, TEAM, sample, sources
from tests.contracts.opa_server import opa_binary


class Counted:
    """An OPA that notes each of its starts."""

    def __init__(self, folder: Path) -> None:
        self.path, self._log = folder / "opa", folder / "starts"
        self.path.write_text(f'#!/bin/sh\necho "$1" >> {self._log}\nexec {opa_binary()} "$@"\n')
        self.path.chmod(0o755)

    def starts(self) -> list[str]:
        """What it was started for since the last look."""
        said = self._log.read_text().split() if self._log.exists() else []
        self._log.unlink(missing_ok=True)
        return sorted(said)


@pytest.fixture
def opa(tmp_path: Path) -> Counted:
    return Counted(tmp_path)


@pytest.fixture
def memory(tmp_path: Path) -> Path:
    return tmp_path / "state" / "checked.json"


async def made(tmp_path: Path, rego: str = TEAM) -> Assembled:
    return await assemble(opa_binary(), sources(tmp_path, rego), sample(team="enforce"), catalog_revision="c1")


async def checked(opa: Counted, memory: Path | None, bundle: Assembled) -> tuple[str, ...]:
    return await check_rego(Checks(opa=opa.path, shipped=REGO, memory=memory), bundle.files, bundle.authors)


async def test_a_bundle_in_order_is_not_checked_again(tmp_path: Path, opa: Counted, memory: Path) -> None:
    """Its warnings are remembered, too; of the shipped files none is linted."""
    bundle = await made(tmp_path, TEAM.replace("\tinput.call", "  input.call"))
    first = await checked(opa, memory, bundle)
    assert opa.starts() == ["capabilities", "check", "fmt", "parse"]
    assert (len(first), await checked(opa, memory, bundle)) == (1, first)
    assert opa.starts() == []


async def test_rego_as_shipped_is_left_to_the_opa_that_serves_it(tmp_path: Path, opa: Counted, memory: Path) -> None:
    """Where a sidecar starts; a build checks it all the same, and one changed byte makes it another's."""
    bundle = await assemble(opa_binary(), Sources(shipped=REGO), sample(), catalog_revision="c1")
    assert await checked(opa, memory, bundle) == ()
    assert opa.starts() == []
    assert await checked(opa, None, bundle) == ()
    assert opa.starts() == ["capabilities", "check"]
    grants = "sidegate/policies/grants/grants.rego"
    changed = replace(bundle, files={**bundle.files, grants: bundle.files[grants] + b"\n"})
    await checked(opa, memory, changed)
    assert opa.starts() == ["capabilities", "check", "fmt", "parse"]


async def test_another_content_or_another_opa_is_checked(tmp_path: Path, opa: Counted, memory: Path) -> None:
    one, two = await made(tmp_path), await made(tmp_path, TEAM.replace("friday", "monday"))
    for bundle in (one, two, one, two):
        await checked(opa, memory, bundle)
    assert opa.starts().count("check") == 2
    opa.path.write_text(opa.path.read_text() + "\n")
    await checked(opa, memory, one)
    assert opa.starts().count("check") == 1


SPOILS: dict[str, Callable[[Path], object]] = {
    "file": lambda memory: memory.chmod(0o666),
    "folder": lambda memory: memory.parent.chmod(0o777),
    "content": lambda memory: memory.write_text("{"),
    "kind": lambda memory: memory.write_text("[3]"),
}


@pytest.mark.parametrize("spoil", SPOILS.values(), ids=SPOILS)
async def test_a_memory_that_others_could_write_is_not_believed(
    tmp_path: Path, opa: Counted, memory: Path, spoil: Callable[[Path], object]
) -> None:
    """Or that cannot be read."""
    bundle = await made(tmp_path)
    await checked(opa, memory, bundle)
    opa.starts()
    spoil(memory)
    await checked(opa, memory, bundle)
    assert "check" in opa.starts()


async def test_what_is_wrong_is_not_remembered_as_right(tmp_path: Path, opa: Counted, memory: Path) -> None:
    bundle = await made(tmp_path)
    wrong = TEAM.replace("input.call.tool", "input.call.tol").encode()
    files = {**bundle.files, "sidegate/policies/team/team.rego": wrong}
    for _ in range(2):
        with pytest.raises(BundleError, match="undefined ref"):
            await check_rego(Checks(opa=opa.path, shipped=REGO, memory=memory), files, bundle.authors)
    assert opa.starts().count("check") == 2


async def test_a_memory_that_cannot_be_written_costs_time_and_nothing_else(tmp_path: Path, opa: Counted) -> None:
    bundle = await made(tmp_path)
    (tmp_path / "file").touch()
    for memory in (None, tmp_path / "file" / "checked.json"):
        assert await checked(opa, memory, bundle) == ()
    assert opa.starts().count("check") == 2
