"""What `check` and `policy build` work on: everything that is wrong is said at once, with the real OPA."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from proxy.adapters.archive import unpack
from proxy.adapters.bundle import BundleError, write
from proxy.adapters.state_directory import UnusableError
from proxy.adapters.token_file import token_line
from proxy.adapters.workshop import OPA_FOLDER, Workshop
from proxy.settings import Settings, read
from tests.adapters.keys import rsa_pair
from tests.contracts.opa_server import opa_binary

PRESETS = Path(__file__).parents[2] / "proxy" / "presets"


def workshop(folder: Path, **changes: Any) -> Workshop:
    """The preset `guarded-writes`, with settings changed."""
    (folder / "catalog").mkdir()
    shutil.copy(PRESETS / "catalog.yaml", folder / "catalog" / "tools.yaml")
    shutil.copy(PRESETS / "policy-guarded-writes.yaml", folder / "policy.yaml")
    (folder / "tokens.yaml").write_text(token_line(subject="user", roles=("user",))[1])
    (folder / "reviewers.yaml").write_text(token_line(subject="rita", roles=("reviewers",))[1])
    given = yaml.safe_load((PRESETS / "sidegate.yaml").read_text()) | {"opa": {"binary": str(opa_binary())}} | changes
    document = {key: value for key, value in given.items() if value is not None}
    (folder / "sidegate.yaml").write_text(yaml.safe_dump(document))
    return Workshop(read(folder / "sidegate.yaml", {}))


def edit(path: Path, change: Callable[[Any], Any]) -> None:
    document = yaml.safe_load(path.read_text())
    change(document)
    path.write_text(yaml.safe_dump(document))


async def test_a_directory_in_order_has_no_problems_and_gives_a_bundle(tmp_path: Path) -> None:
    """Of the revision of its catalog."""
    given = workshop(tmp_path)
    assert await given.problems() == []
    catalog = given.catalog()
    assembled = await given.assembled(catalog)
    assert list(catalog.tools) == ["say_hello"]
    assert assembled.settings["policies"]["grants"] == "enforce"
    assert (await given.assembled(catalog)).revision == assembled.revision


async def test_every_kind_of_problem_is_said_at_once(tmp_path: Path) -> None:
    """Policy against catalog, tokens, keys, credentials: one run names them all."""
    given = workshop(
        tmp_path,
        tokens={
            "file": "absent.yaml",
            "issuers": [
                {"issuer": "https://id.test", "audience": "a", "jwks_file": "absent.jwks"},
                {"issuer": "has#hash", "audience": "a", "jwks_url": "https://id.test/keys"},
            ],
        },
        reviewers={"file": "broken.yaml"},
        registration="attested",
        attestation="app.jwks",
        credentials={"one": {"bearer_file": "one.token"}, "two": {"env": "NOT_SET"}, "three": {"basic_file": "3"}},
    )
    (tmp_path / "broken.yaml").write_text("- {hash: nonsense}\n")
    edit(tmp_path / "policy.yaml", lambda p: p["grants"]["tools"].update({"no_such_tool": {"user": {}}}))
    found = "\n".join(await given.problems())
    for word in (
        "no_such_tool",
        "absent.yaml",
        "absent.jwks",
        "without #",
        "broken.yaml",
        "app.jwks",
        "credential one",
        "credential two",
        "credential three",
    ):
        assert word in found, found


async def test_a_broken_catalog_does_not_hide_what_is_wrong_with_the_policy(tmp_path: Path) -> None:
    """As far as that can be said without a catalog."""
    given = workshop(tmp_path)
    (tmp_path / "catalog" / "more.yaml").write_text("tools: [{name: '!'}]\n")
    edit(tmp_path / "policy.yaml", lambda p: p.update({"combinations": []}))
    found = "\n".join(await given.problems())
    assert "more.yaml" in found
    assert "combinations" in found


async def test_an_unusable_tool_is_a_problem_though_the_rest_of_the_catalog_works(tmp_path: Path) -> None:
    """It is set aside at run time and named here."""
    given = workshop(tmp_path)
    edit(
        tmp_path / "catalog" / "tools.yaml",
        lambda c: c["tools"][0]["versions"][0].update({"arguments_schema": {"type": "object", "pattern": "("}}),
    )
    (found,) = await given.problems()
    assert found.startswith("tool say_hello: ")


async def test_rego_that_is_none_is_a_problem_that_names_its_file(tmp_path: Path) -> None:
    """Policies of the deployer's own are checked by OPA."""
    given = workshop(tmp_path, policy_folders=["own"])
    (tmp_path / "own" / "team").mkdir(parents=True)
    (tmp_path / "own" / "team" / "team.rego").write_text(
        "package sidegate.policies.team\n\nimport rego.v2\n\ndeny if {\n"
    )
    edit(tmp_path / "policy.yaml", lambda p: p["policies"].update({"team": "enforce"}))
    assert "team.rego" in "\n".join(await given.problems())


@pytest.mark.parametrize("content", [None, "just text", "a: [", ""])
async def test_a_policy_file_that_is_none_is_said_beside_the_rest(tmp_path: Path, content: str | None) -> None:
    """Absent, no mapping, no YAML, empty."""
    given = workshop(tmp_path, credentials={"one": {"env": "NOT_SET"}})
    (tmp_path / "policy.yaml").unlink()
    if content is not None:
        (tmp_path / "policy.yaml").write_text(content)
    found = await given.problems()
    assert "policy.yaml" in found[0]
    assert "credential one" in found[-1]


async def test_an_empty_catalog_directory_is_a_problem(tmp_path: Path) -> None:
    """A sidecar without tools is a mistake, not a setting."""
    given = workshop(tmp_path)
    (tmp_path / "catalog" / "tools.yaml").unlink()
    (found,) = await given.problems()
    assert "has no .yaml or .yml file" in found


async def test_a_built_bundle_is_checked_like_its_sources(tmp_path: Path) -> None:
    """It is what its sources come to, it fits the catalog or the problem is told, and a file that is not there is, too."""
    built = workshop(tmp_path)
    edit(tmp_path / "policy.yaml", lambda p: p["grants"]["tools"].update({"say_hello": {"user": {}}}))
    assembled = await built.assembled(built.catalog())
    write(assembled, tmp_path / "policy.tar.gz")
    (tmp_path / "d").mkdir()
    given = workshop(tmp_path / "d", policy=None, bundle={"platform": str(tmp_path / "policy.tar.gz")})
    assert await given.problems() == []
    assert (await given.assembled(given.catalog())).revision == assembled.revision
    edit(tmp_path / "d" / "catalog" / "tools.yaml", lambda c: c["tools"][0].update(name="say_nothing"))
    (found,) = await given.problems()
    assert found.startswith("policy.tar.gz: ")
    assert "say_hello" in found
    (tmp_path / "policy.tar.gz").unlink()
    (found,) = await given.problems()
    assert found == f"{tmp_path}/policy.tar.gz: is not there: mount or write it, or name another in `bundle`"
    (tmp_path / "d" / "catalog" / "more.yaml").write_text("tools: [{name: '!'}]\n")
    assert found in await given.problems()


async def test_installing_puts_what_opa_reads_in_place_before_any_opa_runs(tmp_path: Path) -> None:
    """Where an OPA elsewhere reads it, or where ours would."""
    given = workshop(
        tmp_path, opa={"binary": str(opa_binary()), "mode": "external", "address": "unix:o", "bundle": "o/p.tar.gz"}
    )
    made = await given.installed()
    assert unpack((tmp_path / "o" / "p.tar.gz").read_bytes()) == made.files
    assert (tmp_path / "state").stat().st_mode & 0o777 == 0o700
    (tmp_path / "policy.yaml").write_text("{}")
    with pytest.raises(BundleError):
        await given.installed()
    assert unpack((tmp_path / "o" / "p.tar.gz").read_bytes()) == made.files


async def test_a_bundle_that_has_to_be_fetched_is_checked_without_a_trace(tmp_path: Path) -> None:
    """An unreachable server is a problem by its name; nothing is written."""
    _, public = rsa_pair(tmp_path)
    given = workshop(
        tmp_path, policy=None, bundle={"platform": "http://127.0.0.1:1/p.tar.gz?token=secret", "key": str(public)}
    )
    (found,) = await given.problems()
    assert found.startswith("http://127.0.0.1:1/p.tar.gz: could not be fetched")
    assert not (tmp_path / "state").exists()


async def test_without_an_opa_one_sentence_says_how_to_get_it(tmp_path: Path) -> None:
    """Beside all that can be said without it."""
    given = workshop(tmp_path, opa={"binary": "no-such-opa"}, credentials={"one": {"env": "NOT_SET"}})
    given = Workshop(replace(given.settings, tools=tmp_path / "tools"))
    found = await given.problems()
    assert "deploy/tools.sh opa" in found[0]
    assert "credential one" in found[1]
    with pytest.raises(UnusableError):
        given.opa()


def settings(folder: Path, binary: str) -> Settings:
    given = Settings(state=folder, catalog=folder, policy=folder, tools=folder / "tools")
    return replace(given, opa=replace(given.opa, binary=binary))


def test_opa_is_the_one_that_is_named_and_no_other(tmp_path: Path) -> None:
    """Only where nothing is named, it is the one on PATH or the pinned one of the cache."""
    named, cached = tmp_path / "my-opa", tmp_path / "tools" / OPA_FOLDER / "opa"
    for path in (named, cached):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("#!/bin/sh\n")
        path.chmod(0o755)
    assert Workshop(settings(tmp_path, str(named))).opa() == named
    assert Workshop(settings(tmp_path, "opa")).opa().name == "opa"
    with pytest.raises(UnusableError, match="no-such-opa"):
        Workshop(settings(tmp_path, "no-such-opa")).opa()
