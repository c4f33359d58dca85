"""`sidegate check`: every problem at once, exit code 64."""

import asyncio
import json
from pathlib import Path

import pytest

from tests.cli.command import HOSTILE, Done, harmless, inside, sidegate
from tests.e2e.redis_server import redis_server


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """What `sidegate init` makes."""
    assert inside("init", tmp_path).code == 0
    return tmp_path


def change(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def check(directory: Path, *words: str) -> Done:
    return inside("check", "--settings", directory / "sidegate.yaml", *words)


def test_a_directory_in_order_is_said_to_be(directory: Path) -> None:
    assert check(directory).code == 0
    assert "in order" in check(directory).out
    assert json.loads(check(directory, "--json").out) == {"ok": True, "problems": []}
    assert not (directory / "state").exists(), "nothing is written"


def test_catalog_policy_tokens_and_credentials_are_told_at_once(directory: Path) -> None:
    """One problem in each; five runs to find five mistakes would be four too many."""
    change(directory / "catalog/tools.yaml", "effect: read", "effect: reed")
    change(directory / "policy.yaml", "granting: [grants]", "granting: [grants]\nsurprise: 1")
    (directory / "tokens.yaml").write_text("- {subject: x}\n")
    (directory / "reviewers.yaml").unlink()
    with (directory / "sidegate.yaml").open("a") as settings:
        settings.write("credentials: {crm: {bearer_file: gone.token}}\n")
    done = check(directory, "--json")
    assert done.code == 64
    problems = json.loads(done.out)["problems"]
    for said in ("effect", "surprise", "tokens.yaml", "reviewers.yaml", "gone.token"):
        assert [p for p in problems if said in p], f"nothing about {said}: {problems}"
    assert len(problems) == len(set(problems))
    text = check(directory)
    assert text.code == 64
    assert text.err.count("sidegate: ") == len(problems)
    for said in ("tokens.yaml", "reviewers.yaml", "gone.token"):
        assert text.err.count(said) == 1, text.err


def test_wrong_settings_do_not_hide_what_is_wrong_in_catalog_and_policy(directory: Path) -> None:
    with (directory / "sidegate.yaml").open("a") as settings:
        settings.write("colour: blue\npatience: soon\n")
    change(directory / "catalog/tools.yaml", "effect: read", "effect: reed")
    change(directory / "policy.yaml", "granting: [grants]", "granting: [grants]\nsurprise: 1")
    done = check(directory)
    assert done.code == 64
    for said in ("colour", "/patience", "effect", "surprise"):
        assert said in done.err


def test_a_rule_about_a_system_that_is_not_there_is_found(directory: Path) -> None:
    """Catalog and policy are each right, and do not fit together."""
    change(directory / "policy.yaml", "desktop: {read", "destkop: {read")
    done = check(directory)
    assert done.code == 64
    assert "destkop" in done.err


def test_a_role_that_nobody_has_is_a_warning(directory: Path) -> None:
    """Of users and of reviewers, with the nearest name; it is no problem, since somebody may get the role tomorrow."""
    change(directory / "policy.yaml", "desktop: {read: {user:", "desktop: {read: {usr:")
    change(directory / "policy.yaml", "approvers: [reviewers]", "approvers: [reviewer]")
    done = check(directory)
    assert (done.code, done.err) == (0, "")
    path = "policy.yaml: grants.systems.desktop.read: no token in tokens.yaml has the role 'usr'; did you mean 'user'?"
    assert f"warning: {path}\n" in done.out
    assert "review.approvers: no token in reviewers.yaml has the role 'reviewer'; did you mean 'reviewers'?" in done.out
    assert json.loads(check(directory, "--json").out)["warnings"][0] == path


def test_where_an_issuer_gives_roles_nobody_can_know_them(directory: Path) -> None:
    change(directory / "policy.yaml", "desktop: {read: {user:", "desktop: {read: {usr:")
    issuer = "{issuer: 'https://a.example', audience: a, jwks_url: 'https://a.example/keys'}"
    change(
        directory / "sidegate.yaml",
        "tokens: {file: tokens.yaml}",
        f"tokens: {{file: tokens.yaml, issuers: [{issuer}]}}",
    )
    done = check(directory)
    assert (done.code, "warning" in done.out) == (0, False)


@pytest.mark.parametrize("text", ["", "- 1\n", "a: [\n", "\xff"], ids=["empty", "list", "broken", "other bytes"])
@pytest.mark.parametrize("name", ["sidegate.yaml", "policy.yaml", "catalog/tools.yaml"])
def test_a_file_that_is_no_document_is_a_sentence_with_its_name(name: str, text: str, directory: Path) -> None:
    (directory / name).write_bytes(text.encode("latin-1"))
    done = check(directory)
    assert done.code == 64
    assert Path(name).name in done.err
    assert "Traceback" not in done.err


def test_a_catalog_of_no_files_and_one_that_is_not_there(directory: Path) -> None:
    (directory / "catalog/tools.yaml").unlink()
    assert "has no .yaml or .yml file" in check(directory).err
    (directory / "catalog").rmdir()
    done = check(directory)
    assert (done.code, "catalog" in done.err) == (64, True)


def test_an_opa_that_is_not_there_is_said_with_how_to_get_it(directory: Path) -> None:
    """As a process, since the variable that overrides a setting is the process's."""
    done = sidegate("check", cwd=directory, SIDEGATE_OPA__BINARY="/nowhere/opa", SIDEGATE_CACHE="/nowhere")
    assert done.code == 64
    assert "/nowhere/opa" in done.err
    assert "deploy/tools.sh opa" in done.err


def test_an_own_policy_that_opa_refuses_is_found(directory: Path) -> None:
    """Rego of the deployer's goes through OPA's strict check."""
    folder = directory / "policies" / "weekend"
    folder.mkdir(parents=True)
    (folder / "weekend.rego").write_text(
        "package sidegate.policies.weekend\n\nimport rego.v2\n\ndenies := input.nonsense\n"
    )
    change(directory / "sidegate.yaml", "# policy_folders: [policies]", "policy_folders: [policies]")
    done = check(directory)
    assert done.code == 64
    assert "weekend" in done.err


def test_what_stands_in_the_files_comes_out_harmless(directory: Path) -> None:
    """Names in a catalog may come from elsewhere."""
    quoted = json.dumps(HOSTILE)
    change(directory / "catalog/tools.yaml", "name: say_hello", f"name: {quoted}")
    done = check(directory)
    assert done.code == 64
    assert harmless(done.err)
    assert harmless(check(directory, "--json").out)


@pytest.mark.slow  # it needs Redis
async def test_a_shared_store_is_asked(directory: Path) -> None:
    """One that serves is said to, with what could not be seen; one that does not is a problem among the others."""
    async with redis_server(directory / "redis") as server:
        (directory / "mac.key").write_bytes(b"m" * 32)
        with (directory / "sidegate.yaml").open("a") as settings:
            settings.write(f"store: {{valkey: {{url: 'unix:{server.socket}', mac_key_file: mac.key}}}}\n")
        done, told = await asyncio.to_thread(check, directory), await asyncio.to_thread(check, directory, "--json")
        assert (done.code, done.err) == (0, "")
        assert "in order, and the shared store serves\nnot seen: /store/valkey: no pod has used the store" in done.out
        assert [note for note in json.loads(told.out)["notes"] if "`mac_key_file` cannot be compared" in note]
        server.kill()
        (directory / "tokens.yaml").write_text("- {subject: x}\n")
        done = await asyncio.to_thread(check, directory)
        assert done.code == 64
        assert "sidegate: /store/valkey: cannot connect: " in done.err
        assert "tokens.yaml" in done.err
