"""What the demo prints: chapters with the time, rows with a title, blocks of a command's output."""

import re
import time
from dataclasses import dataclass, field

WIDTH = 104
TITLE = 12


@dataclass(slots=True)
class Page:
    """Prints as it goes. `checks` counts what went as it should."""

    began: float = field(default_factory=time.monotonic)
    checks: int = 0
    _blank: bool = False

    def chapter(self, title: str) -> None:
        if not self._blank:
            self._print("")
        self._print(f"== {time.monotonic() - self.began:5.1f}s  {title}")

    def row(self, title: str, text: str) -> None:
        """A titled line, wrapped below itself."""
        for number, line in enumerate(wrapped(text)):
            self._print(f"   {'' if number else title:<{TITLE}}{line}")

    def block(self, title: str, *lines: str) -> None:
        """Lines as they are, below a title."""
        self._print(f"   {title}")
        for line in lines:
            self._print(f"     {line}".rstrip())

    def right(self, what: str) -> None:
        """A check that passed."""
        self.checks += 1
        self.row("ok", what)
        self._print("")

    def _print(self, line: str) -> None:
        self._blank = not line
        print(line, flush=True)


def wrapped(text: str) -> list[str]:
    """Lines broken after a space or between members of a JSON text, never inside a word."""
    lines = [""]
    for piece in re.split(r"(?<= )|(?<=,)(?=[\"{])", text):
        if lines[-1] and len(lines[-1]) + len(piece) > WIDTH:
            lines.append("")
        lines[-1] += piece
    return lines
