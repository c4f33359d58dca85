"""What subcommands share: failures with exit codes, arguments, and output."""

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from proxy.settings import Settings, read

OK, FAILED, UNREACHABLE, USAGE = 0, 1, 69, 64
EXIT_CODES = (
    "0 done, 1 the answer is no (refused, not verified, nothing found, decided otherwise),\n"
    "64 usage, configuration or input that is none, 69 not reachable"
)


class Failure(Exception):
    """A command that could not do its work: one sentence a problem, and the exit code. `main` prints it, made harmless."""

    def __init__(self, *problems: str, exit_code: int = FAILED) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems
        self.exit_code = exit_code


class Parser(argparse.ArgumentParser):
    """Options are written out: as an abbreviation, `--token SECRET` would be `--token-file`. Wrong usage is exit code 64."""

    def __init__(self, **options: Any) -> None:
        formatter = argparse.RawDescriptionHelpFormatter
        super().__init__(**{"allow_abbrev": False, "formatter_class": formatter, **options})

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(USAGE, f"{self.prog}: {clean(message)}\n")


def say(line: str = "") -> None:
    """One line for people."""
    print(line, flush=True)


def progress(line: str) -> None:
    """One line about work under way; not part of the output."""
    print(line, file=sys.stderr, flush=True)


def emit(document: object) -> None:
    """One JSON document for machines, in ASCII: what others wrote may end on a terminal."""
    print(json.dumps(document, indent=2, default=str), flush=True)


def add_command(
    subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]", name: str, what: str, more: str = ""
) -> argparse.ArgumentParser:
    """A subcommand with its line in the list above it, and the same line and more in its own help."""
    description = f"{what[0].upper()}{what[1:]}." + (f"\n{more}" if more else "")
    return subparsers.add_parser(name, help=what, description=description)


def settings_argument(parser: argparse.ArgumentParser) -> None:
    """`--settings FILE`, by default ./sidegate.yaml."""
    parser.add_argument(
        "--settings",
        type=Path,
        default=Path("sidegate.yaml"),
        metavar="FILE",
        help="settings file (default: sidegate.yaml)",
    )


def json_argument(parser: argparse.ArgumentParser) -> None:
    """`--json`."""
    parser.add_argument("--json", action="store_true", help="print one JSON document instead of text")


def read_settings(args: argparse.Namespace) -> Settings:
    """The settings that `--settings` names. Raises Failure, SettingsError, YamlError."""
    path: Path = args.settings
    if not path.exists():
        raise Failure(f"there is no settings file {path}; `sidegate init` writes one to begin with", exit_code=USAGE)
    return read(path)


def table(rows: Sequence[Mapping[str, Any]], columns: Sequence[tuple[str, Callable[[Mapping[str, Any]], str]]]) -> None:
    """Aligned columns."""
    cells = [[title for title, _ in columns]] + [[clean(read(row)) for _, read in columns] for row in rows]
    widths = [max(len(line[i]) for line in cells) for i in range(len(columns))]
    for line in cells:
        say("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def clean(text: object) -> str:
    """Text of others for a terminal: control and direction characters are shown, not obeyed."""
    return "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in str(text))
