"""The private directory of a supervised OPA: lock, socket, configuration, and the note by which a leftover is found."""

import contextlib
import fcntl
import os
import signal
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson

from proxy.ports import Clock

MAX_SOCKET_PATH = 107  # bytes: sun_path of Linux holds 108 with its final zero (unix(7))
LEFTOVER_SECONDS = 5.0  # for a killed leftover to be gone


class OpaDirectory:
    """`path` is made with mode 0700; it may live as long as the state directory it stands in."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self.socket = self.path / "opa.sock"
        self.config = self.path / "opa.json"
        self._note = self.path / "opa.pid"
        self._lock: int | None = None

    def problem(self) -> str | None:
        """Why no socket can stand in it; None if one can."""
        length = len(os.fsencode(self.socket))
        if length <= MAX_SOCKET_PATH:
            return None
        return f"the socket path {self.socket} has {length} bytes, over {MAX_SOCKET_PATH}: use a shorter directory"

    def take(self) -> None:
        """Make the directory private and lock it for this process. Raises OSError with a sentence."""
        if (problem := self.problem()) is not None:
            raise OSError(problem)
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = self.path.lstat()
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
            raise OSError(f"{self.path} is not a directory of this user's own")
        self.path.chmod(0o700)
        lock = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            raise OSError(f"another running Sidegate uses {self.path}") from None
        self._lock = lock

    def release(self) -> None:
        """Unlock it."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def write_config(self, config: Mapping[str, Any]) -> None:
        """Write OPA's configuration, readable by this user only."""
        self.config.unlink(missing_ok=True)
        descriptor = os.open(self.config, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(orjson.dumps(config))

    def remember(self, pid: int) -> None:
        """Note the process, so that a later start can end it if this one cannot."""
        self._note.write_text(f"{pid} {start_time(pid)}")

    def forget(self) -> None:
        """The process has ended."""
        self._note.unlink(missing_ok=True)

    async def end_leftover(self, clock: Clock) -> None:
        """Kill the process group that an earlier, killed Sidegate left behind. Raises OSError if it stays."""
        pid, started = self._noted()
        if pid is None or started is None or start_time(pid) != started:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)
        until = clock.monotonic() + LEFTOVER_SECONDS
        while start_time(pid) == started:
            if clock.monotonic() > until:
                raise OSError(f"process {pid}, left by an earlier Sidegate, does not end")
            await clock.sleep(0.01)

    def _noted(self) -> tuple[int | None, str | None]:
        try:
            pid, started = self._note.read_text().split()
            return int(pid), started
        except (FileNotFoundError, ValueError):
            return None, None


def start_time(pid: int) -> str | None:
    """When a process started, in the kernel's ticks since boot (field 22 of proc_pid_stat(5)); None if there is none running.

    With the process id it names one process: ids are used again, but not within one tick."""
    try:
        state, *rest = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if state in "ZX" else rest[18]
