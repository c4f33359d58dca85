"""What OPA and the lint say of a bundle's Rego, and a memory of bundles that were found in order.

Files that Sidegate ships are not linted again: a test does. Two things more let a sidecar start sooner (`memory`; builds and
`sidegate check` have none): Rego that is all as shipped is left to the OPA that will serve it, which compiles it anyway; and
what the same OPA and the same Sidegate have found in order before is not checked again. The memory is in the state directory,
which is ours alone (0700); one that others can write is not believed.
"""

import asyncio
import hashlib
import os
import shutil
import stat
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import orjson

from proxy import __version__
from proxy.adapters import opa_cli
from proxy.adapters.archive import lay_out, replace
from proxy.core.policy_lint import lint

_POLICIES = "sidegate/policies"
_ROOTS = "bundle bundle: manifest roots"
_REMEMBERED = 8  # bundles


class BundleError(Exception):
    """No bundle was written. `problems` are all of the stage that failed, each with its place. `passing`: of the machine, so that
    the same content may be in order at the next try."""

    def __init__(self, problems: Sequence[str], *, passing: bool = False) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)
        self.passing = passing


@dataclass(frozen=True, slots=True, kw_only=True)
class Checks:
    """With what is checked. `shipped` is our `rego/` folder; `memory` the file of what was found in order, if any."""

    opa: Path
    shipped: Path
    memory: Path | None = None


async def check_rego(checks: Checks, files: Mapping[str, bytes], authors: Mapping[str, Path]) -> tuple[str, ...]:
    """Warnings about a bundle of these members. Raises BundleError with all problems, OpaFailedError."""
    own = {name: file for name, file in authors.items() if not _is_shipped(checks.shipped, name, files[name])}
    if checks.memory is not None and not own:
        return ()
    key = await asyncio.to_thread(_key, checks, files)
    known = _remembered(checks.memory)
    if key in known:
        return tuple(known[key])
    with tempfile.TemporaryDirectory(prefix="sidegate-bundle-") as name:
        work = Path(name)
        await asyncio.to_thread(_prepare, work, checks, files)
        compiled, ragged, linted = await asyncio.gather(
            _compiled(checks.opa, work), _ragged(checks.opa, work, own), _linted(checks.opa, work, own)
        )
    names = {f"bundle/{name}": str(file) for name, file in authors.items()}
    problems = opa_cli.errors(compiled, names) if compiled.code else []
    if linted:  # it says the same of a wrong package, and where
        problems = [problem for problem in problems if _ROOTS not in problem]
    problems += [problem for problem in linted if problem not in problems]
    if problems:
        raise BundleError(problems)
    warnings = tuple(f"{names.get(line, line)}: not formatted (opa fmt -w)" for line in ragged)
    _remember(checks.memory, {**known, key: list(warnings)})
    return warnings


def _prepare(work: Path, checks: Checks, files: Mapping[str, bytes]) -> None:
    lay_out(files, work / "bundle")
    shutil.copytree(checks.shipped / "schemas", work / "schemas")


async def _compiled(opa: Path, work: Path) -> opa_cli.Said:
    capabilities = await opa_cli.capabilities(opa, work)
    await asyncio.to_thread((work / "capabilities.json").write_bytes, capabilities)
    options = ("--strict", "--schema", "schemas", "--capabilities", "capabilities.json", "--format", "json")
    return await opa_cli.run_opa(opa, "check", *options, "--max-errors", "100", "--bundle", "bundle", directory=work)


async def _ragged(opa: Path, work: Path, own: Mapping[str, Path]) -> list[str]:
    if not own:
        return []
    said = await opa_cli.run_opa(opa, "fmt", "--list", *(f"bundle/{name}" for name in own), directory=work)
    return said.out.decode().split()


async def _linted(opa: Path, work: Path, own: Mapping[str, Path]) -> list[str]:
    found = await asyncio.gather(*(_lint_file(opa, work, name, file) for name, file in own.items()))
    return [problem for problems in found for problem in problems]


async def _lint_file(opa: Path, work: Path, name: str, author: Path) -> list[str]:
    arguments = ("parse", f"bundle/{name}", "--format", "json", "--json-include", "locations,-comments")
    said = await opa_cli.run_opa(opa, *arguments, directory=work)
    if said.code:
        return opa_cli.errors(said, {f"bundle/{name}": str(author)})
    package = Path(name).parent.as_posix().replace("/", ".")
    module = orjson.loads(said.out)
    return lint(module, file=str(author), package=package, policy=name.startswith(_POLICIES))


def _is_shipped(shipped: Path, name: str, content: bytes) -> bool:
    try:
        return (shipped / name).read_bytes() == content
    except OSError:
        return False


def _key(checks: Checks, files: Mapping[str, bytes]) -> str:
    """Hash of all that a check hangs on: members, schemas, this OPA, this Sidegate."""
    digest = hashlib.sha256(__version__.encode())
    try:
        status = checks.opa.stat()
        parts = [f"{checks.opa.resolve()}\0{status.st_ino}\0{status.st_size}\0{status.st_mtime_ns}".encode()]
        for file in sorted((checks.shipped / "schemas").iterdir()):
            parts += [file.name.encode(), file.read_bytes()]
    except OSError:
        parts = [os.urandom(16)]  # what cannot be looked at is checked, and says so there
    for part in (*parts, *(part for name in sorted(files) for part in (name.encode(), files[name]))):
        digest.update(len(part).to_bytes(8, "big") + part)
    return digest.hexdigest()


def _remembered(memory: Path | None) -> dict[str, list[str]]:
    try:
        if memory is None or not _private(memory):
            return {}
        document = orjson.loads(memory.read_bytes())
        return {str(key): [str(line) for line in lines] for key, lines in document.items()}
    except (OSError, ValueError, AttributeError, TypeError):
        return {}


def _remember(memory: Path | None, known: Mapping[str, list[str]]) -> None:
    if memory is None:
        return
    try:
        memory.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        replace(memory, orjson.dumps(dict(list(known.items())[-_REMEMBERED:])), mode=0o600)
    except OSError:
        return  # the next start checks again


def _private(memory: Path) -> bool:
    """Whether nobody but this user can write the file or its directory."""
    return all(
        status.st_uid == os.geteuid() and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
        for status in (memory.stat(), memory.parent.stat())
    )
