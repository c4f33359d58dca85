"""Which policy a command asks: built bundles, or what the settings name, perhaps with another policy.yaml or other folders."""

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from proxy.cli.common import USAGE, Failure, read_settings, settings_argument
from proxy.settings import Settings, bare

if TYPE_CHECKING:
    from proxy.adapters.policy_eval import Loaded
    from proxy.model import Decision


def policy_arguments(parser: argparse.ArgumentParser) -> None:
    """`--settings`, `--policy`, `--rego`, `--bundle`."""
    settings_argument(parser)
    parser.add_argument("--policy", type=Path, metavar="FILE", help="this policy.yaml instead of the settings' own")
    parser.add_argument(
        "--rego",
        type=Path,
        action="append",
        metavar="DIR",
        help="this folder of policies instead of the settings' policy_folders; again for more",
    )
    parser.add_argument(
        "--bundle",
        type=Path,
        action="append",
        metavar="FILE",
        help="a built bundle instead of all that (then no settings are needed); again for each team's",
    )


def settings_of(args: argparse.Namespace) -> Settings:
    """The settings; with a bundle given they may be absent. Raises Failure, SettingsError, YamlError."""
    if args.bundle and (args.policy or args.rego):
        raise Failure("--bundle is a whole policy: give it without --policy and --rego", exit_code=USAGE)
    if args.bundle and not args.settings.exists():
        return bare()
    settings = read_settings(args)
    if args.rego and settings.bundle is not None and args.policy is None:
        raise Failure(
            f"{args.settings} names a bundle that is built already: give --policy beside --rego", exit_code=USAGE
        )
    for folder in args.rego or ():
        if not folder.is_dir():
            raise Failure(
                f"--rego: {folder} is no folder; it has one folder a policy, as policy_folders", exit_code=USAGE
            )
    if args.policy is not None:
        settings = replace(settings, policy=args.policy.absolute(), bundle=None)
    return replace(settings, policy_folders=tuple(map(Path.absolute, args.rego))) if args.rego else settings


async def given_policy(args: argparse.Namespace) -> tuple[Path, "Loaded"]:
    """OPA and the policy. Raises as `Workshop.assembled` does."""
    from proxy.adapters.policy_eval import of_assembled, of_bundles
    from proxy.adapters.workshop import Workshop

    settings = settings_of(args)
    workshop = Workshop(settings)
    if args.bundle:
        return workshop.opa(), of_bundles(args.bundle)
    name = str(args.policy or (settings.policy if settings.bundle is None else settings.bundle.platform))
    assembled = await workshop.assembled(workshop.catalog())
    return workshop.opa(), of_assembled(assembled, name.removeprefix(f"{Path.cwd()}/"))


async def current_policy(args: argparse.Namespace) -> "Loaded":
    """The policy that the settings name, whatever else is given."""
    own = argparse.Namespace(settings=args.settings, policy=None, rego=None, bundle=None)
    return (await given_policy(own))[1]


def read(answer: Any) -> "Decision | str":
    """What OPA answered, read as strictly as the sidecar reads it; text if that is no decision."""
    import orjson

    from proxy.core.decision import read_decision
    from proxy.errors import Refusal

    if not isinstance(answer, dict):
        return str(answer)
    try:
        return read_decision(orjson.dumps({"result": answer}))
    except Refusal as refusal:
        return f"{refusal.code}: {refusal.details}"


def said_codes(decision: "Decision") -> frozenset[tuple[str, str]]:
    """(policy, code) of every reason, as records have them."""
    return frozenset((each.policy, each.code) for each in (*decision.deny, *decision.review, *decision.allow))
