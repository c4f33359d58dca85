"""`sidegate policy build` and `policy test`."""

import json
import tarfile
from pathlib import Path

import pytest

from tests.cli.command import Done, inside

OWN = """# METADATA
# title: Weekend
# description: Nothing on Sundays.
# schemas:
#   - input: schema.input
package sidegate.policies.weekend

import rego.v2

# METADATA
# title: Closed
deny contains {"code": "closed", "message": $"{input.tool.name} rests"} if {
	input.tool.name == "say_goodbye"
}
"""


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """What `sidegate init` makes."""
    assert inside("init", tmp_path).code == 0
    return tmp_path


def policy(action: str, directory: Path, *words: str | Path) -> Done:
    return inside("policy", action, "--settings", directory / "sidegate.yaml", *words)


def test_the_preset_proves_and_builds(directory: Path) -> None:
    """`test` tells what was tried, `build` writes a bundle whose manifest has the revision that it tells."""
    tested = policy("test", directory)
    assert tested.code == 0
    assert "samples evaluate as named" in tested.out
    assert "100 %" in tested.out
    assert "1/2" in tested.err, "long work shows progress, beside the output"
    assert not list(directory.rglob("*.tar.gz"))

    built = policy("build", directory, "--output", directory / "out.tar.gz", "--json")
    assert built.code == 0
    told = json.loads(built.out)
    assert told["samples"] > 20
    assert told["tests"] > 50
    assert told["coverage"] == 100.0
    with tarfile.open(directory / "out.tar.gz") as bundle:
        names = [member.name.lstrip("/") for member in bundle]
        manifest = bundle.extractfile(next(m for m in bundle if m.name.endswith(".manifest")))
        assert manifest is not None
        assert json.loads(manifest.read())["revision"] == told["revision"]
    assert not [name for name in names if name.endswith("_test.rego")]


def test_an_own_policy_without_samples_is_refused(directory: Path) -> None:
    """The answer is no: exit code 1, the folder and what it lacks."""
    folder = directory / "policies" / "weekend"
    folder.mkdir(parents=True)
    (folder / "weekend.rego").write_text(OWN)
    settings = directory / "sidegate.yaml"
    settings.write_text(settings.read_text().replace("# policy_folders: [policies]", "policy_folders: [policies]"))
    matrix = directory / "policy.yaml"
    matrix.write_text(matrix.read_text().replace("review: enforce}", "review: enforce, weekend: enforce}"))
    done = policy("test", directory)
    assert done.code == 1
    assert done.out == ""
    assert "weekend" in done.err


def test_what_cannot_be_read_is_64(directory: Path) -> None:
    """Settings, catalog, policy: the sentence of whoever reads it."""
    (directory / "policy.yaml").write_text("schema: 2\n")
    done = policy("build", directory, "--output", directory / "out.tar.gz")
    assert done.code in (1, 64)
    assert "policy.yaml" in done.err
    assert not (directory / "out.tar.gz").exists()
    (directory / "catalog/tools.yaml").write_text("tools: 3\n")
    assert policy("test", directory).code == 64
    assert policy("test", directory / "nowhere").code == 64


def test_a_place_that_cannot_be_written_is_a_sentence(directory: Path) -> None:
    done = policy("build", directory, "--output", directory / "policy.yaml" / "out.tar.gz")
    assert done.code == 64
    assert done.err.splitlines()[-1].startswith("sidegate: ")
