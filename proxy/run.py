"""A call under way, and how it may be ended from outside."""

import asyncio
from dataclasses import dataclass

from proxy.core.trail import Stage, Trail
from proxy.model import Answer


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One call under way: a task that outlives the handler, and a sign that what could say no before it was sent has spoken."""

    trail: Trail
    task: asyncio.Task[Answer]
    decided: asyncio.Event

    @property
    def handed_over(self) -> bool:
        """Whether the agent itself is to run the tool."""
        checked = self.trail.checked
        return checked is not None and checked.tool.upstream.kind == "caller"

    def end(self) -> None:
        """End it, with its record. What has been sent is not known then."""
        if self.trail.stage is not Stage.CONCLUDING:
            self.task.cancel()

    def leave(self) -> None:
        """Its caller hung up: nothing new is sent for it, but what has been sent is carried to its end."""
        self.trail.caller_gone = True
        if self.trail.stage is Stage.DECIDING:
            self.task.cancel()
