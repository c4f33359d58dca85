"""The embedded store passes the contract, and is what the journal says at any moment."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from proxy.adapters.journal import Journal
from proxy.adapters.store_embedded import EmbeddedStore, open_store
from proxy.core.hold_rules import HoldLimits
from tests.contracts.store import StoreContract
from tests.contracts.store_kit import ManualClock, Place


class TestContract(StoreContract):
    """On real files."""

    @pytest.fixture
    def place(self, tmp_path: Path) -> Place:
        clock = ManualClock()

        @asynccontextmanager
        async def opened(limits: HoldLimits) -> AsyncIterator[EmbeddedStore]:
            journal = Journal.open(tmp_path / "journal", chain="test", clock=clock)
            store = await open_store(tmp_path / "state.db", journal, tmp_path / "journal", clock=clock, limits=limits)
            yield store
            await store.close()
            await journal.close()

        return Place(clock=clock, factory=opened)
