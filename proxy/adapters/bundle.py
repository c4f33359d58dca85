"""The policy bundle: settings and policy folders become one checked file that OPA reads (design sections 10 and 11).

`assemble` is quick and what `serve` does before it starts; `bundle_proof` adds samples, tests and the absence sweep.
"""

import asyncio
import gzip
import hashlib
import io
import os
import shutil
import tarfile
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from proxy.adapters import opa_cli
from proxy.core.policy_data import compile_policy
from proxy.core.policy_document import PolicyDataError
from proxy.core.policy_lint import lint

_DECISION = "sidegate/decision"
_POLICIES = "sidegate/policies"
_ROOTS = "bundle bundle: manifest roots"


class BundleError(Exception):
    """No bundle was written. `problems` are all of the stage that failed, each with its place."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


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
class Assembled:
    """A checked bundle in memory. `files` are its members; `authors` maps them to the files their authors wrote."""

    revision: str
    files: Mapping[str, bytes]
    authors: Mapping[str, Path]
    folders: Mapping[str, Path]
    warnings: tuple[str, ...] = ()

    @property
    def settings(self) -> dict[str, Any]:
        """What stands under `data.sidegate.settings`."""
        settings: dict[str, Any] = orjson.loads(self.files["sidegate/settings/data.json"])
        return settings


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleInfo:
    """A written bundle."""

    path: Path
    revision: str
    policies: tuple[str, ...]
    warnings: tuple[str, ...] = field(default=())


async def build_bundle(
    opa: Path, sources: Sources, policy: Mapping[str, Any], *, catalog_revision: str, output: Path
) -> BundleInfo:
    """Assemble and write. Raises BundleError with all problems; then the old `output` still stands."""
    assembled = await assemble(opa, sources, policy, catalog_revision=catalog_revision)
    return write(assembled, output)


async def assemble(opa: Path, sources: Sources, policy: Mapping[str, Any], *, catalog_revision: str) -> Assembled:
    """Collect, compile and check. Raises BundleError with all problems of the first stage that has any."""
    try:
        settings = compile_policy(policy, _policy_schema(sources))
    except PolicyDataError as error:
        raise BundleError(error.problems) from error
    folders, problems = _folders(sources)
    problems += _unlisted(settings["policies"], folders)
    authors = {f"{_DECISION}/{file.name}": file for file in _rego_files(sources.shipped / _DECISION)}
    for name, folder in folders.items():
        authors |= {f"{_POLICIES}/{name}/{file.name}": file for file in _rego_files(folder)}
        problems += _strangers(folder)
    if problems:
        raise BundleError(problems)
    rego = {name: file.read_bytes() for name, file in sorted(authors.items())}
    revision = _revision(rego, settings, catalog_revision)
    files = {
        **rego,
        "sidegate/settings/data.json": _json({**settings, "revision": revision}),
        ".manifest": _json({"revision": revision, "roots": ["sidegate"], "rego_version": 2}),
    }
    assembled = Assembled(revision=revision, files=files, authors=authors, folders=folders)
    try:
        return await _checked(opa, sources, assembled)
    except opa_cli.OpaFailedError as error:
        raise BundleError([str(error)]) from error


def write(assembled: Assembled, output: Path) -> BundleInfo:
    """The same bytes for the same content, renamed into place in one step."""
    output.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=output.parent, prefix=f".{output.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(pack(assembled.files))
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(0o644)
        Path(name).replace(output)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    return BundleInfo(
        path=output,
        revision=assembled.revision,
        policies=tuple(sorted(assembled.folders)),
        warnings=assembled.warnings,
    )


def pack(files: Mapping[str, bytes]) -> bytes:
    """A deterministic .tar.gz: sorted names, no times, no owners."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name in sorted(files):
            member = tarfile.TarInfo(name)
            member.size = len(files[name])
            member.mode = 0o644
            archive.addfile(member, io.BytesIO(files[name]))
    return gzip.compress(packed.getvalue(), mtime=0)


def lay_out(files: Mapping[str, bytes], directory: Path) -> None:
    """Write bundle members as files under `directory`."""
    for name, content in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


async def _checked(opa: Path, sources: Sources, assembled: Assembled) -> Assembled:
    with tempfile.TemporaryDirectory(prefix="sidegate-bundle-") as name:
        work = Path(name)
        await asyncio.to_thread(lay_out, assembled.files, work / "bundle")
        await asyncio.to_thread(shutil.copytree, sources.schemas, work / "schemas")
        (work / "capabilities.json").write_bytes(await opa_cli.capabilities(opa, work))
        compiled, formatted, linted = await asyncio.gather(
            opa_cli.run_opa(opa, *_check_arguments(), directory=work),
            opa_cli.run_opa(opa, "fmt", "--list", "bundle", directory=work),
            _linted(opa, work, assembled),
        )
    names = {f"bundle/{name}": str(file) for name, file in assembled.authors.items()}
    problems = opa_cli.errors(compiled, names) if compiled.code else []
    if linted:  # it says the same of a wrong package, and where
        problems = [problem for problem in problems if _ROOTS not in problem]
    problems += [problem for problem in linted if problem not in problems]
    if problems:
        raise BundleError(problems)
    ragged = [names.get(line, line) for line in formatted.out.decode().split()]
    return Assembled(
        revision=assembled.revision,
        files=assembled.files,
        authors=assembled.authors,
        folders=assembled.folders,
        warnings=tuple(f"{file}: not formatted (opa fmt -w)" for file in ragged),
    )


def _check_arguments() -> tuple[str, ...]:
    options = ("--strict", "--schema", "schemas", "--capabilities", "capabilities.json", "--format", "json")
    return ("check", *options, "--max-errors", "100", "--bundle", "bundle")


async def _linted(opa: Path, work: Path, assembled: Assembled) -> list[str]:
    found = await asyncio.gather(*(_lint_file(opa, work, name, file) for name, file in assembled.authors.items()))
    return [problem for problems in found for problem in problems]


async def _lint_file(opa: Path, work: Path, name: str, author: Path) -> list[str]:
    arguments = ("parse", f"bundle/{name}", "--format", "json", "--json-include", "locations,-comments")
    said = await opa_cli.run_opa(opa, *arguments, directory=work)
    if said.code:
        return opa_cli.errors(said, {f"bundle/{name}": str(author)})
    package = Path(name).parent.as_posix().replace("/", ".")
    module = orjson.loads(said.out)
    return lint(module, file=str(author), package=package, policy=name.startswith(_POLICIES))


def _policy_schema(sources: Sources) -> Mapping[str, Any]:
    try:
        schema: Mapping[str, Any] = orjson.loads((sources.schemas / "policy.json").read_bytes())
    except (OSError, orjson.JSONDecodeError) as error:
        raise BundleError([f"{sources.schemas / 'policy.json'}: cannot be read: {error}"]) from error
    return schema


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


def _unlisted(listed: Mapping[str, str], folders: Mapping[str, Path]) -> list[str]:
    missing = [
        f"policies.{name}: listed, but there is no folder of that name" for name in sorted(listed.keys() - folders)
    ]
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


def _revision(rego: Mapping[str, bytes], settings: Mapping[str, Any], catalog_revision: str) -> str:
    digest = hashlib.sha256()
    for part in (catalog_revision.encode(), _json(settings), *(part for item in rego.items() for part in item)):
        content = part.encode() if isinstance(part, str) else part
        digest.update(len(content).to_bytes(8, "big") + content)
    return digest.hexdigest()


def _json(value: Mapping[str, Any]) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
