"""How much room the state has: what the file system says, or less where that speaks of somebody else's disk.

A Kubernetes emptyDir shows the node's file system, while the kubelet evicts the pod, journal and all, once the volume is over its
`sizeLimit`. So where that bound is stated, the journal stops before it, as it does on a full disk.
"""

import os
import shutil
from pathlib import Path

from proxy.ports import Clock

_EVERY = 1.0  # seconds between two measurements for the journal: a stat of each file
_LAST = 20  # this part of the bound may be written beyond it, so that calls under way have their ends recorded


class Volume:
    """The directory of the state. `bound` is what it may take, in bytes; None leaves it to the file system."""

    def __init__(self, directory: Path, bound: int | None, clock: Clock) -> None:
        self._directory = directory
        self._bound = bound
        self._clock = clock
        self._left = self._written = 0
        self._looked = float("-inf")

    @property
    def size(self) -> int:
        """Bytes."""
        total = shutil.disk_usage(self._directory).total
        return total if self._bound is None else min(total, self._bound)

    @property
    def free(self) -> int:
        """Bytes."""
        free = shutil.disk_usage(self._directory).free
        return free if self._bound is None else max(0, min(free, self._bound - _used(self._directory)))

    def has_room(self, last: bool, written: int) -> bool:
        """Whether more may be written: by this second's measurement, less what the journal, which has `written` so many bytes
        in all, has added since. `last` asks for what is kept for ends of calls. Without a bound the disk will say.
        """
        if self._bound is None:
            return True
        now, least = self._clock.monotonic(), -(self._bound // _LAST) if last else 0
        if now - self._looked >= _EVERY:
            self._left, self._looked, self._written = self._bound - _used(self._directory), now, written
        return self._left - (written - self._written) > least


def _used(directory: Path) -> int:
    """Bytes on disk of all files below; what vanishes meanwhile counts as nothing."""
    used = 0
    for folder, _, files in os.walk(directory):
        for name in files:
            try:
                used += Path(folder, name).lstat().st_blocks * 512
            except FileNotFoundError:
                continue
    return used
