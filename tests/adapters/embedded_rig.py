"""An embedded store on real files, with a disk whose flush can be made to fail."""

import os
import shutil
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

import orjson

from proxy.adapters.journal import Journal
from proxy.adapters.journal_reader import read
from proxy.adapters.store_embedded import EmbeddedStore, open_store
from proxy.core.hold_rules import HoldLimits
from proxy.core.state import State
from proxy.errors import Refusal
from tests.contracts.store_kit import ManualClock


class Rig:
    """One state directory."""

    def __init__(self, path: Path, clock: ManualClock | None = None) -> None:
        self.path = path
        self.clock = clock or ManualClock()
        self.flush_fails = False
        self.doubtful = False  # a flush has failed, so the journal does not close without saying so

    @property
    def database(self) -> Path:
        return self.path / "state.db"

    @property
    def directory(self) -> Path:
        return self.path / "journal"

    @asynccontextmanager
    async def opened(
        self, *, limits: HoldLimits | None = None, in_memory: int = 10_000
    ) -> AsyncIterator[EmbeddedStore]:
        """The store between start and stop; a fault of the disk ends with the block."""
        journal = Journal.open(self.directory, chain="test", clock=self.clock, sync=self._sync, reserve_bytes=4096)
        try:
            store = await open_store(
                self.database,
                journal,
                self.directory,
                clock=self.clock,
                limits=limits or HoldLimits(),
                in_memory=in_memory,
            )
            try:
                yield store
            finally:
                self.flush_fails = False
                await store.close()
        finally:
            with suppress(Refusal) if self.doubtful else nullcontext():
                await journal.close()

    def replayed(self) -> State:
        """The state as the journal tells it, from its first record on."""
        state = State()
        for record in read(self.directory):
            state.apply(record)
        return state

    def as_after_a_crash(self, path: Path) -> "Rig":
        """A copy of the files as they are now."""
        shutil.copytree(self.path, path)
        return Rig(path, self.clock)

    def _sync(self, descriptor: int) -> None:
        if self.flush_fails:
            self.doubtful = True
            raise OSError("the disk is gone")
        os.fdatasync(descriptor)


def whole(state: State, names: Sequence[str] = ("talk-0", "talk-1", "~implicit")) -> dict[str, Any]:
    """All tables, with these conversations in memory."""
    for name in names:
        state.conversation(name)
    tables = state.tables()
    tables["conversations"] = {name: tables["conversations"].get(name) for name in names}
    found: dict[str, Any] = orjson.loads(orjson.dumps(tables))
    return found
