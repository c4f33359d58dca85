"""A fresh sidecar for each test."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.e2e.rig import Rig, rig


@pytest.fixture
async def prepared(tmp_path: Path) -> AsyncIterator[Rig]:
    """A rig whose sidecar the test starts."""
    async with rig(tmp_path) as made:
        yield made


@pytest.fixture
async def running(prepared: Rig) -> Rig:
    """A rig with its sidecar running."""
    await prepared.start()
    return prepared
