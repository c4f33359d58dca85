"""Memory limits of containers by the kernel's control groups, version 1 or 2, where this machine lets us make them."""

import contextlib
import os
import time
from dataclasses import dataclass
from itertools import count
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
_turn = count()
_UNITS = {"Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30}


def bytes_of(quantity: str) -> int:
    """A quantity of Kubernetes in bytes: 192Mi."""
    return int(quantity[:-2]) * _UNITS[quantity[-2:]] if quantity[-2:] in _UNITS else int(quantity)


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryGroup:
    """One container's group. `version` of the control groups decides how its files are called."""

    folder: Path
    version: int

    @property
    def peak(self) -> int:
        """The most bytes that were ever charged to it, file cache included."""
        name = "memory.max_usage_in_bytes" if self.version == 1 else "memory.peak"
        return int((self.folder / name).read_text())

    @property
    def killed(self) -> int:
        """How many of its processes the kernel ended for want of memory."""
        text = (self.folder / ("memory.oom_control" if self.version == 1 else "memory.events")).read_text()
        return int(dict(line.split() for line in text.splitlines())["oom_kill"])

    def close(self) -> None:
        """Take it away; its processes have ended."""
        end = time.monotonic() + 5
        while self.folder.exists():
            with contextlib.suppress(OSError):
                self.folder.rmdir()
            if time.monotonic() > end:
                raise AssertionError(f"{self.folder} still has processes")


def memory_group(name: str, limit: str) -> MemoryGroup | None:
    """A group with this limit; None where the machine has no memory controller or does not let us."""
    version, root, file = 1, ROOT / "memory", "memory.limit_in_bytes"
    if not (root / file).exists():
        version, root, file = 2, ROOT, "memory.max"
        delegated = ROOT / "cgroup.subtree_control"
        if not delegated.exists() or "memory" not in delegated.read_text().split():
            return None
    for left in root.glob("sidegate-*"):  # by a test process that was killed: its containers died with it
        with contextlib.suppress(OSError):
            if not Path(f"/proc/{left.name.split('-')[1]}").exists():
                left.rmdir()
    folder = root / f"sidegate-{os.getpid()}-{next(_turn)}-{name}"
    try:
        folder.mkdir()
        (folder / file).write_text(str(bytes_of(limit)))
    except OSError:
        with contextlib.suppress(OSError):
            folder.rmdir()
        return None
    return MemoryGroup(folder=folder, version=version)
