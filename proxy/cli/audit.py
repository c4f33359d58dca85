"""`sidegate audit verify | show | find`: the journal for auditors, from a directory, segment files or standard input."""

import argparse
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from proxy.adapters.journal_reader import Verdict, chains, file_lines, verify, verify_stream, whole_lines
from proxy.adapters.journal_segment import JournalError
from proxy.cli.common import FAILED, OK, USAGE, Failure, add_command, clean, emit, json_argument, progress, say
from proxy.core.chain import parse_line
from proxy.core.story import Selection, ascii_json, headline, tell
from proxy.core.story_facts import codes, field

_DIRECTORY = Path("state/journal")
_PLACE = (
    f"Reads {_DIRECTORY} below the current directory, unless --dir or PATH says otherwise; needs no running sidecar."
)
_VERIFY = "Exit code 1 if there is one, with file, line and byte offset."


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Register the subcommand."""
    parser = add_command(subparsers, "audit", "verify the audit journal, show a call's story, find records", _PLACE)
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    verified = add_command(
        actions, "verify", "find an edited, dropped, reordered or cut record", f"{_VERIFY}\n{_PLACE}"
    )
    verified.add_argument("--head", metavar="SEQ:HASH", help="a head kept elsewhere: only so a cut tail is found")
    verified.set_defaults(handler=_handler(_verify))
    shown = add_command(actions, "show", "the story of one conversation, trace, call or review", _PLACE)
    shown.add_argument("name", metavar="CONVERSATION|TRACE_ID|CALL_ID", help="its id")
    shown.set_defaults(handler=_handler(_show))
    found = add_command(actions, "find", "records that fit every condition given, a line for each", _PLACE)
    found.add_argument("--principal", help="id or name")
    found.add_argument("--tool", help="its name")
    found.add_argument("--code", help="a refusal code, or a reason code of a policy")
    found.add_argument("--conversation", help="its id")
    found.add_argument("--since", metavar="TIME", help="RFC 3339 or a date, UTC unless it says otherwise")
    found.add_argument("--until", metavar="TIME", help="the same; records before it")
    found.set_defaults(handler=_handler(_find))
    for action in (verified, shown, found):
        action.add_argument(
            "paths", nargs="*", metavar="PATH", help="segment files or directories, or - for standard input"
        )
        action.add_argument("--dir", type=Path, metavar="DIR", help=f"the journal's directory (default: {_DIRECTORY})")
        json_argument(action)


def _handler(action: Callable[[argparse.Namespace], int]) -> Callable[[argparse.Namespace], int]:
    def handle(args: argparse.Namespace) -> int:
        try:
            return action(args)
        except JournalError as error:
            raise Failure(clean(error), exit_code=USAGE) from None

    return handle


def _verify(args: argparse.Namespace) -> int:
    if _stdin(args):
        verdicts = {"-": verify_stream(sys.stdin.buffer, head=args.head)}
    else:
        found = chains(_paths(args))
        if not found:
            raise JournalError(f"there is no journal in {', '.join(map(str, _paths(args)))}")
        if args.head and len(found) > 1:
            raise JournalError(f"--head belongs to one chain, these are {len(found)}: {', '.join(found)}")
        verdicts = {
            chain: verify([segment.path for segment in segments], head=args.head) for chain, segments in found.items()
        }
    ok = all(verdict.ok for verdict in verdicts.values())
    if args.json:
        emit({"ok": ok, "chains": {chain: asdict(verdict) for chain, verdict in verdicts.items()}})
    else:
        for chain, verdict in verdicts.items():
            for line in _verdict_lines(chain, verdict):
                say(clean(line))
    return OK if ok else FAILED


def _verdict_lines(chain: str, verdict: Verdict) -> Iterator[str]:
    if verdict.place is not None:
        place = verdict.place
        yield f"FAILED: {place.file}, line {place.line}, byte offset {place.offset}: {verdict.sentence}"
    what = "ok" if verdict.ok else "good before that"
    amount = f"{_counted(verdict.records, 'record')} in {_counted(verdict.segments, 'segment')}"
    yield f"{what}: {amount} of chain {chain}; head {verdict.head or 'none'}"
    if verdict.first > 1:
        yield f"note: begins at record {verdict.first}; segments before it were not among what was read"
    for seal in verdict.seals:
        where = f"{seal.get('length')} torn bytes at byte {seal.get('offset')} of {seal.get('segment')}"
        yield f"note: record {seal['seq']} seals {where}"
    for gap in verdict.gaps:
        yield f"note: record {gap['seq']} says that records could not be written: {gap.get('lost')}"


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _show(args: argparse.Namespace) -> int:
    selection = Selection(args.name)
    return _print(args, (line for line in _lines(args) if selection.takes(_record(line))), tell)


def _find(args: argparse.Namespace) -> int:
    since, until = _time(args.since, "--since"), _time(args.until, "--until")

    def fits(record: dict[str, Any]) -> bool:
        principal = field(record, "principal")
        names = (principal.get("id"), principal.get("name")) if isinstance(principal, dict) else ()
        at = _time(record.get("at"), "at") if since or until else None
        return (
            (args.principal is None or args.principal in names)
            and (args.tool is None or args.tool in (field(record, "tool"), record.get("asked_tool")))
            and (args.code is None or args.code in codes(record))
            and (args.conversation is None or args.conversation == field(record, "conversation"))
            and (since is None or (at is not None and at >= since))
            and (until is None or (at is not None and at < until))
        )

    return _print(args, (line for line in _lines(args) if fits(_record(line))), lambda line: [headline(line)])


def _print(args: argparse.Namespace, lines: Iterable[bytes], render: Callable[[bytes], Sequence[str]]) -> int:
    count = 0
    for count, line in enumerate(lines, 1):
        if args.json:
            say(("[" if count == 1 else ",") + ascii_json(line))
            continue
        for text in render(line):
            say(text)
    if args.json:
        say("]" if count else "[]")
    if not count:
        progress("nothing found")
    return OK if count else FAILED


def _lines(args: argparse.Namespace) -> Iterator[bytes]:
    unreadable: list[int] = []
    source: Iterable[bytes] = sys.stdin.buffer if _stdin(args) else file_lines(_paths(args))
    yield from whole_lines(source, unreadable=unreadable.append)
    if unreadable:
        progress(f"{len(unreadable)} lines could not be read and are not shown: run `sidegate audit verify`")


def _record(line: bytes) -> dict[str, Any]:
    return parse_line(line) or {}


def _stdin(args: argparse.Namespace) -> bool:
    if "-" in args.paths and (len(args.paths) > 1 or args.dir):
        raise Failure("- stands for standard input, alone", exit_code=USAGE)
    return bool(args.paths == ["-"])


def _paths(args: argparse.Namespace) -> list[Path]:
    if args.dir is not None:
        return [args.dir, *map(Path, args.paths)]
    return [Path(path) for path in args.paths] or [_DIRECTORY]


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
