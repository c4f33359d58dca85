"""Writing one chain of lines into linked segment files: rotation, descriptors, what has to be flushed."""

import errno
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import orjson

from proxy.adapters.journal_segment import Tail, scan, set_aside
from proxy.core.chain import seal_line, segment_name
from proxy.ports import Clock

_OWN_KEYS = frozenset({"seq", "at", "hash"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """The last record: its number and hash, the segment it is in, and the byte offset at which the next line begins."""

    seq: int
    hash: str
    segment: str
    offset: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """When a segment is full: bytes, and seconds since it was opened."""

    size: int
    age: float


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """Where a chain on disk ends, and the torn tails that have to be sealed."""

    head: Head
    tails: tuple[Tail, ...] = ()


class ChainWriter:
    """The end of the chain, and the descriptor it is written to. All methods but the flush that `take` returns are the loop's."""

    def __init__(
        self,
        directory: Path,
        chain: str,
        clock: Clock,
        limits: Limits,
        *,
        end: End,
        sync: Callable[[int], None],
        copy: Callable[[bytes], None] | None,
    ) -> None:
        self.head = end.head
        self.written = 0  # bytes, by this process
        self._path = directory
        self._chain = chain
        self._clock = clock
        self._limits = limits
        self._sync = sync
        self._copy = copy
        self._tails = list(end.tails)  # torn bytes that no seal names yet
        self._fd: int | None = None
        self._reason = "start"
        self._opened_at = 0.0
        self._retired: list[int] = []  # no longer written, still to be flushed and closed
        self._directory_fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._new_names = False

    def prepare(self) -> None:
        """Have a segment with room. Raises OSError; then the next call tries again with a new segment."""
        if self._fd is not None:
            reason = self._full()
            if reason is None:
                return
            self._retire(reason)
        self._begin()

    def put(self, record: Mapping[str, Any]) -> None:
        """Write one record as the next line. Raises OSError, TypeError and ValueError (not a record)."""
        if "kind" not in record or not _OWN_KEYS.isdisjoint(record):
            raise ValueError("a record has a kind, and neither seq, at nor hash")
        at = self._clock.now().isoformat(timespec="microseconds")[:-6] + "Z"
        seq = self.head.seq + 1
        body = orjson.dumps({"seq": seq, "at": at, **record}, option=orjson.OPT_UTC_Z)
        if b"\n" in body:
            raise ValueError("a record is one line")
        line, digest = seal_line(self.head.hash, body)
        self._write(line)
        head = self.head
        self.head = Head(seq=seq, hash=digest, segment=head.segment, offset=head.offset + len(line))
        if self._copy is not None:
            self._copy(line)

    def take(self) -> tuple[int, Callable[[], None]]:
        """The last sequence number written, and the blocking flush that makes it durable (for the writer thread)."""
        retired, self._retired = self._retired, []
        names, self._new_names = self._new_names, False
        fd, sync, directory_fd = self._fd, self._sync, self._directory_fd

        def flush() -> None:
            try:
                for each in (*retired, fd):
                    if each is not None:
                        _flush(each, sync)
                if names:
                    os.fsync(directory_fd)
            finally:
                for each in retired:
                    os.close(each)

        return self.head.seq, flush

    def abandon(self) -> int:
        """After a failed flush: never touch these descriptors again. Returns the last sequence number in doubt."""
        if self._fd is not None:
            self._retire("error")
        for fd in self._retired:
            with suppress(OSError):
                os.close(fd)
        self._retired = []
        self._new_names = True  # names may be as doubtful as bytes
        return self.head.seq

    def close(self) -> None:
        """Close what is open; flush before."""
        self.abandon()
        os.close(self._directory_fd)

    def _full(self) -> str | None:
        if self.head.offset >= self._limits.size:
            return "size"
        return "age" if self._clock.monotonic() - self._opened_at >= self._limits.age else None

    def _retire(self, reason: str) -> None:
        if self._fd is not None:
            self._retired.append(self._fd)
        self._fd, self._reason = None, reason

    def _write(self, line: bytes) -> None:
        if self._fd is None:
            raise OSError("no segment is open")
        offset = self.head.offset
        try:
            written = os.write(self._fd, line)
        except OSError:
            self._torn(line, os.fstat(self._fd).st_size - offset)
            raise
        self.written += written
        if written < len(line):
            self._torn(line, written)
            raise OSError(errno.ENOSPC, "short write")

    def _torn(self, line: bytes, length: int) -> None:
        if length > 0:
            digest = sha256(line[:length]).hexdigest()
            self._tails.append(Tail(segment=self.head.segment, offset=self.head.offset, length=length, sha256=digest))
        self._retire("error")

    def _begin(self) -> None:
        """Open the next segment; its first records link it to the one before and seal what is torn there."""
        before = self.head
        name = segment_name(self._chain, before.seq + 1)
        self._fd = fd = _create(self._path / name)
        self._opened_at = self._clock.monotonic()
        self._new_names = True
        self.head = Head(seq=before.seq, hash=before.hash, segment=name, offset=0)
        previous = {"segment": before.segment or None, "hash": before.hash}
        try:
            self.put({"kind": "segment", "chain": self._chain, "previous": previous, "reason": self._reason})
        except OSError:
            # It holds no record: it never was.
            self._retired.remove(fd)
            os.close(fd)
            self._tails = [tail for tail in self._tails if tail.segment != name]
            self.head = before
            with suppress(OSError):
                (self._path / name).unlink()
            raise
        while self._tails:
            self.put(self._tails[0].record())
            del self._tails[0]


def _create(path: Path) -> int:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
    try:
        return os.open(path, flags, 0o600)
    except FileExistsError:  # left by an attempt that could not write one line, and could not remove it either
        if scan(path).seq:
            raise
        set_aside(path)
        return os.open(path, flags, 0o600)


def _flush(fd: int, sync: Callable[[int], None]) -> None:
    sync(fd)
    if os.fstat(fd).st_nlink == 0:
        raise OSError("a segment file was deleted")
