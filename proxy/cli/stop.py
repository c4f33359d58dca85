"""`sidegate stop`, `sidegate stop list` and `sidegate resume`: stop switches, through the review port."""

import argparse

from proxy.cli.common import OK, USAGE, Failure, add_command, clean, say, table
from proxy.cli.review_client import ask, read, review_port_arguments
from proxy.core.story import ascii_json

_ABOUT = "Asks the review port of the running sidecar; the reviewer needs the role `operator`."
_SCOPES = ("all", "conversation", "principal", "agent", "tool", "system")
_LIST = "list"


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Register both subcommands."""
    for verb, method, text, more, scope in (
        ("stop", "POST", "refuse calls from now on, or list what is stopped", (_LIST,), f"what to stop; or {_LIST}"),
        ("resume", "DELETE", "lift a stop", (), "what to let run again"),
    ):
        parser = add_command(subparsers, verb, text, _ABOUT)
        parser.add_argument("scope", choices=(*_SCOPES, *more), help=scope)
        parser.add_argument("name", nargs="?", default="", help="which one, by name or id (not for `all`)")
        review_port_arguments(parser)
        parser.set_defaults(handler=_switch, method=method)


def _switch(args: argparse.Namespace) -> int:
    if (args.scope in ("all", _LIST)) is bool(args.name):
        raise Failure(f"{args.scope} " + ("takes no name" if args.name else "needs a name: which one"), exit_code=USAGE)
    if args.scope == _LIST:
        return _listed(args)
    answer = ask(args, args.method, "/v1/stops", {"scope": args.scope, "name": args.name})
    if args.json:
        say(ascii_json(answer))
        return OK
    switch = read(answer)
    verb = "stopped" if switch["standing"] else "running again"
    say(clean(f"{switch['scope']} {switch['name']}".rstrip() + f" is {verb}"))
    if switch.get("unknown"):
        say(clean(f"but the catalog has no {switch['scope']} of that name: is it spelt rightly?"))
    return OK


def _listed(args: argparse.Namespace) -> int:
    answer = ask(args, "GET", "/v1/stops")
    if args.json:
        say(ascii_json(answer))
        return OK
    standing = read(answer)
    if not standing:
        say("nothing is stopped")
        return OK
    table(
        standing,
        [
            ("STOPPED", lambda switch: f"{switch['scope']} {switch['name']}".rstrip()),
            ("SINCE", lambda switch: switch.get("since") or "unknown"),
            ("BY", lambda switch: switch.get("by") or "unknown"),
        ],
    )
    return OK
