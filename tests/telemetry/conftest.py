"""Fixtures of telemetry tests."""

from collections.abc import AsyncIterator

import pytest

from tests.telemetry.receiver import Receiver, receiving


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    """A collector on loopback."""
    async with receiving() as running:
        yield running
