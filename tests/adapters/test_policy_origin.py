"""Policy from folders and from delivered layers: verified, or all that is wrong at once."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from proxy.adapters.archive import pack
from proxy.adapters.bundle import Assembled, BundleError, Sources, assemble, bind
from proxy.adapters.bundle_check import Checks
from proxy.adapters.bundle_signature import sign
from proxy.adapters.policy_origin import BundleOrigin, FolderOrigin, policy_document
from proxy.adapters.watched_file import settled
from proxy.adapters.yaml_file import YamlError
from proxy.core.layers import team_members
from tests.adapters.keys import rsa_pair
from tests.adapters.team import REGO, TEAM, sample, sources
from tests.contracts.opa_server import opa_binary

CHECKS = Checks(opa=opa_binary(), shipped=REGO)


async def layers(folder: Path, key: Path | None = None, rego: str = TEAM) -> dict[str, Path]:
    """Files of a platform's layer that lists `team`, and of the team's."""
    document = sample(team="enforce")
    whole = await assemble(opa_binary(), sources(folder / "src", rego), document, catalog_revision="c1")
    platform = await assemble(
        opa_binary(), Sources(shipped=REGO), document, catalog_revision="c1", apart=frozenset({"team"})
    )
    made = {"platform": dict(platform.files), "team": team_members("team", rego_of(whole))[1]}
    for name, members in made.items():
        signed = members if key is None else await sign(opa_binary(), members, key)
        (folder / f"{name}.tar.gz").write_bytes(pack(signed))
    return {name: folder / f"{name}.tar.gz" for name in made}


def rego_of(assembled: Assembled) -> dict[str, bytes]:
    return {name: assembled.files[name] for name in assembled.authors}


def delivered(files: Mapping[str, Path], **more: Any) -> BundleOrigin:
    return BundleOrigin(opa=opa_binary(), shipped=REGO, files=files, **more)


async def problems(origin: BundleOrigin) -> str:
    with pytest.raises(BundleError) as error:
        await bind(await origin.content(), CHECKS, catalog_revision="c1")
    return "\n".join(error.value.problems)


async def test_layers_apart_come_to_the_same_policy_as_folders(tmp_path: Path) -> None:
    """The same revision as a build in one piece, and each layer's own beside it."""
    origin = delivered(await layers(tmp_path))
    made = await bind(await origin.content(), CHECKS, catalog_revision="c1")
    document = sample(team="enforce")
    whole = await assemble(opa_binary(), sources(tmp_path / "src", TEAM), document, catalog_revision="c1")
    assert made.revision == whole.revision
    assert made.settings == whole.settings
    assert list(made.layers) == ["platform", "team"]
    assert len({*made.layers.values(), made.revision}) == 3
    assert rego_of(made) == rego_of(whole)


async def test_signed_layers_are_taken_and_unsigned_ones_are_not(tmp_path: Path) -> None:
    """With a key, each must be signed by it; all that are not are told."""
    private, public = rsa_pair(tmp_path)
    files = await layers(tmp_path, private)
    assert (await delivered(files, key=public).content()).layers is not None
    await layers(tmp_path)
    found = await problems(delivered(files, key=public))
    assert found.count("is not signed, and `bundle.key` wants a signature") == 2
    assert str(files["team"]) in found


async def test_what_is_wrong_with_each_file_is_told_with_its_name(tmp_path: Path) -> None:
    """Half-written, and another layer in its place."""
    files = await layers(tmp_path)
    whole = files["platform"].read_bytes()
    files["team"].write_bytes(whole)
    files["platform"].write_bytes(whole[: len(whole) // 2])
    found = await problems(delivered(files))
    assert f"{files['platform']}: is cut short" in found
    assert f"{files['team']}: is the layer platform, not team" in found


async def test_a_listed_team_that_was_not_delivered_is_a_problem_and_so_is_one_that_is_not_listed(
    tmp_path: Path,
) -> None:
    files = await layers(tmp_path)
    assert "policies.team: listed, but no layer" in await problems(delivered({"platform": files["platform"]}))
    alone = await assemble(opa_binary(), Sources(shipped=REGO), sample(), catalog_revision="c1")
    files["platform"].write_bytes(pack(alone.files))
    assert "team is delivered, but policies does not list it" in await problems(delivered(files))


@pytest.mark.parametrize(
    ("old", "new", "wanted"),
    [
        ("input.call.tool ==", 'http.send({"url": "x"}) ==', "team.rego:13: "),
        ('"friday"', '"friday', "team.rego:13: "),
        ("deny contains", "denies contains", "denies is no name that a policy exports"),
    ],
)
async def test_rego_of_a_layer_is_checked_like_rego_of_a_folder(
    tmp_path: Path, old: str, new: str, wanted: str
) -> None:
    """Whoever built it may have had other capabilities: network, syntax, a lost deny. Named by bundle and member."""
    files = await layers(tmp_path)
    bad = TEAM.replace(old, new)
    assert bad != TEAM
    _, members = team_members("team", {"sidegate/policies/team/team.rego": bad.encode()})
    files["team"].write_bytes(pack(members))
    found = await problems(delivered(files))
    assert wanted in found
    assert f"{files['team']}/sidegate/policies/team/team.rego:" in found


async def test_the_digest_follows_the_content_whatever_it_is_worth(tmp_path: Path) -> None:
    """Of folders and of layers: absent, broken, whole."""
    folder = tmp_path / "own"
    folder.mkdir()
    one, two = delivered({"platform": tmp_path / "x"}), FolderOrigin(settings=tmp_path / "x", sources=sources(folder))
    for origin in (one, two):
        (tmp_path / "x").unlink(missing_ok=True)
        seen = {origin.digest()}
        for content in (b"", b"1", b"2"):
            (tmp_path / "x").write_bytes(content)
            seen.add(origin.digest())
        assert len(seen) == 4
        assert origin.digest() in seen
    before = two.digest()
    (folder / "own" / "team" / "team.rego").write_text("package x\n")
    assert two.digest() != before


def test_what_keeps_changing_is_not_read() -> None:
    """Two reads have to agree: a mount may be swapped between two of its files."""
    reads = iter([1, 2, 2])
    assert settled(lambda: next(reads), BundleError(["it keeps changing"])) == 2
    endless = iter(range(100))
    with pytest.raises(BundleError, match="keeps changing"):
        settled(lambda: next(endless), BundleError(["it keeps changing"]))


@pytest.mark.parametrize(("text", "error"), [("- a\n", BundleError), ("a: [", YamlError), (None, YamlError)])
def test_what_is_no_policy_file_is_said_in_its_own_way(
    tmp_path: Path, text: str | None, error: type[Exception]
) -> None:
    """A list, no YAML, nothing."""
    path = tmp_path / "policy.yaml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(error, match=r"policy\.yaml"):
        policy_document(path, Sources(shipped=REGO))


async def test_folders_are_watched_and_named(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text(yaml.safe_dump(sample(team="enforce")))
    origin = FolderOrigin(settings=path, sources=sources(tmp_path))
    assert (origin.name(), origin.watched) == ("policy.yaml", (path, tmp_path / "own"))
    assert "sidegate/policies/team/team.rego" in (await origin.content()).rego
    key = tmp_path / "k"
    assert delivered({"platform": path}, key=key).watched == (path, key)


async def test_a_signature_that_could_not_be_looked_at_is_no_word_about_the_layer(tmp_path: Path) -> None:
    """OPA does that; when it comes back, the same files are in order."""
    private, public = rsa_pair(tmp_path)
    files = await layers(tmp_path, private)
    with pytest.raises(BundleError, match="cannot be started") as failed:
        await BundleOrigin(opa=tmp_path / "absent", shipped=REGO, files=files, key=public).content()
    assert failed.value.passing
    await layers(tmp_path)
    with pytest.raises(BundleError, match="is not signed") as wrong:
        await delivered(files, key=public).content()
    assert not wrong.value.passing
