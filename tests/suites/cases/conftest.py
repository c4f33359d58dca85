"""The sidecars of the end-to-end tests, for the cases; patient with OPA, since here the machine is never the case."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.e2e.conftest import running, shared
from tests.e2e.rig import Rig, rig

__all__ = ["running", "shared"]

OPA = {"deadline": "5s"}


@pytest_asyncio.fixture(loop_scope="module")
async def prepared(tmp_path: Path) -> AsyncIterator[Rig]:
    """A rig whose sidecar the test starts."""
    async with rig(tmp_path) as made:
        made.settings["opa"] = dict(OPA)
        yield made


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def of_module(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Rig]:
    """One running sidecar for a module, after the module's own `prepare(rig)`. Sound when all tests are through."""
    async with rig(tmp_path_factory.mktemp("shared")) as made:
        made.settings["opa"] = dict(OPA)
        if hasattr(request.module, "prepare"):
            request.module.prepare(made)
        await made.start()
        yield made
        await made.sound()
