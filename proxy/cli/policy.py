"""`sidegate policy`: build, prove and install the bundle that OPA reads; see which was in force, and go back."""

import argparse
from collections.abc import Callable
from pathlib import Path

from proxy.cli import policy_back, policy_build, policy_can, policy_explain, policy_replay
from proxy.cli.common import add_command, json_argument, settings_argument

_ABOUT = """The bundle is policy.yaml, our policies, and yours (policy_folders). `sidegate serve` builds it by itself;
`build` is for delivery: a file, a ConfigMap or a URL that `bundle` names in the settings of the pods."""
_TEST = """Samples evaluate as named, Rego tests pass and cover every line, and no denied or held sample becomes more
lenient when a fact is absent."""
_INSTALL = """For an OPA in a container of its own that starts before the sidecar: it needs the file that it reads."""
_ROLLBACK = """For this sidecar alone, at once; to go back everywhere, deliver the earlier bundle again. It survives a restart,
stands in the journal, and ends by itself when the source brings another policy."""


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Register the subcommand."""
    parser = add_command(
        subparsers, "policy", "build, test, install or roll back the policy; explain and replay decisions", _ABOUT
    )
    actions = parser.add_subparsers(metavar="ACTION", required=True)

    def action(
        name: str, what: str, handler: Callable[[argparse.Namespace], int], more: str = ""
    ) -> argparse.ArgumentParser:
        made = add_command(actions, name, what, more)
        made.set_defaults(handler=handler)
        settings_argument(made)
        json_argument(made)
        return made

    _build_arguments(action("build", "check, prove and write a bundle to deliver", policy_build.build, _ABOUT))
    action("test", "prove that the policies say what they mean; writes nothing", policy_build.test, _TEST)
    action("install", "verify the policy and write the file that OPA reads", policy_build.install, _INSTALL)
    action("history", "list the policies that were in force, newest first", policy_back.history)
    back = action("rollback", "go back to a policy that was in force", policy_back.rollback, _ROLLBACK)
    back.add_argument("revision", nargs="?", help="the beginning of its revision (default: the one before)")
    back.add_argument("--end", action="store_true", help="take the source's policy again")
    policy_can.add_parser(actions)
    policy_explain.add_parser(actions)
    policy_replay.add_parser(actions)


def _build_arguments(build: argparse.ArgumentParser) -> None:
    build.add_argument(
        "--output",
        type=Path,
        default=Path("policy.tar.gz"),
        metavar="FILE",
        help="where to write it (default: policy.tar.gz)",
    )
    build.add_argument(
        "--layer",
        default="platform",
        metavar="NAME",
        help="a team's policy, to be delivered by itself (default: platform)",
    )
    build.add_argument(
        "--teams", default="", metavar="A,B", help="policies that policy.yaml lists and their teams deliver themselves"
    )
    build.add_argument("--signing-key", type=Path, metavar="FILE", help="sign it: a private key in PEM, RSA or P-256")
