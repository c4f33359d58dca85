"""`sidegate policy build | test`: the bundle that OPA reads, and the proof that it says what its authors mean."""

import argparse
import asyncio
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

from proxy.cli.common import (
    OK,
    USAGE,
    Failure,
    add_command,
    emit,
    json_argument,
    progress,
    read_settings,
    say,
    settings_argument,
)
from proxy.settings import SettingsError

T = TypeVar("T")

_ABOUT = """The bundle is policy.yaml, our policies, and yours (policy_folders). `sidegate serve` builds it by itself;
`build` is for an OPA that runs elsewhere, `test` for a change to come."""
_TEST = """Samples evaluate as named, Rego tests pass and cover every line, and no denied or held sample becomes more
lenient when a fact is absent."""


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Register the subcommand."""
    parser = add_command(subparsers, "policy", "build or test the policy bundle", _ABOUT)
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    build = add_command(actions, "build", "check, prove and write the bundle that OPA reads", _ABOUT)
    build.add_argument(
        "--output",
        type=Path,
        default=Path("policy.tar.gz"),
        metavar="FILE",
        help="where to write it (default: policy.tar.gz)",
    )
    build.set_defaults(handler=_build)
    test = add_command(actions, "test", "prove that the policies say what they mean; writes nothing", _TEST)
    test.set_defaults(handler=_test)
    for action in (build, test):
        settings_argument(action)
        json_argument(action)


def _build(args: argparse.Namespace) -> int:
    from proxy.adapters.bundle import write

    try:
        args.output.parent.mkdir(parents=True, exist_ok=True)  # before the long work
        assembled, proof = _run(_proven(args))
        info = write(assembled, args.output)
    except OSError as error:
        raise Failure(f"{error.filename or args.output}: {error.strerror}", exit_code=USAGE) from None
    document = {"bundle": str(info.path), "revision": info.revision, "policies": info.policies, **proof}
    if args.json:
        emit(document)
    else:
        say(f"{info.path}  revision {info.revision[:12]}  policies {', '.join(info.policies)}")
    return OK


def _test(args: argparse.Namespace) -> int:
    _, proof = _run(_proven(args))
    if args.json:
        emit(proof)
        return OK
    say(f"{proof['samples']} samples evaluate as named")
    say(f"{proof['tests']} Rego tests pass and cover {proof['coverage']:.0f} % of the policy lines")
    if proof["mutants"]:
        say(f"{proof['mutants']} mutants of your own samples, each with a fact absent, are no more lenient")
    return OK


async def _proven(args: argparse.Namespace) -> tuple[Any, dict[str, Any]]:
    from proxy.adapters.bundle_proof import prove
    from proxy.adapters.workshop import Workshop

    workshop = Workshop(read_settings(args))
    progress("1/2 check: settings, catalog, schema, capabilities, names")
    assembled = await workshop.assembled(workshop.catalog())
    progress("2/2 prove: samples, Rego tests, absence sweep")
    proof = await prove(workshop.opa(), workshop.sources, assembled)
    return assembled, {
        "samples": proof.samples,
        "mutants": proof.mutants,
        "tests": proof.tests.passed,
        "coverage": proof.tests.coverage,
        "warnings": list(assembled.warnings),
    }


def _run(work: Coroutine[Any, Any, T]) -> T:
    from proxy.adapters.bundle import BundleError
    from proxy.adapters.state_directory import UnusableError
    from proxy.adapters.yaml_file import YamlError
    from proxy.core.catalog import CatalogError

    try:
        return asyncio.run(work)
    except (SettingsError, YamlError, CatalogError) as error:
        raise Failure(*error.problems, exit_code=USAGE) from None
    except BundleError as error:
        raise Failure(*error.problems) from None
    except UnusableError as error:
        raise Failure(str(error), exit_code=USAGE) from None
