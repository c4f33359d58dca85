"""Where commands read journal records from - directories, segments, shipped logs, standard input - and which they want."""

import argparse
import os
import stat
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from proxy.adapters.journal_reader import file_lines, whole_lines
from proxy.adapters.journal_segment import JournalError, parse_name
from proxy.cli.common import USAGE, Failure, clean, progress
from proxy.core.story_facts import codes, field
from proxy.model import Effect

DIRECTORY = Path("state/journal")
NO_DECISION = "none"  # refused before policy was asked
Record = Mapping[str, Any]


PLACE = f"""Reads PATH or --dir; without them what is piped or redirected into it, else {DIRECTORY} below the current directory."""


def source_arguments(parser: argparse.ArgumentParser) -> None:
    """PATHs and `--dir`."""
    parser.add_argument(
        "paths",
        nargs="*",
        metavar="PATH",
        help=(
            "journal directories, segment files, files of shipped logs, or - for standard input, which is also read if something "
            "is piped (in loops say --dir)"
        ),
    )
    parser.add_argument("--dir", type=Path, metavar="DIR", help="the journal's directory")


def condition_arguments(parser: argparse.ArgumentParser) -> None:
    """What records have to fit, all of it together."""
    parser.add_argument("--principal", help="name, id, or subject; upper and lower case count as the same")
    parser.add_argument("--tool", help="its name")
    parser.add_argument("--code", help="a refusal code, or a reason code of a policy, one of mode warn or shadow, too")
    parser.add_argument(
        "--decision", choices=(*(str(effect) for effect in Effect), NO_DECISION), help="none: policy was not asked"
    )
    parser.add_argument("--conversation", help="its id")
    parser.add_argument("--since", metavar="TIME", help="RFC 3339 or a date, UTC unless it says otherwise")
    parser.add_argument("--until", metavar="TIME", help="the same; records before it")


def reading(action: Callable[[argparse.Namespace], int]) -> Callable[[argparse.Namespace], int]:
    """A handler whose faults of reading are wrong usage."""

    def handle(args: argparse.Namespace) -> int:
        try:
            return action(args)
        except JournalError as error:
            raise Failure(clean(error), exit_code=USAGE) from None

    return handle


def conditions(args: argparse.Namespace) -> Callable[[Record], bool]:
    """Whether a record fits `condition_arguments`. Raises Failure for a time that is none."""
    since, until = _time(args.since, "--since"), _time(args.until, "--until")

    def fits(record: Record) -> bool:
        at = _time(record.get("at"), "at") if since or until else None
        return (
            (args.principal is None or args.principal.casefold() in _names(record))
            and (args.tool is None or args.tool in (field(record, "tool"), record.get("asked_tool")))
            and (args.code is None or args.code in codes(record))
            and (args.decision is None or args.decision == _decision(record))
            and (args.conversation is None or args.conversation == field(record, "conversation"))
            and (since is None or (at is not None and at >= since))
            and (until is None or (at is not None and at < until))
        )

    return fits


def lines(args: argparse.Namespace) -> Iterator[bytes]:
    """Whole records as they are written. Raises JournalError, and Failure where there is not one: then nothing was searched."""
    unreadable, seen = list[int](), Counter[str]()
    source: Iterable[bytes] = sys.stdin.buffer if from_stdin(args) else _file_lines(paths(args))
    for record in whole_lines(_counted(source, seen), unreadable=unreadable.append):
        seen["records"] += 1
        yield record
    if unreadable:
        progress(f"{len(unreadable)} lines could not be read and are not shown: run `sidegate audit verify`")
    elif not seen["records"]:
        raise Failure(_no_record(args, seen["lines"]), exit_code=USAGE)


def from_stdin(args: argparse.Namespace) -> bool:
    """Whether standard input is meant: by -, or by what is piped into it. Raises Failure if something else is meant, too."""
    if "-" in args.paths and (len(args.paths) > 1 or args.dir):
        raise Failure("- stands for standard input, alone", exit_code=USAGE)
    return args.paths == ["-"] or (not args.paths and args.dir is None and _piped())


def paths(args: argparse.Namespace) -> list[Path]:
    """The files and directories that are meant."""
    if args.dir is not None:
        return [args.dir, *map(Path, args.paths)]
    return [Path(path) for path in args.paths] or [DIRECTORY]


def _piped() -> bool:
    """Whether standard input is a pipe, a socket or a file: no terminal, and not /dev/null, as of a service or a cron job."""
    try:
        mode = os.fstat(sys.stdin.fileno()).st_mode
    except (AttributeError, OSError, ValueError):  # closed, or none
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or stat.S_ISREG(mode)


def _counted(source: Iterable[bytes], seen: Counter[str]) -> Iterator[bytes]:
    for line in source:
        seen["lines"] += 1
        yield line


def _no_record(args: argparse.Namespace, count: int) -> str:
    where = "standard input" if from_stdin(args) else ", ".join(map(str, paths(args)))
    what = f"none of the {count} lines of {where} is a record of the journal" if count else f"{where} is empty"
    return (
        f"{what}, so nothing was searched. The journal is not the log: it is the files in the directory `journal` of the "
        "setting `state` (name it by --dir), and standard output of a sidecar whose settings say `audit_copy: true`"
    )


def _file_lines(given: list[Path]) -> Iterator[bytes]:
    """Segments in their order; then any other file, as a log that was shipped."""
    shipped = [path for path in given if path.is_file() and parse_name(path) is None]
    yield from file_lines([path for path in given if path not in shipped])
    for path in shipped:
        try:
            with path.open("rb") as file:
                yield from file
        except OSError as error:
            raise JournalError(f"{path} cannot be read: {error.strerror}") from error


def _names(record: Record) -> set[str]:
    principal = field(record, "principal")
    if not isinstance(principal, dict):
        return set()
    identity = str(principal.get("id", ""))
    return {str(name).casefold() for name in (identity, identity.rpartition("#")[2], principal.get("name")) if name}


def _decision(record: Record) -> str | None:
    decision = record.get("decision")
    if isinstance(decision, dict):
        return str(decision.get("effect"))
    ran = record.get("outcome") in ("done", "unknown")
    return NO_DECISION if record.get("kind") == "terminal" and not ran else None


def _time(text: object, option: str) -> datetime | None:
    if text is None:
        return None
    try:
        time = datetime.fromisoformat(str(text))
    except ValueError:
        raise Failure(
            f"{option}: {clean(text)!r} is no time (2026-01-31 or 2026-01-31T08:00:00Z)", exit_code=USAGE
        ) from None
    return time if time.tzinfo is not None else time.replace(tzinfo=UTC)
