"""Real journals in a test's directory, a clock to move by hand, a disk that waits or fails on demand, a small volume."""

import os
import subprocess
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from proxy.adapters.journal import Journal
from proxy.errors import Code, Refusal

STOP = {"kind": "stop", "by": "ops"}
TERMINAL = {"kind": "terminal", "call": "c1", "pad": "x" * 200}


class StillClock:
    """A clock that a test moves by hand."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def now(self) -> datetime:
        return datetime.fromtimestamp(1_800_000_000 + self.seconds, UTC)

    def monotonic(self) -> float:
        return self.seconds

    async def sleep(self, seconds: float) -> None:
        self.seconds += seconds


class Disk:
    """A port for `sync` that counts, and that can be told to wait or to fail."""

    def __init__(self) -> None:
        self.synced: list[int] = []
        self.error: OSError | None = None
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()
        self.threads: set[int] = set()

    def __call__(self, fd: int) -> None:
        self.entered.set()
        self.gate.wait(10)
        self.synced.append(fd)
        self.threads.add(threading.get_ident())
        if self.error is not None:
            raise self.error
        os.fdatasync(fd)


def start(directory: Path, **options: Any) -> Journal:
    return Journal.open(directory, **{"chain": "pod-a", "clock": StillClock(), "reserve_bytes": 4096, **options})


@asynccontextmanager
async def opened(directory: Path, **options: Any) -> AsyncIterator[Journal]:
    journal = start(directory, **options)
    try:
        yield journal
    finally:
        await journal.close()


def files(directory: Path) -> list[Path]:
    return sorted(directory.glob("*.jsonl"))


def refusal(work: Callable[[], Any]) -> Refusal:
    with pytest.raises(Refusal) as caught:
        work()
    assert caught.value.code is Code.AUDIT_UNAVAILABLE
    return caught.value


@contextmanager
def volume(path: Path, kilobytes: int) -> Iterator[Path]:
    """A small real file system."""
    path.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "none", path], capture_output=True, check=False
    )
    if done.returncode:
        pytest.skip("mounting a tmpfs needs root")
    try:
        yield path
    finally:
        subprocess.run(["umount", "-l", path], check=True)


def remount(path: Path, mode: str) -> None:
    """Make a volume read-only ("ro") or writable again ("rw")."""
    subprocess.run(["mount", "-o", f"remount,{mode}", path], check=True)
