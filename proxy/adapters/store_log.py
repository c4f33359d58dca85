"""The embedded store's one way to change state: append to the journal, then fold (design section 8).

The journal is the write-ahead log and the only truth; the checkpoint behind it is a cache that keeps starting fast. So a
checkpoint that cannot be written does not stop calls at once: nothing is lost, and a short fault of the disk passes. But
each record since then must be replayed at the next start and no clean conversation can leave memory, both without bound.
Therefore a fault that lasts (`MAX_FAULT_SECONDS`, or `MAX_BEHIND` records) refuses every call with `state_unavailable`.
"""

import asyncio
import logging
import sqlite3
from collections.abc import Mapping
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any

import orjson

from proxy.adapters.again import again_and_again
from proxy.adapters.journal import Journal
from proxy.adapters.journal_reader import read
from proxy.adapters.journal_segment import JournalError
from proxy.adapters.store_sqlite import Checkpoint, Row, unreadable
from proxy.core.state import Key, State
from proxy.core.state_records import missing_keys
from proxy.errors import Refusal
from proxy.ports import Clock

MAX_FAULT_SECONDS = 60.0
MAX_BEHIND = 100_000  # records, some seconds of replay
SLICE = 128  # changed entities: encoding them takes the loop about a millisecond
PERIOD = 1.0  # seconds
_REPLAY_SLICE = 20_000  # records
_EVICTIONS = 64  # looked at after each slice, so that no turn of the loop is long

_log = logging.getLogger("sidegate")


class StateLog:
    """State, the journal it is a fold of, and the checkpoint that follows it."""

    def __init__(self, *, journal: Journal, checkpoint: Checkpoint, clock: Clock, in_memory: int) -> None:
        self.state = State(fetch=checkpoint.conversation)
        self._journal = journal
        self._checkpoint = checkpoint
        self._clock = clock
        self._in_memory = in_memory
        self._busy: dict[str, int] = {}  # conversation -> reservations in it
        self._lock = asyncio.Lock()
        self._fault_since: float | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._in_flight: set[str] = set()

    async def replay(self, directory: Path) -> None:
        """Load the checkpoint and fold in what the journal has after it, saving now and then, since memory is bounded.

        Raises JournalError if records are missing, damaged or odd, and KeyError, TypeError, ValueError or Refusal for a
        damaged checkpoint.
        """
        state = self.state
        state.seq, state.day = self._checkpoint.seq, self._checkpoint.day
        for table, name, row in self._checkpoint.rows():
            state.load(table, name, row)
        state.arrange()
        for count, record in enumerate(read(directory, after=state.seq), 1):
            self._fold(record)
            if count % _REPLAY_SLICE == 0:
                await self.save()
        if state.seq != self._journal.head.seq:
            raise JournalError(
                f"the journal is at record {self._journal.head.seq}, but {directory} ends at {state.seq}"
            )
        await self.save()

    def refuse_if_behind(self) -> None:
        """Raises Refusal state_unavailable while the checkpoint has been failing for too long."""
        if self._fault_since is None:
            return
        behind = self.state.seq - self._checkpoint.seq
        if self._clock.monotonic() - self._fault_since > MAX_FAULT_SECONDS or behind > MAX_BEHIND:
            raise unreadable(OSError(f"the checkpoint is {behind} records behind and cannot be written"))

    def write(self, record: Mapping[str, Any]) -> int:
        """Append one record and fold it in, in one turn of the loop; returns its sequence number, not yet durable.

        Raises Refusal audit_unavailable or state_unavailable, and then nothing has changed.
        """
        missing = missing_keys(record)
        if missing:
            raise ValueError(f"a record of kind {record['kind']} needs {', '.join(missing)}")
        for name in self.state.conversations_of(record):
            self.state.conversation(name)
        seq = self._journal.append(record)
        self.state.apply({**record, "seq": seq})
        # While the checkpoint fails, `run` tries it once a second: each try encodes all that has changed.
        if len(self.state.dirty) >= SLICE and self._fault_since is None and not self._lock.locked():
            self._spawn()
        return seq

    async def durable(self, seq: int) -> None:
        """Return once record `seq` is on disk. Raises Refusal audit_unavailable."""
        await self._journal.flushed(seq)

    def enter(self, call: str) -> None:
        """A call is in flight: a group flush may wait for it a little."""
        if call not in self._in_flight:
            self._in_flight.add(call)
            self._journal.enter()

    def leave(self, call: str) -> None:
        """A call has ended, or is held."""
        if call in self._in_flight:
            self._in_flight.remove(call)
            self._journal.leave()

    def pin(self, conversation: str) -> None:
        """Keep a conversation in memory."""
        self._busy[conversation] = self._busy.get(conversation, 0) + 1

    def unpin(self, conversation: str) -> None:
        """The opposite of `pin`."""
        self._busy[conversation] -= 1
        if not self._busy[conversation]:
            del self._busy[conversation]

    def used(self, conversation: str) -> None:
        """It is the last to leave memory now."""
        conversations = self.state.conversations
        conversations[conversation] = conversations.pop(conversation)

    def by_handle(self, handle_hash: str) -> str | None:
        """The id of the conversation that has this handle. Raises Refusal state_unavailable."""
        found = self.state.handles.get(handle_hash)
        if found is not None:
            return found
        name = self._checkpoint.by_handle(handle_hash)
        if name is None:
            return None
        # In memory it may have a new handle by now, which the checkpoint does not know of yet.
        conversation = self.state.conversation(name)
        registered = None if conversation is None else conversation.registered
        return name if registered is not None and registered.handle_hash == handle_hash else None

    async def run(self) -> None:
        """Save now and then, until cancelled."""
        await again_and_again(self._clock, PERIOD, self.save, "the checkpoint of state")

    async def save(self) -> None:
        """Write all entities that have changed, with the position, once the journal has it on disk. Never raises for a fault."""
        async with self._lock:
            state = self.state
            if state.seq == self._checkpoint.seq:
                return
            seq, day, changed = state.seq, state.day, state.dirty
            rows = [self._row(key) for key in changed]
            state.dirty, state.unsaved = set(), set()
            try:
                await self._journal.flushed(seq)
                await self._journal.run_in_writer(lambda: self._checkpoint.write(seq, day, rows))
            except Refusal:  # the journal's fault, which refuses calls by itself and may be over with the next record
                state.dirty |= changed
            except sqlite3.Error as error:
                state.dirty |= changed
                if self._fault_since is None:
                    self._fault_since = self._clock.monotonic()
                    fields = {"error": str(error), "refusing_after_seconds": MAX_FAULT_SECONDS}
                    _log.warning("the checkpoint of state cannot be written", extra={"fields": fields})
            except asyncio.CancelledError:
                state.dirty |= changed
                raise
            else:
                if self._fault_since is not None:
                    _log.info("the checkpoint of state is written again")
                self._fault_since = None
                self._evict()

    async def close(self) -> None:
        """Save what has changed and close the checkpoint. The journal is its opener's to close."""
        for task in self._tasks:
            task.cancel()
        for task in list(self._tasks):
            with suppress(asyncio.CancelledError):
                await task
        await self.save()
        self._checkpoint.close()

    def start(self) -> None:
        """Begin to save in the background."""
        self._keep(asyncio.create_task(self.run()))

    def _spawn(self) -> None:
        self._keep(asyncio.create_task(self.save()))

    def _keep(self, task: asyncio.Task[None]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _fold(self, record: Mapping[str, Any]) -> None:
        try:
            self.state.apply(record)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise JournalError(f"record {record['seq']} of the journal cannot be read as a change of state") from error

    def _row(self, key: Key) -> Row:
        table, name = key
        found = self.state.row(key)
        registered = self.state.conversations[name].registered if table == "conversation" else None
        handle = None if registered is None else registered.handle_hash
        return table, name, handle, None if found is None else orjson.dumps(found)

    def _evict(self) -> None:
        """Let clean, idle conversations leave memory, the longest unused first. They are read again when asked for."""
        conversations, state = self.state.conversations, self.state
        over = len(conversations) - self._in_memory
        if over <= 0:
            return
        for name in list(islice(conversations, over + _EVICTIONS)):
            if over <= 0:
                return
            if not self._needed(name):
                state.evict(name)
                over -= 1

    def _needed(self, name: str) -> bool:
        return name in self._busy or ("conversation", name) in self.state.dirty or bool(self.state.holds.open(name))
