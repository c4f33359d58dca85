"""State of one pod: read from memory, written to the journal (design section 8). The default."""

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from proxy.adapters.journal import Journal
from proxy.adapters.journal_segment import JournalError
from proxy.adapters.store_calls import EmbeddedCalls
from proxy.adapters.store_conversations import EmbeddedConversations
from proxy.adapters.store_log import StateLog
from proxy.adapters.store_reviews import EmbeddedReviews
from proxy.adapters.store_sqlite import Checkpoint, begin_anew, open_checkpoint
from proxy.core.hold_rules import HoldLimits
from proxy.core.review import Review
from proxy.errors import Refusal
from proxy.ports import Clock

IN_MEMORY = 10_000  # conversations


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddedStore:
    """The three ports over one state."""

    calls: EmbeddedCalls
    reviews: EmbeddedReviews
    conversations: EmbeddedConversations
    log: StateLog
    clock: Clock

    @property
    def in_memory(self) -> int:
        """How many conversations are."""
        return len(self.log.state.conversations)

    @property
    def switches(self) -> Mapping[str, Any]:
        """Stop switches that stand."""
        return self.log.state.switches

    def now(self) -> datetime:
        """What time it is for reviews: this pod's."""
        return self.clock.now()

    def open_reviews(self) -> list[Review]:
        """Those that are pending or approved."""
        return [hold.review for hold in self.log.state.holds.open()]

    def status(self) -> Mapping[str, Any]:
        """What reviewers are shown."""
        return {"kind": "embedded"}

    async def recover(self) -> int:
        """Give each call that was executing when the last process died its terminal record. Before serving; returns how many."""
        return await self.calls.recover()

    async def close(self) -> None:
        """Save and close. Before the journal is closed."""
        await self.log.close()


async def open_store(
    database: Path,
    journal: Journal,
    directory: Path,
    *,
    clock: Clock,
    limits: HoldLimits,
    in_memory: int = IN_MEMORY,
) -> EmbeddedStore:
    """Rebuild state from the checkpoint in `database` and what `journal`, in `directory`, has after it; save in the background.

    A damaged checkpoint is set aside and built anew from the whole journal. Raises JournalError, with a sentence.
    """

    async def rebuilt(checkpoint: Checkpoint) -> StateLog:
        log = StateLog(journal=journal, checkpoint=checkpoint, clock=clock, in_memory=in_memory)
        try:
            await log.replay(directory)
        except BaseException:
            checkpoint.close()
            raise
        return log

    try:
        checkpoint = open_checkpoint(database)
        try:
            log = await rebuilt(checkpoint)
        except (Refusal, KeyError, TypeError, ValueError):
            log = await rebuilt(begin_anew(database))
    except (OSError, sqlite3.Error) as error:
        raise JournalError(f"the state database {database} cannot be used: {error}") from error
    log.start()
    calls = EmbeddedCalls(log, clock)
    return EmbeddedStore(
        calls=calls,
        reviews=EmbeddedReviews(log, clock, calls, limits),
        conversations=EmbeddedConversations(log, clock),
        log=log,
        clock=clock,
    )
