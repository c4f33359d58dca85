"""`sidegate demo`: the whole story on real processes, in a folder of its own."""

import argparse
import importlib
import sys

from proxy import resources
from proxy.cli.common import USAGE, Failure


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Register the subcommand."""
    parser = subparsers.add_parser(
        "demo",
        help="play the whole story on real processes",
        description="A buyer's agent, three business systems, a policy and a reviewer, on real processes and free ports of\n"
        "this machine, in a temporary folder. Only the model is scripted. Exit code 0 only if every step went as it should.",
    )
    parser.add_argument("--keep", action="store_true", help="leave it running and print commands to try by hand")
    parser.add_argument("--jaeger", action="store_true", help="send the traces to a real Jaeger and print the links")
    parser.set_defaults(handler=_demo)


def _demo(args: argparse.Namespace) -> int:
    # In this process, so that Ctrl-C reaches the one that ends the others.
    sys.path.insert(0, str(resources.demo()))
    try:
        story = importlib.import_module("story")
    except ModuleNotFoundError as error:
        if error.name not in {"openai", "anthropic"}:
            raise
        raise Failure(
            "the demo's agent uses the real SDKs: pip install openai anthropic (or run `bash deploy/quickstart.sh`)",
            exit_code=USAGE,
        ) from None
    return int(story.main(keep=args.keep, with_jaeger=args.jaeger))
