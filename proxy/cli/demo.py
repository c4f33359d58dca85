"""`sidegate demo`: the whole story on real processes, in a folder of its own."""

import argparse
import subprocess
import sys

from proxy import resources
from proxy.cli.common import USAGE, Failure


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Register the subcommand."""
    parser = subparsers.add_parser(
        "demo", help="play the whole story on real processes; exit 0 only if every step went right"
    )
    parser.add_argument("--keep", action="store_true", help="leave it running and print commands to try by hand")
    parser.set_defaults(handler=_demo)


def _demo(args: argparse.Namespace) -> int:
    story = resources.demo() / "story.py"
    try:
        import anthropic  # noqa: F401 - only whether it is there
        import openai  # noqa: F401 - only whether it is there
    except ImportError:
        raise Failure("the demo needs the real SDKs: pip install 'sidegate[demo]'", exit_code=USAGE) from None
    return subprocess.call([sys.executable, str(story), *(["--keep"] if args.keep else [])])
