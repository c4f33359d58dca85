"""A catalog directory, a clock that tests turn, and a policy that is always ready: what a SnapshotKeeper stands between."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pytest

from proxy.adapters.snapshots import Announce, SnapshotKeeper
from proxy.core.tool import Catalog

TOOL = """
upstreams: {{in-agent: {{caller: {{}}}}}}
tools:
  - name: {name}
    upstream: in-agent
    versions: [{{version: "1", arguments_schema: {{type: object}}}}]
"""


@dataclass
class TurnedClock:
    """Port Clock whose sleepers wait for the test to turn it."""

    turns: "asyncio.Queue[None]" = field(default_factory=asyncio.Queue)
    idle: asyncio.Event = field(default_factory=asyncio.Event)
    day: int = 25

    def now(self) -> datetime:
        return datetime(2026, 11, self.day, tzinfo=UTC)

    def monotonic(self) -> float:
        return 0.0

    async def sleep(self, seconds: float) -> None:
        self.idle.set()
        await self.turns.get()

    async def turn(self) -> None:
        """One sleeper wakes up, does its work and sleeps again."""
        self.idle.clear()
        self.turns.put_nowait(None)
        await asyncio.wait_for(self.idle.wait(), 20)


@dataclass
class World:
    """A catalog directory, a policy that is always ready, and what was reported."""

    directory: Path
    clock: TurnedClock = field(default_factory=TurnedClock)
    reported: list[Sequence[str]] = field(default_factory=list)
    prepared: list[Catalog] = field(default_factory=list)
    fault: Exception | None = None
    policy: str = "p"

    def write(self, name: str = "get_stock", file: str = "tools.yaml") -> None:
        (self.directory / file).write_text(TOOL.format(name=name))

    async def prepare(self, catalog: Catalog, announce: Announce) -> str:
        self.prepared.append(catalog)
        revision = f"{self.policy}-{catalog.revision[:8]}"
        announce(revision)
        if self.fault is not None:
            raise self.fault
        return revision

    def keeper(
        self, *also: Path, prepare: Callable[[Catalog, Announce], Awaitable[str]] | None = None
    ) -> SnapshotKeeper:
        return SnapshotKeeper(
            self.directory,
            prepare=prepare or self.prepare,
            report=self.reported.append,
            clock=self.clock,
            also=also,
        )

    @asynccontextmanager
    async def watching(self, keeper: SnapshotKeeper) -> AsyncIterator[None]:
        task = asyncio.create_task(keeper.watch(5.0))
        await asyncio.wait_for(self.clock.idle.wait(), 20)
        yield
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


def names(keeper: SnapshotKeeper) -> list[str]:
    """Tools of the snapshot in force."""
    return list(keeper.current().catalog.tools)


def new_world(directory: Path) -> World:
    """A world whose catalog has one tool, get_stock."""
    world = World(directory=directory)
    world.directory.mkdir()
    world.write()
    return world
