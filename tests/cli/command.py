"""The `sidegate` command for tests: as a process of its own, or in this process where nothing but its answer matters."""

import contextlib
import io
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from proxy.cli.main import main

REPO = Path(__file__).parents[2]
HOSTILE = "red\x1b[31m \u202edrow\u2066 a\tb\r\nc\x7f\x9b"  # ANSI, direction overrides, control characters
HARMFUL = set("\x1b\u202e\u2066\t\r\x7f\x9b")


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """One finished command."""

    code: int
    out: str
    err: str

    @property
    def all(self) -> str:
        return self.out + self.err


def sidegate(*words: str | Path, cwd: Path | None = None, **environment: str) -> Done:
    """The command as a process."""
    done = subprocess.run(
        [sys.executable, "-m", "proxy.cli", *map(str, words)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=60,
        check=False,
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(REPO), **environment},
    )
    return Done(code=done.returncode, out=done.stdout.decode(), err=done.stderr.decode())


def inside(*words: str | Path) -> Done:
    """The command in this process."""
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
        try:
            code = main([*map(str, words)])
        except SystemExit as end:  # argparse's way out
            code = int(end.code or 0)
    return Done(code=code, out=out.getvalue(), err=err.getvalue())


def harmless(text: str) -> bool:
    """Whether a terminal shows the text as it is and obeys nothing in it."""
    return not HARMFUL & set(text) and all(c.isprintable() or c == "\n" for c in text)
