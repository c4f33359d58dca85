"""`sidegate init` makes a directory that `check` accepts, and overwrites nothing."""

import json
from pathlib import Path

import pytest

from proxy.adapters.token_file import hash_token
from proxy.cli.init import PRESETS
from tests.cli.command import inside, sidegate

PRIVATE = {"tokens.yaml", "user.token", "reviewers.yaml", "reviewer.token"}


@pytest.mark.parametrize("preset", PRESETS)
def test_what_a_preset_writes_is_accepted_by_check(preset: str, tmp_path: Path) -> None:
    """In a directory that was not there, and from within it."""
    made = sidegate("init", tmp_path / "new one", "--preset", preset)
    assert (made.code, made.err) == (0, "")
    assert f"cd '{tmp_path}/new one'" in made.out
    checked = sidegate("check", cwd=tmp_path / "new one")
    assert (checked.code, checked.err) == (0, "")


def test_tokens_are_private_printed_nowhere_and_kept_as_hashes(tmp_path: Path) -> None:
    """The reviewer's token and the user's are different ones; only their owner can read the files."""
    made = inside("init", tmp_path)
    tokens = {name: (tmp_path / f"{name}.token").read_text().strip() for name in ("user", "reviewer")}
    assert tokens["user"] != tokens["reviewer"]
    for name, file in (("user", "tokens.yaml"), ("reviewer", "reviewers.yaml")):
        assert tokens[name] not in made.all
        text = (tmp_path / file).read_text()
        assert tokens[name] not in text
        assert hash_token(tokens[name]) in text
    for path in tmp_path.iterdir():
        assert (path.stat().st_mode & 0o077 == 0) is (path.name in PRIVATE), path.name


@pytest.mark.parametrize(
    "name", ["sidegate.yaml", "policy.yaml", "tokens.yaml", "catalog/tools.yaml", "reviewer.token"]
)
def test_a_file_that_is_there_is_never_overwritten(name: str, tmp_path: Path) -> None:
    """64, the file is named, and nothing else was written either."""
    there = tmp_path / name
    there.parent.mkdir(exist_ok=True)
    there.write_text("mine")
    done = inside("init", tmp_path)
    assert done.code == 64
    assert name in done.err
    assert there.read_text() == "mine"
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == [there]


def test_a_directory_with_other_files_is_fine_and_its_gitignore_stays(tmp_path: Path) -> None:
    """Nobody starts in an empty folder only; what the ignore file lacks is said."""
    (tmp_path / ".gitignore").write_text("mine\n")
    (tmp_path / "app.py").write_text("")
    done = inside("init", tmp_path)
    assert done.code == 0
    assert (tmp_path / ".gitignore").read_text() == "mine\n"
    assert "add state/ and *.token to it" in done.out


def test_json_says_where_and_what(tmp_path: Path) -> None:
    done = inside("init", tmp_path, "--preset", "read-only", "--json")
    told = json.loads(done.out)
    assert told["directory"] == str(tmp_path)
    assert told["preset"] == "read-only"
    assert PRIVATE < set(told["files"]) == {str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file()}


def test_a_place_that_cannot_be_written_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = inside("init", tmp_path / "file" / "below")
    assert done.code == 64
    assert "Traceback" not in done.err
    assert done.err.startswith("sidegate: ")


def test_the_presets_differ_in_what_a_person_must_see(tmp_path: Path) -> None:
    """guarded-writes lets the role write, with a yes; read-only lets nobody write."""
    texts = {}
    for preset in PRESETS:
        inside("init", tmp_path / preset, "--preset", preset)
        texts[preset] = (tmp_path / preset / "policy.yaml").read_text()
    assert "write: {user: {}}" in texts["guarded-writes"]
    assert "effects: {write: {}, send: {}, fetch: {}}" in texts["guarded-writes"]
    assert "write" not in texts["read-only"]
