"""A small disk of its own for the state, which can be full or read-only, and a wall clock of its own for the sidecar."""

import contextlib
import os
import shutil
import struct
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Volume:
    """A tmpfs."""

    path: Path

    def fill(self, leave: int) -> None:
        """Leave so many bytes of it, though others write at the same time."""
        size = max(4096, shutil.disk_usage(self.path).free - (1 << 20))
        with (self.path / "filler").open("wb") as file, contextlib.suppress(OSError):
            os.posix_fallocate(file.fileno(), 0, size)
            while True:
                os.posix_fallocate(file.fileno(), size, 4096)
                size += 4096
        os.truncate(self.path / "filler", max(0, size - leave))

    def free(self) -> None:
        """Give the room back."""
        (self.path / "filler").unlink(missing_ok=True)

    def remount(self, how: str) -> None:
        """`ro` or `rw`. The kernel refuses `ro` while a file is open for writing, so no sidecar may be running."""
        subprocess.run(["mount", "-o", f"remount,{how}", str(self.path)], check=True, capture_output=True)


@contextlib.contextmanager
def volume(path: Path, size: int) -> Iterator[Volume | None]:
    """Mounted for as long as needed; None where this user may not mount."""
    path.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size},mode=0700", "sidegate-faults", str(path)]
    if subprocess.run(mount, check=False, capture_output=True).returncode != 0:
        yield None
        return
    try:
        yield Volume(path)
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)


@dataclass(frozen=True, slots=True)
class Wall:
    """The sidecar's wall clock: `environment` for its process, `step` while it runs."""

    library: Path
    offset: Path

    @property
    def environment(self) -> dict[str, str]:
        return {"LD_PRELOAD": str(self.library), "FAULTS_CLOCK": str(self.offset)}

    def step(self, seconds: int) -> None:
        """Let it show so many seconds more than the true time. Written in place, since it is mapped."""
        with self.offset.open("r+b") as file:
            file.write(struct.pack("=q", seconds))


def wall(folder: Path) -> Wall | None:
    """Compiled here; None where there is no C compiler."""
    compiler = shutil.which("cc")
    if compiler is None:
        return None
    made = Wall(folder / "clock.so", folder / "clock.offset")
    made.offset.write_bytes(struct.pack("=q", 0))
    source = Path(__file__).with_name("clock.c")
    subprocess.run([compiler, "-O1", "-shared", "-fPIC", "-o", str(made.library), str(source), "-ldl"], check=True)
    return made
