"""`sidegate audit verify | show | find`: the journal for auditors, from a directory, segment files or standard input."""

import argparse
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from typing import Any

from proxy.adapters.journal_reader import Verdict, chains, verify, verify_stream
from proxy.adapters.journal_segment import JournalError
from proxy.cli.common import FAILED, OK, add_command, clean, emit, json_argument, progress, say
from proxy.cli.journal_input import (
    PLACE,
    condition_arguments,
    conditions,
    from_stdin,
    lines,
    paths,
    reading,
    source_arguments,
)
from proxy.core.chain import parse_line
from proxy.core.story import Selection, ascii_json, headline, tell

_PLACE = f"{PLACE}\nNeeds no running sidecar."
_VERIFY = "Exit code 1 if there is one, with file, line and byte offset."


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Register the subcommand."""
    parser = add_command(subparsers, "audit", "verify the audit journal, show a call's story, find records", _PLACE)
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    verified = add_command(
        actions, "verify", "find an edited, dropped, reordered or cut record", f"{_VERIFY}\n{_PLACE}"
    )
    verified.add_argument("--head", metavar="SEQ:HASH", help="a head kept elsewhere: only so a cut tail is found")
    verified.set_defaults(handler=reading(_verify))
    shown = add_command(actions, "show", "the story of one conversation, trace, call or review", _PLACE)
    shown.add_argument("name", metavar="CONVERSATION|TRACE_ID|CALL_ID", help="its id")
    shown.set_defaults(handler=reading(_show))
    found = add_command(actions, "find", "records that fit every condition given, a line for each", _PLACE)
    condition_arguments(found)
    found.set_defaults(handler=reading(_find))
    for action in (verified, shown, found):
        source_arguments(action)
        json_argument(action)


def _verify(args: argparse.Namespace) -> int:
    if from_stdin(args):
        verdicts = {"-": verify_stream(sys.stdin.buffer, head=args.head)}
    else:
        found = chains(paths(args))
        if not found:
            raise JournalError(f"there is no journal in {', '.join(map(str, paths(args)))}")
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
    return _print(args, (line for line in lines(args) if selection.takes(_record(line))), tell)


def _find(args: argparse.Namespace) -> int:
    fits = conditions(args)
    return _print(args, (line for line in lines(args) if fits(_record(line))), lambda line: [headline(line)])


def _print(args: argparse.Namespace, found: Iterable[bytes], render: Callable[[bytes], Sequence[str]]) -> int:
    count = 0
    for count, line in enumerate(found, 1):
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


def _record(line: bytes) -> dict[str, Any]:
    return parse_line(line) or {}
