"""Which policy a command asks: built bundles, or what the settings name, perhaps with another policy.yaml."""

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from proxy.cli.common import read_settings, settings_argument
from proxy.settings import Settings, bare

if TYPE_CHECKING:
    from proxy.adapters.policy_eval import Loaded
    from proxy.model import Decision


def policy_arguments(parser: argparse.ArgumentParser) -> None:
    """`--settings`, `--policy`, `--bundle`."""
    settings_argument(parser)
    given = parser.add_mutually_exclusive_group()
    given.add_argument("--policy", type=Path, metavar="FILE", help="this policy.yaml instead of the settings' own")
    given.add_argument(
        "--bundle",
        type=Path,
        action="append",
        metavar="FILE",
        help="a built bundle instead (then no settings are needed); again for each team's",
    )


def settings_of(args: argparse.Namespace) -> Settings:
    """The settings; with a bundle given they may be absent. Raises Failure, SettingsError, YamlError."""
    if args.bundle and not args.settings.exists():
        return bare()
    settings = read_settings(args)
    return settings if args.policy is None else replace(settings, policy=args.policy.absolute(), bundle=None)


async def given_policy(args: argparse.Namespace) -> tuple[Path, "Loaded"]:
    """OPA and the policy. Raises as `Workshop.assembled` does."""
    from proxy.adapters.policy_eval import of_assembled, of_bundles
    from proxy.adapters.workshop import Workshop

    workshop = Workshop(settings_of(args))
    if args.bundle:
        return workshop.opa(), of_bundles(args.bundle)
    return workshop.opa(), of_assembled(await workshop.assembled(workshop.catalog()))


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
