"""The policy bundle: settings and policies become one checked file that OPA reads (design sections 10 and 11).

`assemble` is quick and what `serve` does before it starts; `bundle_proof` adds samples, tests and the absence sweep.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from proxy import __version__
from proxy.adapters import opa_cli
from proxy.adapters.archive import pack, replace
from proxy.adapters.bundle_check import BundleError, Checks, check_rego
from proxy.core.layers import DATA, PLATFORM, platform_members, policies_in, revision_of
from proxy.core.policy_data import compile_policy
from proxy.core.policy_document import PolicyDataError, read_document

__all__ = [
    "Assembled",
    "BundleError",
    "PolicyContent",
    "Sources",
    "assemble",
    "bind",
    "collect_sources",
    "policy_schema",
    "write",
]

_DECISION = "sidegate/decision"
_POLICIES = "sidegate/policies"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """Where policies come from. `shipped` is our `rego/` folder, each of `own` a folder of policy folders (`<name>/*.rego`)."""

    shipped: Path
    own: tuple[Path, ...] = ()

    @property
    def schemas(self) -> Path:
        """The folder of input schemas."""
        return self.shipped / "schemas"


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyContent:
    """All policy, wherever it came from, before it is bound to a catalog.

    `authors` maps members to what their authors know them by; `layers` to revisions where it was delivered; `apart` are teams
    whose policies are listed here and delivered by themselves.
    """

    document: Mapping[str, Any]
    rego: Mapping[str, bytes]
    authors: Mapping[str, Path]
    folders: Mapping[str, Path] = field(default_factory=dict)
    layers: Mapping[str, str] | None = None
    apart: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Assembled:
    """A checked bundle in memory. `files` are its members; `authors` maps them to the files their authors wrote."""

    revision: str
    files: Mapping[str, bytes]
    authors: Mapping[str, Path]
    folders: Mapping[str, Path]
    layers: Mapping[str, str]
    warnings: tuple[str, ...] = ()

    @property
    def settings(self) -> dict[str, Any]:
        """What stands under `data.sidegate.settings`."""
        settings: dict[str, Any] = orjson.loads(self.files[DATA])
        return settings


async def assemble(
    opa: Path,
    sources: Sources,
    policy: Mapping[str, Any],
    *,
    catalog_revision: str,
    apart: frozenset[str] = frozenset(),
) -> Assembled:
    """Collect, compile and check. Raises BundleError with all problems of the first stage that has any."""
    content = collect_sources(sources, _document(policy, policy_schema(sources)), apart=apart)
    return await bind(content, Checks(opa=opa, shipped=sources.shipped), catalog_revision=catalog_revision)


def collect_sources(
    sources: Sources, document: Mapping[str, Any], *, apart: frozenset[str] = frozenset()
) -> PolicyContent:
    """Settings, valid by themselves, and policy folders. Raises BundleError with all problems."""
    folders, problems = _folders(sources)
    problems += _unlisted(document["policies"], folders, apart)
    authors = {f"{_DECISION}/{file.name}": file for file in _rego_files(sources.shipped / _DECISION)}
    for name, folder in folders.items():
        authors |= {f"{_POLICIES}/{name}/{file.name}": file for file in _rego_files(folder)}
        problems += _strangers(folder)
    if problems:
        raise BundleError(problems)
    rego = {name: file.read_bytes() for name, file in sorted(authors.items())}
    return PolicyContent(document=document, rego=rego, authors=authors, folders=folders, apart=apart)


async def bind(content: PolicyContent, checks: Checks, *, catalog_revision: str) -> Assembled:
    """The bundle of this policy for that catalog, checked by OPA. Raises BundleError with all problems."""
    settings = compile_policy(content.document, policy_schema(Sources(shipped=checks.shipped)))
    listed = set(settings["policies"]) - content.apart
    there = policies_in(content.rego)
    problems = [
        f"policies.{name}: listed, but no layer that was delivered has it (bundle.teams)"
        for name in sorted(listed - there)
    ] + [f"the policy {name} is delivered, but policies does not list it" for name in sorted(there - listed)]
    if problems:
        raise BundleError(problems)
    revision = revision_of(content.rego, settings, catalog_revision)
    layers = content.layers or {PLATFORM: revision}
    about = {"catalog": catalog_revision, "version": __version__}
    files = platform_members(
        rego=content.rego,
        document=content.document,
        settings=settings,
        about=about if content.layers is None else {**about, "layers": dict(layers)},
        revision=revision,
    )
    try:
        warnings = await check_rego(checks, files, content.authors)
    except opa_cli.OpaFailedError as error:
        raise BundleError([str(error)], passing=True) from error
    return Assembled(
        revision=revision,
        files=files,
        authors=content.authors,
        folders=content.folders,
        layers=layers,
        warnings=warnings,
    )


def write(assembled: Assembled, output: Path) -> None:
    """The same bytes for the same content, renamed into place in one step. Raises OSError; then the old `output` stands."""
    replace(output, pack(assembled.files))


def policy_schema(sources: Sources) -> Mapping[str, Any]:
    """The closed schema of policy.yaml. Raises BundleError."""
    try:
        schema: Mapping[str, Any] = orjson.loads((sources.schemas / "policy.json").read_bytes())
    except (OSError, orjson.JSONDecodeError) as error:
        raise BundleError([f"{sources.schemas / 'policy.json'}: cannot be read: {error}"]) from error
    return schema


def _document(policy: Mapping[str, Any], schema: Mapping[str, Any]) -> Mapping[str, Any]:
    try:
        return read_document(policy, schema)
    except PolicyDataError as error:
        raise BundleError(error.problems) from error


def _folders(sources: Sources) -> tuple[dict[str, Path], list[str]]:
    """Policy name -> folder. A name in two places is a problem: one would add rules to the other."""
    folders: dict[str, Path] = {}
    problems = []
    for root in (sources.shipped / _POLICIES, *sources.own):
        if not root.is_dir():
            problems.append(f"{root}: no such folder")
            continue
        for folder in sorted(root.iterdir()):
            if folder.name.startswith("."):
                continue
            if folder.name in folders:
                problems.append(f"{folder}: the policy {folder.name} is already there: {folders[folder.name]}")
            elif folder.is_dir():
                folders[folder.name] = folder
            else:
                problems.append(f"{folder}: not a policy folder")
    return folders, problems


def _unlisted(listed: Mapping[str, Any], folders: Mapping[str, Path], apart: frozenset[str]) -> list[str]:
    missing = [
        f"policies.{name}: listed, but there is no folder of that name"
        for name in sorted(listed.keys() - folders - apart)
    ]
    missing += [f"{folders[name]}: {name} is said to be delivered apart" for name in sorted(folders.keys() & apart)]
    missing += [f"policies does not list the team {name}" for name in sorted(apart - listed.keys())]
    extra = [f"{folders[name]}: policies does not list {name}" for name in sorted(folders.keys() - listed)]
    return missing + extra


def _rego_files(folder: Path) -> list[Path]:
    return [file for file in sorted(folder.glob("*.rego")) if not file.name.endswith("_test.rego")]


def _strangers(folder: Path) -> list[str]:
    """Data beside a policy would become part of the decision unseen."""
    problems = [] if _rego_files(folder) else [f"{folder}: no .rego file in it"]
    for file in sorted(folder.iterdir()):
        known = file.suffix in (".rego", ".md") or file.name == "samples" or file.name.startswith(".")
        if not known:
            problems.append(f"{file}: does not belong in a policy folder (settings go under custom in the policy file)")
    return problems
