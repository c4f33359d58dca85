"""System calls that Python 3.11 has no functions for, and what is built of them: namespaces, mounts, dropped privileges."""

import ctypes
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

CLONE_NEWNS, CLONE_NEWUTS, CLONE_NEWIPC = 0x00020000, 0x04000000, 0x08000000
CLONE_NEWPID, CLONE_NEWNET = 0x20000000, 0x40000000
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REMOUNT = 1, 2, 4, 8, 32
MS_BIND, MS_REC, MS_PRIVATE = 0x1000, 0x4000, 0x40000
PR_SET_PDEATHSIG, PR_CAPBSET_READ, PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS = 1, 23, 24, 38
_libc = ctypes.CDLL(None, use_errno=True)


def setns(descriptor: int, kind: int) -> None:
    """Enter a namespace; only the calling thread does."""
    _checked(_libc.setns(descriptor, kind))


def unshare(kinds: int) -> None:
    """Namespaces of one's own."""
    _checked(_libc.unshare(kinds))


def mount(source: str, target: Path, kind: str = "", flags: int = 0, data: str = "") -> None:
    """mount(2)."""
    words = [word.encode() or None for word in (source, str(target), kind)]
    _checked(_libc.mount(*words, ctypes.c_ulong(flags), data.encode() or None))


def prctl(option: int, argument: int = 0) -> int:
    """prctl(2) with one argument."""
    answer: int = _libc.prctl(option, ctypes.c_ulong(argument), ctypes.c_ulong(0), ctypes.c_ulong(0), ctypes.c_ulong(0))
    _checked(answer)
    return answer


def drop_privileges(uid: int, gid: int, groups: list[int]) -> None:
    """An ordinary user for good: no capability can come back, and no program can bring one along."""
    for capability in range(64):
        try:
            prctl(PR_CAPBSET_DROP, capability)
        except OSError:  # the kernel knows no more
            break
    os.setgroups(groups)
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    prctl(PR_SET_NO_NEW_PRIVS, 1)


class Network:
    """A network namespace without a name: it is gone when the last process in it and this object are."""

    def __init__(self) -> None:
        made: list[int] = []
        thread = threading.Thread(target=lambda: made.append(_new_network()))
        thread.start()
        thread.join()
        self.descriptor = made[0]

    @property
    def path(self) -> str:
        """By which other processes find it."""
        return f"/proc/{os.getpid()}/fd/{self.descriptor}"

    @contextmanager
    def inside(self) -> Iterator[None]:
        """What is done in here, without an await, is done in the namespace; sockets made in it stay there."""
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            setns(self.descriptor, CLONE_NEWNET)
            try:
                yield
            finally:
                setns(home, CLONE_NEWNET)
        finally:
            os.close(home)

    def close(self) -> None:
        """Let go of it."""
        os.close(self.descriptor)


def _new_network() -> int:
    unshare(CLONE_NEWNET)
    return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)


def _checked(answer: int) -> None:
    if answer < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
