"""`sidegate policy build`, `test` and `install`: layers, signatures, the same bytes again."""

import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from proxy.adapters.archive import unpack
from tests.adapters.keys import rsa_pair
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


SAMPLES: dict[str, list[dict[str, Any]]] = {
    "allowed": [],
    "denied": [
        {"name": "closed", "codes": ["closed"], "set": {"call.tool": "say_goodbye", "tool.name": "say_goodbye"}}
    ],
    "held": [],
}
TEST = """package sidegate.policies.weekend_test

import data.sidegate.policies.weekend
import rego.v2

test_closed if {
	weekend.deny == {{"code": "closed", "message": "say_goodbye rests"}} with input as {"tool": {"name": "say_goodbye"}}
}
"""


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """What `sidegate init` makes."""
    assert inside("init", tmp_path).code == 0
    return tmp_path


def team_folder(directory: Path) -> None:
    """A policy of one's own with all that it needs, listed."""
    folder = directory / "policies" / "weekend"
    (folder / "samples").mkdir(parents=True)
    (folder / "weekend.rego").write_text(OWN)
    (folder / "weekend_test.rego").write_text(TEST)
    for part, samples in SAMPLES.items():
        (folder / "samples" / f"{part}.json").write_text(json.dumps(samples))
    settings = directory / "sidegate.yaml"
    settings.write_text(settings.read_text().replace("# policy_folders: [policies]", "policy_folders: [policies]"))
    matrix = directory / "policy.yaml"
    matrix.write_text(matrix.read_text().replace("review: enforce}", "review: enforce, weekend: enforce}"))


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


def test_a_build_is_reproducible_signed_or_not(directory: Path) -> None:
    """The same sources and key, the same bytes."""
    private, _ = rsa_pair(directory)
    for words in ((), ("--signing-key", private)):
        outputs = [directory / name for name in ("a.tar.gz", "b.tar.gz")]
        for output in outputs:
            assert policy("build", directory, "--output", output, *words).code == 0
        assert outputs[0].read_bytes() == outputs[1].read_bytes()
        assert (".signatures.json" in unpack(outputs[0].read_bytes())) is bool(words)


def test_a_signing_key_that_is_none_is_64_and_writes_nothing(directory: Path) -> None:
    _, public = rsa_pair(directory)
    done = policy("build", directory, "--output", directory / "out.tar.gz", "--signing-key", public)
    assert (done.code, (directory / "out.tar.gz").exists()) == (64, False)
    assert "is not a private key" in done.err


def test_layers_are_built_apart_and_installed_together(directory: Path) -> None:
    """The team's from its folder, the platform's without it; together they are what one build in one piece is."""
    team_folder(directory)
    one = json.loads(policy("build", directory, "--output", directory / "one.tar.gz", "--json").out)
    team = policy("build", directory, "--layer", "weekend", "--output", directory / "weekend.tar.gz", "--json")
    told = json.loads(team.out)
    assert (told["layer"], told["policies"]) == ("weekend", ["weekend"])
    settings = directory / "sidegate.yaml"
    text = settings.read_text()
    settings.write_text(text.replace("policy_folders: [policies]", ""))
    assert policy("build", directory, "--output", directory / "p.tar.gz").code == 1, "listed, and nobody brings it"
    built = policy("build", directory, "--teams", "weekend", "--output", directory / "p.tar.gz", "--json")
    assert built.code == 0, built.all
    platform = json.loads(built.out)
    assert "weekend" not in platform["policies"]
    bundle = "bundle: {platform: p.tar.gz, teams: {weekend: weekend.tar.gz}}"
    settings.write_text(text.replace("policy_folders: [policies]", "").replace("policy: policy.yaml", bundle))
    installed = policy("install", directory, "--json")
    assert installed.code == 0, installed.err
    answer = json.loads(installed.out)
    assert answer["revision"] == one["revision"]
    assert answer["layers"] == {"platform": platform["revision"], "weekend": told["revision"]}
    assert unpack(Path(answer["bundle"]).read_bytes())["sidegate/policies/weekend/weekend.rego"] == OWN.encode()
    assert "revision" in policy("install", directory).out


def test_what_cannot_be_built_is_64(directory: Path) -> None:
    """A layer that is not there; settings whose policy is built already; a bundle that cannot be installed."""
    done = policy("build", directory, "--layer", "nobody", "--output", directory / "out.tar.gz")
    assert (done.code, "there is no policy nobody" in done.err) == (64, True)
    settings = directory / "sidegate.yaml"
    settings.write_text(settings.read_text().replace("policy: policy.yaml", "bundle: {platform: p.tar.gz}"))
    for action in ("build", "test"):
        done = policy(action, directory)
        assert (done.code, "is built already" in done.err) == (64, True)
    done = policy("install", directory)
    assert (done.code, "p.tar.gz: is not there" in done.err) == (64, True)


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
