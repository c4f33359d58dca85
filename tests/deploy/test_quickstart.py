"""deploy/quickstart.sh from a copy of this checkout, with nothing of ours installed but what a cache keeps."""

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

REPO = Path(__file__).parents[2]
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def copy_of_the_checkout(target: Path) -> Path:
    """Every file that is, or would be, in the repository."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "-z"], cwd=REPO, capture_output=True, check=True, text=True
    )
    for name in filter(None, listed.stdout.split("\0")):
        if (REPO / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(REPO / name, target / name)
    return target


def cache(folder: Path) -> Path:
    """A cache of this test's own, but for the tools: building OPA has tests of its own."""
    usual = os.environ.get("SIDEGATE_CACHE") or f"{os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache'}/sidegate"
    (Path(usual) / "tools").mkdir(parents=True, exist_ok=True)
    folder.mkdir()
    (folder / "tools").symlink_to(Path(usual) / "tools")
    return folder


@pytest.fixture
def short() -> Iterator[Path]:
    """A temporary directory whose path leaves room for OPA's socket (107 bytes in all)."""
    with tempfile.TemporaryDirectory(prefix="sg-", dir="/tmp") as made:
        yield Path(made)


def test_one_command_from_nothing_and_again_in_seconds(tmp_path: Path, short: Path) -> None:
    """Exit code 0, says what it does and for how long; the second run makes nothing anew. The checkout stays as it was."""
    checkout = copy_of_the_checkout(tmp_path / "a checkout")
    before = sorted(path for path in checkout.rglob("*") if "__pycache__" not in path.parts)
    environment = {k: v for k, v in os.environ.items() if k not in {"PYTHONPATH", "VIRTUAL_ENV"}}
    environment |= {"SIDEGATE_CACHE": str(cache(tmp_path / "cache")), "TMPDIR": str(short)}
    environment["SIDEGATE_OPA__DEADLINE"] = "10s"  # the machine may be busy

    def quickstart() -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            ["bash", str(checkout / "deploy" / "quickstart.sh")],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )

    first = quickstart()
    assert first.returncode == 0, first.stdout[-3000:] + first.stderr[-3000:]
    assert "Every step went as it should" in first.stdout
    for said in ("1/3 Python environment", "making", "2/3 OPA", "3/3 sidegate demo", "done, exit code 0"):
        assert said in first.stderr
    began = time.monotonic()
    second = quickstart()
    assert second.returncode == 0, second.stderr
    assert "making" not in second.stderr
    assert time.monotonic() - began < 90
    assert sorted(path for path in checkout.rglob("*") if "__pycache__" not in path.parts) == before
    assert list(short.iterdir()) == []


def test_a_demo_that_fails_fails_the_command(tmp_path: Path) -> None:
    """The exit code is the demo's. The environment stands in for the two steps before it, which the other test shows."""
    checkout = tmp_path / "checkout"
    (checkout / "deploy").mkdir(parents=True)
    shutil.copy(REPO / "deploy" / "quickstart.sh", checkout / "deploy")
    (tmp_path / "venv" / "bin").mkdir(parents=True)
    for path, text in (
        (checkout / "deploy" / "venv.sh", f"echo '{tmp_path}/venv'"),
        (checkout / "deploy" / "tools.sh", f"echo '{tmp_path}/venv/bin/opa'"),
        (tmp_path / "venv" / "bin" / "sidegate", '#!/bin/sh\necho "asked: $*"\nexit 7'),
    ):
        path.write_text(text)
        path.chmod(0o755)
    done = subprocess.run(
        ["bash", str(checkout / "deploy" / "quickstart.sh"), "--keep"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 7
    assert done.stdout == "asked: demo --keep\n"
    assert "done, exit code 7" in done.stderr
