"""Running sidecars for the commands that speak to one."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.e2e.rig import Rig, rig


@pytest.fixture
async def prepared(tmp_path: Path) -> AsyncIterator[Rig]:
    """A rig whose sidecar the test starts."""
    async with rig(tmp_path) as made:
        yield made


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Rig]:
    """One sidecar for all tests of a module. Reviewer's tokens are in files named after them."""
    async with rig(tmp_path_factory.mktemp("sidecar")) as made:
        for name, token in made.reviewers.items():
            (made.folder / f"{name}.token").write_text(f"{token}\n")
        (made.folder / "user.token").write_text(made.users["ada"])
        await made.start()
        yield made
