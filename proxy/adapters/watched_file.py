"""A file that is read again when it changes: tokens, keys and credentials rotate without a restart.

Kubernetes swaps mounted files by renaming the `..data` symlink: what is watched is the file behind the path (inode, mtime,
size), so a swap, a rename and a write in place all count. A change that cannot be used never replaces what worked.
"""

import hashlib
import logging
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

from proxy.ports import Clock

T = TypeVar("T")

INTERVAL = 1.0  # seconds between two looks at the file
LIMIT = 4 * 1024 * 1024  # bytes
_READS = 5

_log = logging.getLogger(__name__)


class UnusableFileError(ValueError):
    """There has been no usable content yet. The text names the path and the problem, never the content."""


class WatchedFile(Generic[T]):
    """The parsed content of a file, never older than `interval` seconds.

    `parse` raises ValueError with a sentence that quotes nothing of the content; of any other exception only the type is told.
    `report` gets one sentence for each new problem while the last good content stays in use.
    """

    def __init__(
        self,
        path: Path,
        parse: Callable[[bytes], T],
        clock: Clock,
        *,
        interval: float = INTERVAL,
        report: Callable[[str], None] = _log.warning,
    ) -> None:
        self._path = path
        self._parse = parse
        self._clock = clock
        self._interval = interval
        self._report = report
        self._looked: float | None = None
        self._signature: tuple[int, ...] | None = None
        self._settled = False
        self._digest: bytes | None = None
        self._problem: str | None = None
        self._good: tuple[T] | None = None

    def value(self) -> T:
        """The last good content. Raises UnusableFileError if there never was any."""
        now = self._clock.monotonic()
        if self._looked is None or now - self._looked >= self._interval:
            self._looked = now
            self._look()
        if self._good is None:
            raise UnusableFileError(f"{self._path}: {self._problem}")
        return self._good[0]

    def _look(self) -> None:
        try:
            # The status is taken before the content: a change in between is seen at the next look.
            signature = _signature(self._path.stat())
            if signature == self._signature and self._settled:
                return
            content = self._read()
        except OSError as e:
            self._signature = self._digest = None
            self._fail(f"cannot be read: {os.strerror(e.errno) if e.errno else type(e).__name__}")
            return
        except ValueError as e:
            self._fail(str(e))
            return
        # Two writes within one tick of the file system's clock look alike: what is new is read once more at the next look.
        self._settled = signature == self._signature
        self._signature = signature
        digest = hashlib.sha256(content).digest()
        if digest != self._digest:
            self._digest = digest
            self._accept(content)

    def _read(self) -> bytes:
        if not stat.S_ISREG(self._path.stat().st_mode):
            raise ValueError("is not a regular file")  # a pipe would block the event loop
        with self._path.open("rb") as file:
            content = file.read(LIMIT + 1)
        if len(content) > LIMIT:
            raise ValueError(f"is larger than {LIMIT} bytes")
        return content

    def _accept(self, content: bytes) -> None:
        try:
            self._good = (self._parse(content),)
            self._problem = None
        except ValueError as e:
            self._fail(str(e))
        except Exception as e:  # noqa: BLE001 - whatever a parser trips over, what worked stays; libraries quote content
            self._fail(type(e).__name__)

    def _fail(self, problem: str) -> None:
        """Where there is no good content, who asks for it is told."""
        if problem != self._problem and self._good is not None:
            self._report(f"{self._path}: {problem}; the last good content stays in use")
        self._problem = problem


def _signature(status: os.stat_result) -> tuple[int, ...]:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def settled(read: Callable[[], T], restless: Exception) -> T:
    """What two reads in a row agree on: a mounted ConfigMap is swapped as a whole, which can happen between two files of one
    read. Raises `restless` if it does not come to rest."""
    before = read()
    for _ in range(_READS):
        now = read()
        if now == before:
            return now
        before = now
    raise restless
