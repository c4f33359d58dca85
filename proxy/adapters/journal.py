"""The journal: audit log and write-ahead log in one, JSON lines in linked segment files (design sections 8 and 15).

`append` writes on the event loop (page cache, microseconds, survives kill -9); `flushed` waits for the disk, on the one
writer thread. Nothing here ever truncates or rewrites a line. A descriptor that has failed once is never written again,
since an fsync after an error may lie; the chain goes on in a new segment.
"""

import fcntl
import os
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from proxy.adapters.journal_copy import Copier
from proxy.adapters.journal_file import ChainWriter, End, Head, Limits
from proxy.adapters.journal_reserve import NO_SPACE, Reserve
from proxy.adapters.journal_segment import CHAIN_NAME, JournalError, ends, one_chain, set_aside
from proxy.adapters.journal_writer import Flusher, WriterThread, unwritable
from proxy.core.chain import GENESIS
from proxy.ports import Clock

__all__ = ["Head", "Journal", "JournalError"]

T = TypeVar("T")
_RESERVED_KIND = "terminal"  # may use the reserve: without it, a call that ran would have no end in the record


class Journal:
    """One chain, written by one process. All methods are the event loop's; `open` and `append` need none running."""

    def __init__(
        self, *, lock: int, writer: ChainWriter, reserve: Reserve, clock: Clock, copier: Copier | None, durable: int
    ) -> None:
        """Use `open`."""
        self._lock = lock
        self._writer = writer
        self._reserve = reserve
        self._clock = clock
        self._copier = copier
        self._lost: Counter[str] = Counter()
        self._lost_since = self._lost_until = ""
        self._closed = False
        self._thread = WriterThread()
        self._flusher = Flusher(self._thread, durable=durable, take=writer.take, failed=writer.abandon)

    @classmethod
    def open(  # noqa: PLR0913 - keyword-only, each with its own meaning
        cls,
        directory: Path,
        *,
        chain: str,
        clock: Clock,
        segment_bytes: int = 64 << 20,
        segment_age: float = 86400.0,
        reserve_bytes: int = 1 << 20,
        has_room: Callable[[bool, int], bool] = lambda _last, _written: True,
        copy: BinaryIO | None = None,
        sync: Callable[[int], None] = os.fdatasync,
        expect: int = 0,
    ) -> "Journal":
        """Lock the directory, seal what a crash left torn, and continue the chain in a new segment.

        `expect` is the highest sequence number that must be there (the store's checkpoint); `has_room` as of
        `Volume`. Raises JournalError.
        """
        if not CHAIN_NAME.fullmatch(chain):
            raise JournalError(f"chain {chain!r} is not a name of up to 128 letters, digits, '.', '_' and '-'")
        with ExitStack() as undo:
            lock = _lock(directory)
            undo.callback(os.close, lock)
            try:
                end = _last(directory, chain, expect)
                limits, copier = Limits(size=segment_bytes, age=segment_age), Copier(copy, clock) if copy else None
                lines = None if copier is None else copier.put
                writer = ChainWriter(directory, chain, clock, limits, end=end, sync=sync, copy=lines)
                undo.callback(writer.close)
                reserve = Reserve(directory / "reserve", reserve_bytes, lambda last: has_room(last, writer.written))
                undo.callback(reserve.close)
                reserve.spend(writer.prepare)
            except OSError as error:
                raise JournalError(f"the journal in {directory} cannot be written: {error}") from error
            undo.pop_all()
        return cls(lock=lock, writer=writer, reserve=reserve, clock=clock, copier=copier, durable=end.head.seq)

    @property
    def head(self) -> Head:
        """The last record written (not necessarily durable)."""
        return self._writer.head

    def append(self, record: Mapping[str, Any]) -> int:
        """Write one record with `seq`, `at` and `hash` added; returns its sequence number. The record names its `kind`.

        Raises Refusal audit_unavailable; such records are counted, and a `gap` record says so once writing works again.
        """
        kind = str(record.get("kind", "unknown"))
        try:
            if kind == _RESERVED_KIND:
                self._reserve.spend(lambda: self._append(record))
            else:
                self._append_outside_reserve(record)
        except (OSError, TypeError, ValueError) as error:
            self._miss(kind)
            raise unwritable(error) from error
        return self._writer.head.seq

    def enter(self) -> None:
        """A call is in flight: a flush may wait for it a little."""
        self._flusher.enter()

    def leave(self) -> None:
        """A call has ended, or is held."""
        self._flusher.leave()

    async def flushed(self, seq: int) -> None:
        """Return once record `seq` is on disk. Raises Refusal audit_unavailable if its flush failed."""
        await self._flusher.flushed(seq)

    def on_durable(self, callback: Callable[[int], None]) -> None:
        """Call it on the loop after each successful flush, with the highest durable sequence number."""
        self._flusher.on_durable(callback)

    async def run_in_writer(self, work: Callable[[], T]) -> T:
        """Run blocking work on the writer thread, after pending flushes. Raises what it raises."""
        self._flusher.start()
        return await self._thread.run(work)

    async def close(self) -> None:
        """Flush, stop the thread, unlock. Raises Refusal audit_unavailable if that flush failed. Twice is once."""
        if self._closed:
            return
        self._closed = True
        try:
            await self._flusher.flushed(self.head.seq)
        finally:
            await self._thread.run(lambda: None)
            self._thread.stop()
            if self._copier is not None:
                self._copier.close()
            self._writer.close()
            self._reserve.close()
            os.close(self._lock)

    def _append(self, record: Mapping[str, Any]) -> None:
        if self._closed:
            raise OSError("the journal is closed")
        self._writer.prepare()
        if self._lost:
            self._put_gap()
        self._writer.put(record)

    def _append_outside_reserve(self, record: Mapping[str, Any]) -> None:
        if not self._reserve.is_whole():
            raise OSError("the rest of the volume is kept for terminal records")
        try:
            self._append(record)
        except OSError as error:
            self._reserve.tight = self._reserve.tight or error.errno in NO_SPACE
            raise

    def _miss(self, kind: str) -> None:
        self._lost_until = self._clock.now().isoformat(timespec="microseconds")[:-6] + "Z"
        self._lost_since = self._lost_since or self._lost_until
        self._lost[kind] += 1

    def _put_gap(self) -> None:
        counts = dict(sorted(self._lost.items()))
        self._writer.put({"kind": "gap", "lost": counts, "since": self._lost_since, "until": self._lost_until})
        self._lost.clear()
        self._lost_since = ""


def _lock(directory: Path) -> int:
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise JournalError(f"the journal directory {directory} cannot be used: {error.strerror}") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(lock)
        raise JournalError(f"the journal directory {directory} is in use by another process") from error
    return lock


def _last(directory: Path, chain: str, expect: int) -> End:
    """Where the chain ends, and the torn tails to seal. Sets files aside that hold no whole line; flushes the others,
    since their last lines may be in the page cache only and will be acted upon from now on."""
    segments = one_chain(directory)
    if segments and segments[0].chain != chain:
        raise JournalError(
            f"the journal in {directory} is that of chain {segments[0].chain!r}, not {chain!r}: "
            "continue that chain, or begin in an empty directory"
        )
    scans, tails = ends(segments)
    head = Head(seq=0, hash=GENESIS, segment="", offset=0)
    for segment, found in reversed(scans):
        if found.seq:
            head = Head(seq=found.seq, hash=found.hash, segment=segment.path.name, offset=found.end)
    if head.seq < expect:
        raise JournalError(
            f"the journal in {directory} ends at record {head.seq}, but state was saved at record {expect}: "
            "put the missing segment files back, or remove the state database to rebuild it from what is here"
        )
    renamed = {}
    for segment, found in scans:
        _flush(segment.path)
        if not found.seq:
            renamed[segment.path.name] = set_aside(segment.path)
    return End(head=head, tails=tuple(replace(tail, segment=renamed.get(tail.segment, tail.segment)) for tail in tails))


def _flush(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
