"""Disk space kept for terminal records: a preallocated file, given up piece by piece once the volume is full.

A file rather than a look at free space, because it also holds against other writers on the volume and costs nothing
while there is room.
"""

import errno
import os
from collections.abc import Callable
from pathlib import Path

NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT})
_PIECES = 4


class Reserve:
    """`tight` from the first refused byte until the reserve is whole again.

    `has_room` says the same where the volume itself would not refuse: whether more may be written, and, asked with True, whether
    at least ends of calls may (`volume`).
    """

    def __init__(self, path: Path, size: int, has_room: Callable[[bool], bool]) -> None:
        self._size = size
        self._has_room = has_room
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self.tight = False
        self.restore()

    def is_whole(self) -> bool:
        """Whether there is room for more than what the reserve is kept for."""
        return self._has_room(False) and (not self.tight or self.restore())

    def restore(self) -> bool:
        """Allocate the whole reserve; False (and tight) if the volume has no room for it."""
        try:
            os.posix_fallocate(self._fd, 0, self._size)
        except OSError:
            self.tight = True
        else:
            self.tight = False
        return not self.tight

    def release(self) -> bool:
        """Give up a piece; False if there is none left."""
        self.tight = True
        held = os.fstat(self._fd).st_size
        if held == 0:
            return False
        os.ftruncate(self._fd, max(0, held - self._size // _PIECES))
        return True

    def spend(self, work: Callable[[], None]) -> None:
        """Do `work`, again for each piece given up while the volume is full. Raises what it raises at last."""
        if not self._has_room(True):
            raise OSError(errno.ENOSPC, "the state takes all that `limits.state_bytes` lets it have")
        while True:
            try:
                return work()
            except OSError as error:
                if error.errno not in NO_SPACE or not self.release():
                    raise

    def close(self) -> None:
        """Close the file; what it holds stays reserved for the next start."""
        os.close(self._fd)
