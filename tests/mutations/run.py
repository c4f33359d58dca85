"""`python -m tests.mutations.run [--only N] [--write]`: takes one guard away at a time, in a copy of the tree, and expects red.

First the tests pass unbroken, once. Then, for each guard, its tests have to fail; which one did stands in the table, which
`--write` puts into tests/mutations/REPORT.md. Exit code 1 if a break goes unnoticed.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tests.mutations.guard import Guard
from tests.mutations.guards import GUARDS

REPO = Path(__file__).parents[2]
REPORT = Path(__file__).with_name("REPORT.md")
_FAILED = re.compile(r"^(?:FAILED|ERROR) (\S+)", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """One guard taken away: the test that turned red, or what happened instead."""

    guard: Guard
    red: str | None
    said: str
    seconds: float


def copy_tree(to: Path) -> None:
    """All files that belong to the repository as they are now, and no link into it."""
    listed = subprocess.run(
        ["git", "ls-files", "-coz", "--exclude-standard"], cwd=REPO, check=True, capture_output=True
    ).stdout
    for name in listed.decode().split("\0"):
        source = REPO / name
        if name and source.is_file():
            target = to / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(source.read_bytes())
            target.chmod(source.stat().st_mode)


def pytest(tree: Path, tests: Sequence[str], *options: str) -> tuple[int, str]:
    """Exit code and output of some tests of a tree."""
    command = [sys.executable, "-m", "pytest", "-q", "--no-header", "-p", "no:cacheprovider", *options, *tests]
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": str(tree)}
    done = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True, check=False, timeout=600)
    return done.returncode, done.stdout + done.stderr


def take_away(tree: Path, guard: Guard) -> Tried:
    """Break it, run its tests, put it back."""
    began = time.monotonic()
    path = tree / guard.file
    whole = path.read_text()
    if whole.count(guard.old) != 1:
        return Tried(guard=guard, red=None, said=f"the old text stands {whole.count(guard.old)} times", seconds=0.0)
    path.write_text(whole.replace(guard.old, guard.new))
    try:
        code, said = pytest(tree, guard.tests, "-x")
    finally:
        path.write_text(whole)
    failed = _FAILED.search(said)
    red = failed[1] if code == 1 and failed else None
    return Tried(guard=guard, red=red, said=said[-1500:], seconds=time.monotonic() - began)


def worker(guards: Sequence[Guard]) -> list[Tried]:
    """Some guards, one after the other, in a copy of their own."""
    with tempfile.TemporaryDirectory(prefix="sidegate-mutations-") as name:
        copy_tree(Path(name))
        found = []
        for guard in guards:
            found.append(take_away(Path(name), guard))
            mark = "red " if found[-1].red else "GREEN"
            print(f"{mark} {found[-1].seconds:5.1f} s  {guard.what}", file=sys.stderr)
        return found


def unbroken(guards: Sequence[Guard]) -> str:
    """Empty if every test that is named passes as things are."""
    tests = sorted({test for guard in guards for test in guard.tests})
    with tempfile.TemporaryDirectory(prefix="sidegate-mutations-") as name:
        copy_tree(Path(name))
        code, said = pytest(Path(name), tests)
        if code == 1:  # a deadline that a busy machine missed is met when asked again
            code, said = pytest(Path(name), sorted({node.partition("::")[0] for node in _FAILED.findall(said)}))
    return "" if code == 0 else said[-3000:]


def page(tried: Sequence[Tried]) -> str:
    """The table."""
    noticed = sum(one.red is not None for one in tried)
    day = time.strftime("%Y-%m-%d", time.gmtime())
    counted = f"{len(tried)} guards taken away one at a time, {noticed} noticed."
    head = ["# Guards", "", f"Written by `python -m tests.mutations.run --write`, {day}: {counted}", ""]
    rows = [
        f"| {one.guard.what} | `{one.guard.file}` | {f'`{_short(one.red)}`' if one.red else '**none**'} |"
        for one in tried
    ]
    return "\n".join([*head, "| Guard | File | Test that turns red |", "|---|---|---|", *rows]) + "\n"


def _short(node: str) -> str:
    return node.removeprefix("tests/").partition("[")[0]


def main() -> int:
    """0 if every break was noticed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", type=int, action="append", help="a guard's number, from 1; may be repeated")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--write", action="store_true", help=f"write {REPORT.name}")
    args = parser.parse_args()
    chosen = [GUARDS[number - 1] for number in args.only] if args.only else list(GUARDS)
    if red := unbroken(chosen):
        print(f"the tests do not pass unbroken:\n{red}")
        return 1
    with ThreadPoolExecutor(args.jobs) as pool:
        parts = list(pool.map(worker, [chosen[n :: args.jobs] for n in range(args.jobs)]))
    by_guard = {id(one.guard): one for part in parts for one in part}
    tried = [by_guard[id(guard)] for guard in chosen]
    if args.write:
        REPORT.write_text(page(tried))
    missed = [one for one in tried if one.red is None]
    for one in missed:
        print(f"unnoticed: {one.guard.what} ({one.guard.file})\n{one.said}\n")
    print(f"{len(tried) - len(missed)} of {len(tried)} breaks were noticed")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
