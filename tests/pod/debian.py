"""Programs of Debian for tests, unpacked beside the machine's own and seen only by those who are started with them."""

import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

SECONDS = 300  # for each download
_OVERLAY = 'mount -t overlay -o "lowerdir=$0/usr:/usr" none /usr && exec "$@"'


def cache() -> Path:
    """Where things that take long are kept between runs, as `deploy/tools.sh` keeps its own."""
    home = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    made = Path(os.environ.get("SIDEGATE_CACHE") or f"{home}/sidegate") / "pod"
    made.mkdir(parents=True, exist_ok=True)
    return made


def with_programs(*packages: str) -> list[str]:
    """What to put before a command so that it finds these packages installed: an overlay over /usr in a mount namespace of
    its own. Empty if the machine has them. Raises AssertionError with apt's words if they cannot be had."""
    missing = _missing(*packages)
    if not missing:
        return []
    root = cache() / f"debian-{hashlib.sha256(' '.join(missing).encode()).hexdigest()[:12]}"
    if not root.exists():
        _unpack([name.partition("_")[0] for name in missing], root)
    return ["unshare", "--mount", "--propagation", "private", "sh", "-c", _OVERLAY, str(root)]


def _missing(*packages: str) -> list[str]:
    """Files of the packages and of what they need, without what is there already, perhaps in an older version."""
    command = ["apt-get", "install", "--print-uris", "-qq", "--no-install-recommends", *packages]
    done = _run(command, check=False)
    if done.returncode:  # a fresh machine has no lists of packages
        _run(["apt-get", "-q", "update"])
        done = _run(command)
    installed = _run(["dpkg-query", "--show", "--showformat", "${db:Status-Status} ${Package}\n"]).stdout.splitlines()
    files = sorted(line.split()[1] for line in done.stdout.splitlines() if line.startswith("'"))
    return [name for name in files if f"installed {name.partition('_')[0]}" not in installed]


def _unpack(names: list[str], root: Path) -> None:
    with tempfile.TemporaryDirectory(dir=root.parent) as folder:
        Path(folder).chmod(0o755)
        _run(["apt-get", "-q", "download", *names], cwd=folder)
        draft = Path(folder) / "root"
        draft.mkdir()
        for package in sorted(Path(folder).glob("*.deb")):
            _run(["dpkg-deb", "-x", str(package), str(draft)])
        if not root.exists():
            shutil.move(draft, root)


def _run(command: list[str], cwd: str = "/", *, check: bool = True) -> "subprocess.CompletedProcess[str]":
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False, timeout=SECONDS)
    if check and done.returncode:
        raise AssertionError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr[-2000:]}")
    return done
