"""What subcommands share: failures with exit codes, output, and the client of the review port."""

import argparse
import json
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

OK, FAILED, UNREACHABLE, USAGE = 0, 1, 69, 64
EXIT_CODES = (
    "0 done, 1 the answer is no (check failed, nothing found, refused), 64 usage or configuration, 69 not reachable"
)
REVIEW_URL = "http://127.0.0.1:8902"


class Failure(Exception):
    """A command that could not do its work: one sentence a problem, and the exit code."""

    def __init__(self, *problems: str, exit_code: int = FAILED) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems
        self.exit_code = exit_code


def say(line: str = "") -> None:
    """One line for people."""
    print(line, flush=True)


def progress(line: str) -> None:
    """One line about work under way; not part of the output."""
    print(line, file=sys.stderr, flush=True)


def emit(document: object) -> None:
    """One JSON document for machines."""
    print(json.dumps(document, indent=2, ensure_ascii=False, default=str), flush=True)


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


def review_port_arguments(parser: argparse.ArgumentParser) -> None:
    """Where the review port is and with which token it is asked."""
    parser.add_argument("--url", default=REVIEW_URL, help=f"the review port (default: {REVIEW_URL})")
    parser.add_argument(
        "--token-file",
        type=Path,
        required=True,
        metavar="FILE",
        help="file with the reviewer's token (never on the command line)",
    )
    json_argument(parser)


def ask_review_port(args: argparse.Namespace, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
    """One request to the review port. Raises Failure with its refusal's sentence, or exit code 69 if it is not there."""
    try:
        token = args.token_file.read_text().strip()
    except OSError as e:
        raise Failure(f"{args.token_file}: {e.strerror}", exit_code=USAGE) from None
    request = urllib.request.Request(  # noqa: S310 - the operator names the URL of their own review port
        args.url.rstrip("/") + path,
        method=method,
        data=None if body is None else json.dumps(body).encode(),
        headers={"authorization": f"Bearer {token}", "content-type": "application/json"},
    )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=30) as response:
            return json.load(response)
    except urllib.error.HTTPError as e:
        raise Failure(_refusal(e)) from None
    except OSError as e:
        raise Failure(
            f"the review port {args.url} does not answer: {getattr(e, 'reason', e)}", exit_code=UNREACHABLE
        ) from None


def _refusal(error: urllib.error.HTTPError) -> str:
    try:
        refusal = json.load(error)["refusal"]
        return f"{refusal['code']}: {refusal['message']}" + (f" ({refusal['fix']})" if refusal.get("fix") else "")
    except (ValueError, KeyError):
        return f"the review port answered {error.code}"


def table(rows: Sequence[Mapping[str, Any]], columns: Sequence[tuple[str, Callable[[Mapping[str, Any]], str]]]) -> None:
    """Aligned columns."""
    cells = [[title for title, _ in columns]] + [[clean(read(row)) for _, read in columns] for row in rows]
    widths = [max(len(line[i]) for line in cells) for i in range(len(columns))]
    for line in cells:
        say("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def clean(text: object) -> str:
    """Text of others for a terminal: control and direction characters are shown, not obeyed."""
    return "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in str(text))
