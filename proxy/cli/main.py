"""Entry point of the `sidegate` command: the whole command line, and exit codes."""

import argparse
import sys
from collections.abc import Sequence

from proxy import __version__
from proxy.adapters.yaml_file import YamlError
from proxy.cli import audit, check, demo, init, policy, review, serve, stop
from proxy.cli.common import EXIT_CODES, USAGE, Failure, Parser, clean, emit
from proxy.settings import SettingsError

_MODULES = (init, check, serve, demo, policy, review, stop, audit)


def _handled(args: argparse.Namespace) -> int:
    """The subcommand; settings that cannot be read are wrong usage whichever it was."""
    try:
        return int(args.handler(args))
    except (SettingsError, YamlError) as error:
        raise Failure(*error.problems, exit_code=USAGE) from None


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point of the console script; returns the exit code."""
    args = build_parser().parse_args(arguments)
    try:
        return _handled(args)
    except Failure as failure:
        if getattr(args, "json", False):
            emit({"ok": False, "problems": list(failure.problems)})
        for problem in failure.problems:
            print(f"sidegate: {clean(problem)}", file=sys.stderr)
        return failure.exit_code
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        return 141


def build_parser() -> argparse.ArgumentParser:
    """The whole command line."""
    parser = Parser(
        prog="sidegate",
        description="The policy sidecar for AI agents' tool calls.\n\n"
        "To begin: sidegate init my-sidecar && cd my-sidecar && sidegate check && sidegate serve",
        epilog=f"Exit codes: {EXIT_CODES}.\n`sidegate COMMAND --help` tells more.",
    )
    parser.add_argument("--version", action="version", version=f"sidegate {__version__}")
    subparsers = parser.add_subparsers(metavar="COMMAND", required=True)
    for module in _MODULES:
        module.add_parser(subparsers)
    return parser
