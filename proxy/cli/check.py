"""`sidegate check`: settings, catalog, policy, tokens, credentials; every problem at once."""

import argparse
import asyncio

from proxy.cli.common import OK, USAGE, Failure, emit, json_argument, say, settings_argument
from proxy.settings import SettingsError, read


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Register the subcommand."""
    parser = subparsers.add_parser(
        "check", help="check settings, catalog and policy: every problem at once, exit code 64 if there is one"
    )
    settings_argument(parser)
    json_argument(parser)
    parser.set_defaults(handler=_check)


def _check(args: argparse.Namespace) -> int:
    from proxy.adapters.workshop import Workshop
    from proxy.adapters.yaml_file import YamlError

    try:
        problems = asyncio.run(Workshop(read(args.settings)).problems())
    except (SettingsError, YamlError) as error:
        problems = list(error.problems)
    if args.json:
        emit({"ok": not problems, "problems": problems})
        return USAGE if problems else OK
    if problems:
        raise Failure(*problems, exit_code=USAGE)
    say("settings, catalog and policy are in order")
    return OK
