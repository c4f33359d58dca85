"""`sidegate policy build | test | install`: the bundle that OPA reads, and the proof that it says what its authors mean."""

import argparse
import asyncio
from collections.abc import Coroutine, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from proxy.cli.common import FAILED, OK, USAGE, Failure, emit, progress, read_settings, say
from proxy.settings import Settings, SettingsError

if TYPE_CHECKING:
    from proxy.adapters.bundle import Assembled

T = TypeVar("T")


def build(args: argparse.Namespace) -> int:
    """Prove and write one layer."""
    try:
        args.output.parent.mkdir(parents=True, exist_ok=True)  # before the long work
        document = run(_written(args))
    except OSError as error:
        raise Failure(f"{error.filename or args.output}: {error.strerror}", exit_code=USAGE) from None
    if args.json:
        emit(document)
    else:
        signed = "  signed" if document["signed"] else ""
        layer = f"  layer {document['layer']}  revision {document['revision'][:12]}"
        say(f"{args.output}{layer}{signed}  policies {', '.join(document['policies'])}")
    return OK


def test(args: argparse.Namespace) -> int:
    """Prove, and write nothing."""
    _, proof = run(_proven(_from_folders(args)))
    if args.json:
        emit(proof)
        return OK
    say(f"{proof['samples']} samples evaluate as named")
    say(f"{proof['tests']} Rego tests pass and cover {proof['coverage']:.0f} % of the policy lines")
    if proof["mutants"]:
        say(f"{proof['mutants']} mutants of your own samples, each with a fact absent, are no more lenient")
    return OK


def install(args: argparse.Namespace) -> int:
    """Verify the policy as `serve` does and put it where OPA reads it: for an OPA that starts before the sidecar."""
    settings = read_settings(args)
    assembled, output = run(_installed(settings), of_bundle=USAGE)
    if args.json:
        emit({"bundle": str(output), "revision": assembled.revision, "layers": dict(assembled.layers)})
    else:
        layers = ", ".join(f"{name} {revision[:12]}" for name, revision in assembled.layers.items())
        say(f"{output}  revision {assembled.revision[:12]}  layers {layers}")
    return OK


async def _written(args: argparse.Namespace) -> dict[str, Any]:
    from proxy.adapters.archive import pack, replace
    from proxy.adapters.bundle_signature import sign
    from proxy.adapters.workshop import Workshop
    from proxy.core.layers import beside_teams, policies_in, team_members

    settings, layer = _from_folders(args), args.layer
    teams = frozenset(name for name in args.teams.split(",") if name)
    assembled, proof = await _proven(settings, teams)
    revision, members = assembled.revision, dict(assembled.files)
    if layer != "platform":
        if layer not in assembled.folders:
            raise Failure(
                f"there is no policy {layer} in policy_folders; --layer names the one to build", exit_code=USAGE
            )
        revision, members = team_members(layer, {name: members[name] for name in assembled.authors})
    elif teams:
        members = beside_teams(members)
    if args.signing_key is not None:
        members = await sign(Workshop(settings).opa(), members, args.signing_key)
    await asyncio.to_thread(replace, args.output, pack(members))
    told = {"bundle": str(args.output), "layer": layer, "revision": revision, "signed": args.signing_key is not None}
    return {**told, "policies": tuple(sorted(policies_in(members))), **proof}


def _from_folders(args: argparse.Namespace) -> Settings:
    settings = read_settings(args)
    if settings.bundle is not None:
        raise Failure(
            f"{args.settings} names a bundle that is built already; build from settings that name `policy`",
            exit_code=USAGE,
        )
    return settings


async def _proven(settings: Settings, apart: frozenset[str] = frozenset()) -> tuple["Assembled", Mapping[str, Any]]:
    from proxy.adapters.bundle_proof import prove
    from proxy.adapters.workshop import Workshop

    workshop = Workshop(settings)
    progress("1/2 check: settings, catalog, schema, capabilities, names")
    assembled = await workshop.assembled(workshop.catalog(), apart)
    progress("2/2 prove: samples, Rego tests, absence sweep")
    proof = await prove(workshop.opa(), workshop.sources, assembled)
    return assembled, {
        "samples": proof.samples,
        "mutants": proof.mutants,
        "tests": proof.tests.passed,
        "coverage": proof.tests.coverage,
        "warnings": list(assembled.warnings),
    }


async def _installed(settings: Settings) -> tuple["Assembled", Path]:
    from proxy.adapters.workshop import Workshop

    workshop = Workshop(settings)
    return await workshop.installed(), workshop.output


def run(work: Coroutine[Any, Any, T], *, of_bundle: int = FAILED) -> T:
    """The work's answer, or a Failure with its sentences; `of_bundle` is the exit code for a policy that OPA does not take."""
    from proxy.adapters.bundle import BundleError
    from proxy.adapters.bundle_signature import SignatureError
    from proxy.adapters.opa_cli import OpaFailedError
    from proxy.adapters.state_directory import UnusableError
    from proxy.adapters.yaml_file import YamlError
    from proxy.core.catalog import CatalogError

    try:
        return asyncio.run(work)
    except (SettingsError, YamlError, CatalogError) as error:
        raise Failure(*error.problems, exit_code=USAGE) from None
    except BundleError as error:
        raise Failure(*error.problems, exit_code=of_bundle) from None
    except OpaFailedError as error:
        raise Failure(str(error), exit_code=of_bundle) from None
    except (UnusableError, SignatureError) as error:
        raise Failure(str(error), exit_code=USAGE) from None
