"""`sidegate check`: settings, catalog, policy, tokens, credentials; every problem at once."""

import argparse
import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path

from proxy.cli.common import OK, USAGE, Failure, add_command, emit, json_argument, read_settings, say, settings_argument
from proxy.settings import Settings, SettingsError


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Register the subcommand."""
    more = "Token files and credentials, too; every problem is told at once, with exit code 64. Nothing is started or written."
    parser = add_command(subparsers, "check", "check settings, catalog and policy", more)
    settings_argument(parser)
    json_argument(parser)
    parser.set_defaults(handler=_check)


def _check(args: argparse.Namespace) -> int:
    problems = _problems(args)
    if problems:
        raise Failure(*problems, exit_code=USAGE)
    if args.json:
        emit({"ok": True, "problems": []})
    else:
        say("settings, catalog, policy, tokens and credentials are in order")
    return OK


def _problems(args: argparse.Namespace) -> list[str]:
    from proxy.adapters.workshop import Workshop
    from proxy.adapters.yaml_file import YamlError

    try:
        settings = read_settings(args)
    except SettingsError as error:
        return [*error.problems, *_named(args.settings)]
    except YamlError as error:
        return list(error.problems)
    return asyncio.run(Workshop(settings).problems())


def _named(path: Path) -> list[str]:
    """What can be said without the settings: about the catalog and the policy that they name, or the usual ones."""
    from proxy.adapters.bundle import BundleError
    from proxy.adapters.policy_origin import policy_document
    from proxy.adapters.workshop import Workshop
    from proxy.adapters.yaml_file import YamlError, load_yaml
    from proxy.core.catalog import CatalogError

    document = load_yaml(path)
    given = document if isinstance(document, Mapping) else {}

    def named(key: str, usual: str) -> Path:
        value = given.get(key)
        return path.parent / (value if isinstance(value, str) else usual)

    workshop = Workshop(
        Settings(state=path.parent, catalog=named("catalog", "catalog"), policy=named("policy", "policy.yaml"))
    )
    problems: list[str] = []
    looks: list[Callable[[], object]] = [workshop.catalog]
    if "bundle" not in given:
        looks.append(lambda: policy_document(workshop.settings.policy, workshop.sources))
    for look in looks:
        try:
            look()
        except (CatalogError, YamlError, BundleError) as error:
            problems += error.problems
    return problems
