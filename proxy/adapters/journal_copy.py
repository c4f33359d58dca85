"""A copy of the journal's lines to another stream (standard output), which can neither stop nor slow the journal."""

import logging
import threading
from queue import Full, Queue
from typing import BinaryIO

from proxy.adapters.seldom import Seldom
from proxy.ports import Clock

_LINES = 10_000

_log = logging.getLogger("sidegate")


class Copier:
    """A thread of its own, because a pipe that nobody reads blocks. Lines that do not fit its queue are dropped."""

    def __init__(self, target: BinaryIO, clock: Clock) -> None:
        self.left_out = 0
        self._target = target
        self._seldom = Seldom(clock)
        self._queue: Queue[bytes | None] = Queue(_LINES)
        self._thread = threading.Thread(target=self._work, name="sidegate-journal-copy", daemon=True)
        self._thread.start()

    def put(self, line: bytes) -> None:
        """Queue one line, or drop it: whoever reads the copy finds a gap in the chain, and the journal itself has it."""
        try:
            self._queue.put_nowait(line)
        except Full:
            self.left_out += 1
            if self._seldom.due("full") is not None:
                fields = {"left_out": self.left_out}
                _log.warning(
                    "standard output is not read fast enough: lines of the copy are left out", extra={"fields": fields}
                )

    def close(self, seconds: float = 1.0) -> None:
        """Copy what is queued, for at most so long."""
        if not self._thread.is_alive():
            return
        try:
            self._queue.put(None, timeout=seconds)
        except Full:
            return
        self._thread.join(seconds)

    def _work(self) -> None:
        while (line := self._queue.get()) is not None:
            try:
                self._target.write(line)
                self._flush_when_idle()
            except (OSError, ValueError):  # the other end is gone; the journal itself is not concerned
                return

    def _flush_when_idle(self) -> None:
        if self._queue.empty():
            self._target.flush()
