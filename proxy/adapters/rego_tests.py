"""Rego tests: `opa test` over a bundle and the tests that stand beside its policies, with their coverage."""

import asyncio
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from proxy.adapters import opa_cli
from proxy.adapters.archive import lay_out
from proxy.adapters.bundle import Assembled, Sources


@dataclass(frozen=True, slots=True, kw_only=True)
class RegoTests:
    """What `opa test` came to. `coverage` in percent, of the policy files; `uncovered` as file:row."""

    passed: int
    failed: tuple[str, ...]
    coverage: float
    uncovered: tuple[str, ...]


async def run_tests(opa: Path, sources: Sources, assembled: Assembled) -> RegoTests:
    """`opa test` over the bundle's files and the tests beside them. Raises OpaFailedError."""
    with tempfile.TemporaryDirectory(prefix="sidegate-test-") as name:
        work = Path(name)
        authors = await asyncio.to_thread(_lay_out_tests, sources, assembled, work)
        options = ("--format", "json", "--bundle", "--timeout", "20s")
        plain, covered = await asyncio.gather(
            opa_cli.run_opa(opa, "test", "bundle", *options, directory=work),
            opa_cli.run_opa(opa, "test", "bundle", *options, "--coverage", directory=work),
        )
    results = _results(plain)
    if results is None:
        return RegoTests(passed=0, failed=tuple(opa_cli.errors(plain, authors)), coverage=0.0, uncovered=())
    failed = [_failure(result, authors) for result in results if result.get("fail") or result.get("error")]
    coverage, uncovered = _coverage(covered, authors)
    return RegoTests(
        passed=len(results) - len(failed), failed=tuple(failed), coverage=coverage, uncovered=tuple(uncovered)
    )


def _results(said: opa_cli.Said) -> list[Mapping[str, Any]] | None:
    """One entry a test; None if they did not compile. Without any test OPA prints null."""
    try:
        results = orjson.loads(said.out)
    except orjson.JSONDecodeError:
        return None
    return None if isinstance(results, dict) else results or []


def _failure(result: Mapping[str, Any], authors: Mapping[str, str]) -> str:
    location = result["location"]
    place = authors.get(location["file"], location["file"])
    return (
        f"{place}:{location['row']}: {result['name']} failed{': ' + str(result['error']) if 'error' in result else ''}"
    )


def _coverage(said: opa_cli.Said, authors: Mapping[str, str]) -> tuple[float, list[str]]:
    """Percent of covered lines and the uncovered ones, policy files only; nothing is covered if tests failed."""
    try:
        files = orjson.loads(said.out)["files"]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return 0.0, []
    policies = {name.removeprefix("bundle/"): file for name, file in files.items() if not name.endswith("_test.rego")}
    covered = sum(file.get("covered_lines", 0) for file in policies.values())
    missed = sum(file.get("not_covered_lines", 0) for file in policies.values())
    uncovered = [
        f"{authors.get(name, name)}:{span['start']['row']}"
        for name, file in sorted(policies.items())
        for span in file.get("not_covered", [])
    ]
    return 100.0 * covered / max(1, covered + missed), uncovered


def _lay_out_tests(sources: Sources, assembled: Assembled, work: Path) -> dict[str, str]:
    """Bundle and tests as one tree; the author's file for each of its files."""
    lay_out(assembled.files, work / "bundle")
    folders = {f"sidegate/policies/{name}": folder for name, folder in assembled.folders.items()}
    folders["sidegate/decision"] = sources.shipped / "sidegate" / "decision"
    authors = {f"bundle/{name}": str(file) for name, file in assembled.authors.items()}
    for place, folder in folders.items():
        for file in sorted(folder.glob("*_test.rego")):
            lay_out({f"{place}/{file.name}": file.read_bytes()}, work / "bundle")
            authors[f"bundle/{place}/{file.name}"] = str(file)
    return authors
