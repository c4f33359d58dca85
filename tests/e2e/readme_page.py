"""README as a stranger follows it: its marked blocks, and the shell that they are copied into.

A block is marked by `<!-- test: NAME -->` on the line before its fence. What a test replaces in it is said there: ports, mostly.
"""

import contextlib
import os
import re
import signal
import subprocess
import textwrap
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

REPO = Path(__file__).parents[2]
README = (REPO / "README.md").read_text()
_MARKED = re.compile(r"^( *)<!-- test: (\S+) -->\n\1```\w+\n(.*?)^\1```\n", re.DOTALL | re.MULTILINE)
BLOCKS = {name: textwrap.dedent(text) for _, name, text in _MARKED.findall(README)}
END, FAILED = "@@ end of block\n", "@@ failed\n"


@dataclass(slots=True, kw_only=True)
class Shell:
    """One shell session, block after block. `replaced`: words of README and what they are here; `said`: by block."""

    folder: Path
    process: "subprocess.Popen[str]"
    replaced: Mapping[str, str] = field(default_factory=dict)
    said: dict[str, str] = field(default_factory=dict)

    def text(self, block: str) -> str:
        """A block with what this run replaces in it."""
        text = BLOCKS[block]
        for word in self.replaced:
            text = re.sub(rf"(?<!\w){re.escape(word)}(?!\w)", f"@@{word}@@", text)
        for word, here in self.replaced.items():
            text = text.replace(f"@@{word}@@", here)
        return text

    def copy(self, block: str) -> str:
        """Copy a block into the shell and wait until its last command has ended; a command that fails ends the shell."""
        self.said[block] = self.type(self.text(block))
        return self.said[block]

    def type(self, text: str) -> str:
        """Any commands; what they printed, on both streams."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{text}\necho '{END.strip()}'\n")
        self.process.stdin.flush()
        lines: list[str] = []
        while not lines or lines[-1] != END:
            line = self.process.stdout.readline()
            assert line not in ("", FAILED), f"this failed:\n{text}\n{''.join(lines)}"
            lines.append(line)
        return "".join(lines[:-1])


@contextlib.contextmanager
def shell(
    folder: Path,
    replaced: Mapping[str, str] | None = None,
    variables: Mapping[str, str] | None = None,
    commands: Mapping[str, str] | None = None,
) -> Iterator[Shell]:
    """Bash in the checkout, where README begins, until its block `path` has been run; then in `folder`. `commands` are
    programs by name, first on PATH. All that it started gets SIGTERM when the block ends."""
    programs = folder / "bin"
    programs.mkdir()
    for name, text in (commands or {}).items():
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    process = subprocess.Popen(
        ["bash", "-e"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=REPO,
        env={**os.environ, **(variables or {}), "PATH": f"{programs}:{os.environ['PATH']}"},
        start_new_session=True,
    )
    with process:
        try:
            made = Shell(folder=folder, process=process, replaced=replaced or {})
            made.type(
                f"trap \"echo '{FAILED.strip()}'\" EXIT"
            )  # the pipe stays open as long as anything runs in the background
            made.copy("path")
            made.type(f'cd "{folder}"')
            yield made
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)


def until(holds: Callable[[], bool], what: str, seconds: float = 30.0) -> None:
    """Look again and again, as a person does; nobody listening yet is a no."""
    end = time.monotonic() + seconds
    while True:
        with contextlib.suppress(OSError):
            if holds():
                return
        assert time.monotonic() < end, f"not within {seconds} s: {what}"
        threading.Event().wait(0.05)
