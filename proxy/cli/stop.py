"""`sidegate stop` and `sidegate resume`: stop switches, through the review port."""

import argparse

from proxy.cli.common import OK, ask_review_port, clean, emit, review_port_arguments, say

_SCOPES = ("all", "conversation", "principal", "agent", "tool", "system")


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Register both subcommands."""
    for name, method, text in (("stop", "POST", "refuse calls from now on"), ("resume", "DELETE", "lift a stop")):
        parser = subparsers.add_parser(name, help=text, description=f"{text}; needs the role `operator`")
        parser.add_argument("scope", choices=_SCOPES, help="what to stop")
        parser.add_argument("name", nargs="?", default="", help="which one (not for `all`)")
        review_port_arguments(parser)
        parser.set_defaults(handler=_switch, method=method)


def _switch(args: argparse.Namespace) -> int:
    switch = ask_review_port(args, args.method, "/v1/stops", {"scope": args.scope, "name": args.name})
    if args.json:
        emit(switch)
    else:
        verb = "stopped" if switch["standing"] else "running again"
        say(f"{switch['scope']} {clean(switch['name'])}".rstrip() + f" is {verb}")
    return OK
