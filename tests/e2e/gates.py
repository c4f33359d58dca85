"""An upstream that answers only when a test says so."""

import asyncio
from dataclasses import dataclass, field

from tests.e2e.upstream import Received, echo


@dataclass(slots=True)
class Gate:
    """Set as `upstream.answer`: `arrived` counts, `open` lets answers go (an asyncio.Event of the test's loop)."""

    open: asyncio.Event = field(default_factory=asyncio.Event)
    arrived: int = 0

    async def __call__(self, request: Received, writer: asyncio.StreamWriter) -> None:
        self.arrived += 1
        await self.open.wait()
        await echo(request, writer)

    async def has_one(self) -> bool:
        """Whether something has arrived."""
        return self.arrived > 0
