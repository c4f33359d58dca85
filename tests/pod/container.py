"""Runs one container as a container runtime does: python container.py SPEC.json (see `Spec`).

Namespaces of its own (mount, process, IPC, host name), the pod's network, a read-only root, an ordinary user, no capability,
no new privileges. The program is process 1 there, so that signals without a handler do nothing, as in a pod. Everything in it
ends with it, and it ends with who started it. Not rebuilt: seccomp, limits of CPU.
"""

import json
import os
import signal
import socket
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path

from tests.pod import kernel

_DEVICES = ("null", "zero", "full", "random", "urandom")


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """`mounts` are [folder or file of the machine, place in the container, may it be written]; `pid_file` gets the pid of
    process 1 as the machine sees it; an empty `network` is the machine's own; `group` is a control group to be in."""

    root: str
    network: str
    argv: list[str]
    env: dict[str, str]
    uid: int
    gid: int
    groups: list[int]
    cwd: str = "/"
    hostname: str = "pod"
    mounts: list[tuple[str, str, bool]] = field(default_factory=list)
    pid_file: str = ""
    group: str = ""

    def text(self) -> str:
        """For the command line."""
        return json.dumps(asdict(self))


def main(spec: Spec) -> int:
    """Start it and wait; its exit code, or 128 and its signal."""
    kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)
    if spec.group:
        (Path(spec.group) / "cgroup.procs").write_text(str(os.getpid()))
    if spec.network:
        network = os.open(spec.network, os.O_RDONLY | os.O_CLOEXEC)
        kernel.setns(network, kernel.CLONE_NEWNET)
    kernel.unshare(kernel.CLONE_NEWNS | kernel.CLONE_NEWPID | kernel.CLONE_NEWIPC | kernel.CLONE_NEWUTS)
    child = os.fork()
    if child == 0:
        _become(spec)
    if spec.pid_file:
        draft = Path(f"{spec.pid_file}.draft")
        draft.write_text(str(child))
        draft.rename(spec.pid_file)
    for number in (signal.SIGTERM, signal.SIGINT):  # whoever asks us asks it
        signal.signal(number, lambda got, _: os.kill(child, got))
    _, status = os.waitpid(child, 0)
    return 128 + os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)


def _become(spec: Spec) -> None:
    try:
        _mount_all(spec)
        os.chroot(spec.root)
        os.chdir(spec.cwd)
        kernel.drop_privileges(spec.uid, spec.gid, spec.groups)
        kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)  # after the change of user, which clears it
        os.umask(0o022)
        os.execvpe(spec.argv[0], spec.argv, spec.env)
    except OSError as fault:
        os.write(2, f"container.py: {spec.argv[0]}: {fault}\n".encode())
    finally:
        os._exit(127)


def _mount_all(spec: Spec) -> None:
    """The root read-only, the volumes in it, and the few devices and the /proc that every container has."""
    kernel.mount("none", Path("/"), "", kernel.MS_REC | kernel.MS_PRIVATE)
    root = Path(spec.root)
    kernel.mount(spec.root, root, "", kernel.MS_BIND)
    guarded = kernel.MS_NOSUID | kernel.MS_NODEV
    kernel.mount("proc", root / "proc", "proc", guarded | kernel.MS_NOEXEC)
    kernel.mount("tmpfs", root / "dev", "tmpfs", kernel.MS_NOSUID, "mode=755,size=64k")
    for device in _DEVICES:
        (root / "dev" / device).touch()
        kernel.mount(f"/dev/{device}", root / "dev" / device, "", kernel.MS_BIND)
    for source, place, writable in spec.mounts:
        target = root / place.lstrip("/")
        kernel.mount(source, target, "", kernel.MS_BIND)
        only = 0 if writable else kernel.MS_RDONLY
        kernel.mount("none", target, "", kernel.MS_BIND | kernel.MS_REMOUNT | guarded | only)
    socket.sethostname(spec.hostname)
    kernel.mount("none", root, "", kernel.MS_BIND | kernel.MS_REMOUNT | guarded | kernel.MS_RDONLY)


if __name__ == "__main__":
    sys.exit(main(Spec(**json.loads(sys.argv[1]))))
