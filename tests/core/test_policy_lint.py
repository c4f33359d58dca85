"""What a policy file may look like, over syntax trees of the real `opa parse`."""

import subprocess
from pathlib import Path
from typing import Any

import orjson
import pytest

from proxy.core.policy_lint import EXPORTS, lint
from tests.contracts.opa_server import opa_binary

HEAD = """# METADATA
# title: Team
# description: Something.
# schemas:
#   - input: schema.input
package sidegate.policies.team

import rego.v2

"""
ROW = HEAD.count("\n") + 1


def parsed(rego: str, folder: Path) -> Any:
    """The syntax tree as the build reads it."""
    file = folder / "team.rego"
    file.write_text(rego)
    command = [str(opa_binary()), "parse", str(file), "--format", "json", "--json-include", "locations,-comments"]
    return orjson.loads(subprocess.run(command, check=True, capture_output=True).stdout)


def found(rego: str, folder: Path, *, policy: bool = True) -> list[str]:
    """Problems of a file in the folder of the policy team."""
    return lint(parsed(rego, folder), file="team.rego", package="sidegate.policies.team", policy=policy)


@pytest.mark.parametrize(
    "rule",
    [
        'deny contains {"code": "a"} if input.x',
        'review contains {"code": "a", "message": $"{input.x} of {data.sidegate.settings.y}"} if input.x',
        'allow contains {"code": input.x} if input.x',
        "_private := input.x",
        "_helper(x) if x == input.y",
        "deny contains reason if some reason in data.sidegate.settings.custom.team",
    ],
)
def test_what_a_policy_may_say(tmp_path: Path, rule: str) -> None:
    """Sets under the exported names, private helpers, input and settings."""
    assert found(HEAD + rule, tmp_path) == []


@pytest.mark.parametrize("name", ["denies", "Deny", "denied", "reviews", "x", "visibles", "shadow"])
def test_a_misspelt_name(tmp_path: Path, name: str) -> None:
    """Whatever is neither exported nor private is a slip."""
    problems = found(HEAD + f"{name} contains 1 if input.x", tmp_path)
    assert [problem.split(":")[1] for problem in problems] == [str(ROW)]
    assert f"{name} is no name that a policy exports" in problems[0]


@pytest.mark.parametrize("name", sorted(EXPORTS))
@pytest.mark.parametrize(
    "shape", ["{} := true", "{} if input.x", '{}["a"] := 1', "default {} := 1", "{}.a.b := 1", "{}(x) := x"]
)
def test_an_export_is_a_set(tmp_path: Path, name: str, shape: str) -> None:
    """Of any other type it would deny every call, or fail."""
    assert any(f"{name} is not a set" in problem for problem in found(HEAD + shape.format(name), tmp_path))


@pytest.mark.parametrize(
    "head",
    [
        '{"code": "a", "message": input.x}',
        '{"code": "a", "message": sprintf("%s", [input.x])}',
        '{"code": "a", "details": {"x": {"y": input.x}}}',
        "input",
        'object.union({"code": "a"}, {"details": input.x[_]})',
    ],
)
@pytest.mark.parametrize("name", ["deny", "review"])
def test_a_head_that_reads_input(tmp_path: Path, name: str, head: str) -> None:
    """An absent fact would take the reason with it."""
    problems = found(HEAD + f"{name} contains {head} if true", tmp_path)
    assert problems == [
        f"team.rego:{ROW}: {name} reads input in its head: an absent fact would lose it; use a template string"
    ]


@pytest.mark.parametrize(
    "rule",
    [
        "deny contains 1 if data.sidegate.policies.grants.allow",
        "deny contains 1 if data.sidegate.decision.decision",
        "deny contains 1 if data.other",
        "deny contains 1 if data[input.x]",
        "deny contains 1 if data.sidegate[input.x]",
        "_x := data",
        "_x := [y | some settings; y := data.sidegate[settings].policies]",
        "_x := [y | some y in data.sidegate.policies]",
        '_x := $"{data.other}"',
    ],
)
def test_what_is_not_its_business(tmp_path: Path, rule: str) -> None:
    """Policies never look at each other."""
    assert any("is not the policy's business" in problem for problem in found(HEAD + rule, tmp_path))


def test_an_import_of_others(tmp_path: Path) -> None:
    """Nor by another name."""
    problems = found(HEAD + "import data.sidegate.policies.grants\n\n_x := grants.allow\n", tmp_path)
    assert any("data.sidegate.policies.grants is not the policy's business" in problem for problem in problems)


def test_the_package_is_the_folder(tmp_path: Path) -> None:
    """A file in another's package would add rules to it."""
    problems = found(HEAD.replace("policies.team", "policies.grants"), tmp_path)
    assert problems == ["team.rego:6: package sidegate.policies.grants stands in the folder of sidegate.policies.team"]


def test_rego_v2_and_metadata(tmp_path: Path) -> None:
    """All that is missing, at once."""
    problems = found("package sidegate.policies.team\n\nimport rego.v1\n\n_x := 1\n", tmp_path)
    assert [problem.split(": ", 1)[1].split(":")[0] for problem in problems] == [
        "import rego.v2 is missing",
        "the package's METADATA has no description",
        "the package's METADATA has no schemas",
        "the package's METADATA has no title",
    ]


def test_the_composer_has_names_of_its_own(tmp_path: Path) -> None:
    """It reads the policies, and exports entry points."""
    rego = HEAD + "decision := data.sidegate.policies[input.x].deny\n"
    assert found(rego, tmp_path, policy=False) == []
    assert len(found(rego, tmp_path)) == 2
