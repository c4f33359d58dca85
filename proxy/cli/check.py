"""`sidegate check`: settings, catalog, policy, tokens, credentials, the shared store; every problem at once."""

import argparse
import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path

from proxy.cli.common import (
    OK,
    USAGE,
    Failure,
    add_command,
    clean,
    emit,
    json_argument,
    read_settings,
    say,
    settings_argument,
)
from proxy.settings import Settings, SettingsError


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Register the subcommand."""
    more = (
        "Token files, credentials and a shared store, too, which is asked; every problem is told at once, with exit code 64.\n"
        "A role of the policy that no token in the files has is a warning, which changes no exit code.\n"
        "Nothing is started or written."
    )
    parser = add_command(subparsers, "check", "check settings, catalog and policy", more)
    settings_argument(parser)
    json_argument(parser)
    parser.set_defaults(handler=_check)


def _check(args: argparse.Namespace) -> int:
    problems, notes = _found(args)
    if problems:
        raise Failure(*problems, exit_code=USAGE)
    warnings = _warnings(read_settings(args))
    if args.json:
        told: dict[str, list[str]] = {} if notes is None else {"notes": notes}
        emit({"ok": True, "problems": [], **told, **({"warnings": warnings} if warnings else {})})
        return OK
    also = "" if notes is None else ", and the shared store serves"
    say(f"settings, catalog, policy, tokens and credentials are in order{also}")
    for note in notes or ():
        say(f"not seen: {clean(note)}")
    for warning in warnings:
        say(f"warning: {clean(warning)}")
    return OK


def _found(args: argparse.Namespace) -> tuple[list[str], list[str] | None]:
    """Problems, and what could not be seen of a shared store; None without one."""
    from proxy.adapters.yaml_file import YamlError

    try:
        settings = read_settings(args)
    except SettingsError as error:
        return [*error.problems, *_named(args.settings)], None
    except YamlError as error:
        return list(error.problems), None
    return asyncio.run(_looked(settings))


async def _looked(settings: Settings) -> tuple[list[str], list[str] | None]:
    from proxy.adapters.workshop import Workshop

    if settings.store is None:
        return await Workshop(settings).problems(), None
    from proxy.adapters.store_valkey_check import look_at_store

    problems, store = await asyncio.gather(Workshop(settings).problems(), look_at_store(settings.store))
    return [*problems, *store.problems], store.notes


def _warnings(settings: Settings) -> list[str]:
    """What is in order and looks like a mistake: roles that nobody has. Known only where all tokens stand in files."""
    from proxy.adapters.policy_origin import policy_document
    from proxy.adapters.token_file import parse_tokens
    from proxy.adapters.workshop import Workshop
    from proxy.core.roles import roles_of_reviewers, roles_of_users, unheld

    if settings.bundle is not None:
        return []
    document = policy_document(settings.policy, Workshop(settings).sources)
    warnings: list[str] = []
    for tokens, named in ((settings.tokens, roles_of_users), (settings.reviewers, roles_of_reviewers)):
        if tokens.file is not None and not tokens.issuers:
            people = parse_tokens(tokens.file.read_bytes()).values()
            held = {role for person in people for role in person.roles}
            warnings += [f"{settings.policy.name}: {said}" for said in unheld(named(document), held, tokens.file.name)]
    return warnings


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
