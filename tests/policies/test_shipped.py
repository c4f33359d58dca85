"""The shipped policies: formatted, checked, tested line by line, and their samples evaluate as named."""

import re
from pathlib import Path

from proxy.adapters import opa_cli
from proxy.adapters.archive import lay_out
from proxy.adapters.bundle import Sources
from proxy.adapters.bundle_check import Checks, check_rego
from proxy.adapters.bundle_proof import collect, run_samples, sample_bundle, serving
from proxy.adapters.rego_tests import run_tests
from tests.contracts.opa_server import opa_binary

REGO = Path(__file__).parents[2] / "rego"
SOURCES = Sources(shipped=REGO)
PARTS = {"allowed.json", "denied.json", "held.json"}


async def test_every_file_is_formatted() -> None:
    """`opa fmt` would change nothing, tests included."""
    said = await opa_cli.run_opa(opa_binary(), "fmt", "--fail", "--list", str(REGO), directory=REGO)
    assert (said.code, said.text) == (0, "")


async def test_every_file_passes_the_strict_check(tmp_path: Path) -> None:
    """With the input schema and without forbidden functions."""
    assembled = await sample_bundle(opa_binary(), SOURCES)
    lay_out(assembled.files, tmp_path / "bundle")
    (tmp_path / "capabilities.json").write_bytes(await opa_cli.capabilities(opa_binary(), tmp_path))
    options = ("--strict", "--capabilities", "capabilities.json", "--schema", str(REGO / "schemas"), "--bundle")
    said = await opa_cli.run_opa(opa_binary(), "check", *options, "bundle", directory=tmp_path)
    assert (said.code, said.text) == (0, "")
    assert assembled.warnings == ()


async def test_every_file_passes_the_lint(tmp_path: Path) -> None:
    """As those of others must: a build does not lint again what is shipped, so it is done as if they were another's."""
    assembled = await sample_bundle(opa_binary(), SOURCES)
    (tmp_path / "schemas").symlink_to(REGO / "schemas")
    checks = Checks(opa=opa_binary(), shipped=tmp_path)
    assert await check_rego(checks, assembled.files, assembled.authors) == ()


async def test_every_line_is_covered_by_a_test() -> None:
    """All Rego tests pass, and no line of a policy is left out."""
    report = await run_tests(opa_binary(), SOURCES, await sample_bundle(opa_binary(), SOURCES))
    assert (report.failed, report.uncovered, report.coverage) == ((), (), 100.0)
    assert report.passed > 80


async def test_every_sample_evaluates_as_named() -> None:
    """Allowed, denied, held, with exactly the codes that the sample says."""
    bundle = await sample_bundle(opa_binary(), SOURCES)
    samples, _ = collect(SOURCES, bundle)[0]
    async with serving(opa_binary(), bundle.files) as ask:
        assert await run_samples(ask, samples) == {}


def test_every_policy_is_a_whole_folder() -> None:
    """A policy, its test and its three sample files: a contribution is always the same set of files."""
    for folder in (REGO / "sidegate/policies").iterdir():
        assert {file.name for file in folder.glob("*.rego")} == {f"{folder.name}.rego", f"{folder.name}_test.rego"}
        assert {file.name for file in (folder / "samples").iterdir()} - {"pardons.json"} == PARTS


def test_every_code_is_documented() -> None:
    """Reason codes and guards are API: each stands in the table of rego/README.md."""
    texts = [file.read_text() for file in REGO.rglob("*.rego") if not file.name.endswith("_test.rego")]
    codes = {code for text in texts for code in re.findall(r'"code": "([a-z_]+)"|_guards contains "([a-z_]+)"', text)}
    readme = (REGO / "README.md").read_text()
    undocumented = [code for pair in codes for code in pair if code and f"`{code}`" not in readme]
    assert len(codes) > 10
    assert undocumented == []


def test_lines_are_short() -> None:
    """At most 120 characters, and a policy file stays readable on two screens."""
    for file in REGO.rglob("*.rego"):
        lines = file.read_text().splitlines()
        assert max(map(len, lines)) <= 120, file
        assert len(lines) <= 300, file
