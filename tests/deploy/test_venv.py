"""deploy/venv.sh and the locks: an environment from exact versions and hashes, and a sentence for each way to fail."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

REPO = Path(__file__).parents[2]
LOCKS = sorted((REPO / "deploy" / "locks").glob("*.txt"))
COMMANDS = ("basename", "bash", "cat", "chmod", "dirname", "env", "mkdir", "rm", "sh", "touch")
PINNED = re.compile(r"([a-zA-Z0-9][a-zA-Z0-9._-]*)==([^\s;]+)( ;[^\\]+)? \\")
HASH = re.compile(r" {4}--hash=sha256:[0-9a-f]{64}( \\)?")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout with the script, a package and one empty lock."""
    made = tmp_path / "a checkout"
    (made / "deploy" / "locks").mkdir(parents=True)
    shutil.copy(REPO / "deploy" / "venv.sh", made / "deploy")
    (made / "deploy" / "locks" / "runtime.txt").write_text("# nothing\n")
    (made / "proxy").mkdir()
    (made / "proxy" / "here.py").write_text("")
    return made


def venv(
    checkout: Path, *words: str, python: str | None = sys.executable, **more: str
) -> "subprocess.CompletedProcess[str]":
    """Run it with a PATH that has the plain commands and, as python3, only what the test gives."""
    path = checkout.parent / "bin"
    path.mkdir(exist_ok=True)
    for command in COMMANDS:
        found = shutil.which(command)
        assert found is not None
        (path / command).unlink(missing_ok=True)
        (path / command).symlink_to(found)
    (path / "python3").unlink(missing_ok=True)
    if python is not None:
        (path / "python3").write_text(f'#!/bin/sh\nexec {python} "$@"\n')
        (path / "python3").chmod(0o755)
    environment = {"PATH": str(path), "SIDEGATE_CACHE": str(checkout.parent / "cache"), "PIP_NO_INDEX": "1"} | more
    return subprocess.run(
        ["/bin/bash", str(checkout / "deploy" / "venv.sh"), *words],
        env={name: value for name, value in environment.items() if value},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


@pytest.mark.parametrize("python", [None, "/bin/false"], ids=["none", "too old"])
def test_no_python_that_serves_is_a_sentence(python: str | None, checkout: Path) -> None:
    done = venv(checkout, "runtime", python=python)
    assert (done.returncode, done.stdout) == (69, "")
    assert done.stderr == "venv.sh: Python 3.11 or newer is needed; SIDEGATE_PYTHON names one that is not on PATH\n"


@pytest.mark.parametrize(
    ("words", "said"), [((), "usage: venv.sh"), (("all",), "cannot read the lock"), (("a", "b"), "usage")]
)
def test_wrong_usage_is_64(words: tuple[str, ...], said: str, checkout: Path) -> None:
    done = venv(checkout, *words)
    assert (done.returncode, done.stdout) == (64, "")
    assert done.stderr.startswith(f"venv.sh: {said}")
    assert len(done.stderr.splitlines()) == 1


def test_a_cache_that_cannot_be_written_is_a_sentence(checkout: Path) -> None:
    done = venv(checkout, "runtime", SIDEGATE_CACHE="/dev/null/cache")
    assert done.returncode == 69
    assert done.stderr == "venv.sh: cannot write to the cache /dev/null/cache\n"


def test_no_place_for_a_cache_is_a_sentence(checkout: Path) -> None:
    done = venv(checkout, "runtime", SIDEGATE_CACHE="")
    assert done.returncode == 64
    assert "SIDEGATE_CACHE, XDG_CACHE_HOME and HOME are all unset" in done.stderr


@pytest.mark.slow
def test_one_environment_per_lock_made_once_and_again_when_it_is_broken(checkout: Path) -> None:
    """The checkout is importable from it and `sidegate` is in it; a second run makes nothing; a changed lock makes another."""
    first = venv(checkout, "runtime")
    assert first.returncode == 0, first.stderr
    assert "making" in first.stderr
    made = Path(first.stdout.strip())
    assert subprocess.run([made / "bin" / "python", "-c", "import proxy.here"], cwd=made, check=False).returncode == 0
    assert os.access(made / "bin" / "sidegate", os.X_OK)

    second = venv(checkout, "runtime")
    assert (second.stdout, second.stderr) == (first.stdout, "")

    (made / "bin" / "python").unlink()
    third = venv(checkout, "runtime")
    assert (third.returncode, third.stdout) == (0, first.stdout)
    assert "making" in third.stderr

    (checkout / "deploy" / "locks" / "runtime.txt").write_text(f"missing==1 \\\n    --hash=sha256:{'0' * 64}\n")
    fourth = venv(checkout, "runtime")
    assert (fourth.returncode, fourth.stdout) == (69, "")
    assert "venv.sh: the packages of runtime.txt could not be installed" in fourth.stderr


@pytest.mark.slow
def test_a_python_without_venv_is_a_sentence(checkout: Path) -> None:
    """As Debian's, without python3-venv."""
    (checkout / "half").write_text(f'#!/bin/sh\ncase "$2" in venv) exit 1;; esac\nexec {sys.executable} "$@"\n')
    (checkout / "half").chmod(0o755)
    done = venv(checkout, "runtime", python=f"'{checkout}/half'")
    assert (done.returncode, done.stdout) == (69, "")
    assert "python3-venv" in done.stderr


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.name)
def test_a_lock_has_exact_versions_and_hashes_and_no_address(lock: Path) -> None:
    """Nothing in it says where packages come from; that is the machine's setting."""
    hashed = False
    for line in lock.read_text().splitlines():
        if not line or line.lstrip().startswith("#"):
            continue
        if pinned := PINNED.fullmatch(line):
            hashed = False
            assert pinned[1].lower() not in {"pip", "setuptools"}
        else:
            assert HASH.fullmatch(line), line
            hashed = True
    assert hashed
    assert not re.search(r"https?:|--(extra-)?index-url|--find-links|--trusted-host| @ |(?m:^)-e ", lock.read_text())


def test_the_locks_agree_and_hold_what_pyproject_asks_for() -> None:
    """The larger lock repeats the smaller one, so that what is tested is what runs."""
    versions: dict[str, dict[str, str]] = {
        lock.stem: {match[1]: match[2] for line in lock.read_text().splitlines() if (match := PINNED.fullmatch(line))}
        for lock in LOCKS
    }
    assert versions["runtime"].items() <= versions["demo"].items() <= versions["test"].items()
    project = tomllib.loads((REPO / "pyproject.toml").read_text())
    for stem, wanted in (
        ("runtime", project["project"]["dependencies"]),
        ("demo", project["project"]["optional-dependencies"]["demo"]),
        ("test", project["dependency-groups"]["test"]),
    ):
        for requirement in wanted:
            name, version = re.sub(r"\[.*?\]", "", requirement).split("==")
            assert {key.lower(): value for key, value in versions[stem].items()}[name.lower()] == version
