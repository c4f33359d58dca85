"""A bundle is written whole, checked and the same every time, or not at all."""

import io
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml

from proxy import __version__
from proxy.adapters.bundle import Assembled, BundleError, Sources, assemble, write
from tests.contracts.opa_server import opa_binary

REGO = Path(__file__).parents[2] / "rego"
SETTINGS = ["sidegate/settings/data.json", "sidegate/settings/policy.json"]
SAMPLE: Mapping[str, Any] = yaml.safe_load((REGO / "samples/policy.yaml").read_bytes())
GOOD = """# METADATA
# title: Team
# description: Says no on Fridays.
# schemas:
#   - input: schema.input
package sidegate.policies.team

import rego.v2

# METADATA
# title: No
deny contains {"code": "friday", "message": $"not on {input.environment.now}"} if {
	input.call.tool == data.sidegate.settings.custom.team.tool
}
"""


def policy(**changes: Any) -> dict[str, Any]:
    """The sample settings with some sections changed."""
    return {**SAMPLE, **changes}


def listed(*names: str) -> dict[str, Any]:
    """The sample settings with more policies in force."""
    return policy(policies={**SAMPLE["policies"], **dict.fromkeys(names, "enforce")})


def own(root: Path, name: str = "team", **files: str) -> Sources:
    """The shipped policies and one folder of policies beside them."""
    folder = root / "own" / name
    folder.mkdir(parents=True, exist_ok=True)
    for file, content in files.items():
        (folder / file.replace("__", ".")).write_text(content)
    return Sources(shipped=REGO, own=(root / "own",))


def names(folder: Path) -> list[str]:
    """What lies in a folder."""
    return sorted(file.name for file in folder.iterdir())


async def assembled(sources: Sources, document: Mapping[str, Any]) -> Assembled:
    """Assembled for the catalog c1."""
    return await assemble(opa_binary(), sources, document, catalog_revision="c1")


async def problems(sources: Sources, document: Mapping[str, Any]) -> str:
    """What a build of these complains about, one problem a line."""
    with pytest.raises(BundleError) as caught:
        await assembled(sources, document)
    return "\n".join(caught.value.problems)


async def test_a_bundle_holds_policies_settings_and_manifest(tmp_path: Path) -> None:
    """Tests and samples stay at home; the revision stands in settings and manifest."""
    output = tmp_path / "bundle.tar.gz"
    made = await assembled(Sources(shipped=REGO), SAMPLE)
    write(made, output)
    with tarfile.open(fileobj=io.BytesIO(output.read_bytes())) as archive:
        members = archive.getnames()
        files = {member.name: archive.extractfile(member).read() for member in archive}  # type: ignore[union-attr]  # files only
    policies = [f"sidegate/policies/{name}/{name}.rego" for name in sorted(SAMPLE["policies"])]
    assert members == [".manifest", "sidegate/decision/decision.rego", *policies, *SETTINGS]
    assert orjson.loads(files[".manifest"]) == {
        "revision": made.revision,
        "roots": ["sidegate"],
        "rego_version": 2,
        "metadata": {"sidegate": {"layer": "platform", "catalog": "c1", "version": __version__}},
    }
    assert orjson.loads(files["sidegate/settings/data.json"])["revision"] == made.revision
    assert names(tmp_path) == ["bundle.tar.gz"]


async def test_the_same_sources_give_the_same_bytes(tmp_path: Path) -> None:
    """The revision is a hash of the content and of the catalog's revision."""
    outputs = [tmp_path / name for name in ("a", "b", "c")]
    revisions = []
    for output, catalog in zip(outputs, ("c1", "c1", "c2"), strict=True):
        sources = Sources(shipped=REGO)
        made = await assemble(opa_binary(), sources, SAMPLE, catalog_revision=catalog)
        write(made, output)
        revisions.append(made.revision)
    assert outputs[0].read_bytes() == outputs[1].read_bytes()
    assert revisions[0] == revisions[1] != revisions[2]


async def test_rego_and_settings_change_the_revision(tmp_path: Path) -> None:
    """Whatever a decision hangs on has a part in it."""
    document = {**listed("team"), "custom": {"team": {"tool": "x"}}}
    one = await assembled(own(tmp_path, team__rego=GOOD), document)
    two = await assembled(own(tmp_path, team__rego=GOOD.replace("friday", "monday")), document)
    three = await assembled(own(tmp_path, team__rego=GOOD), {**document, "custom": {"team": {"tool": "y"}}})
    assert len({one.revision, two.revision, three.revision}) == 3


@pytest.mark.parametrize("section", sorted(SAMPLE))
async def test_a_section_that_is_gone_is_refused(section: str) -> None:
    """A missing section would silently switch a rule off."""
    document = {key: value for key, value in SAMPLE.items() if key != section}
    assert f'"{section}" is a required property' in await problems(Sources(shipped=REGO), document)


async def test_a_policy_of_ones_own_is_part_of_it(tmp_path: Path) -> None:
    """A folder and a line in the settings are all it takes; format is a warning."""
    ragged = GOOD.replace("\tinput.call", "  input.call")
    bundle = await assembled(own(tmp_path, team__rego=ragged), listed("team"))
    assert "sidegate/policies/team/team.rego" in bundle.files
    assert bundle.warnings == (f"{tmp_path}/own/team/team.rego: not formatted (opa fmt -w)",)


async def test_folders_and_list_have_to_agree(tmp_path: Path) -> None:
    """Both ways, and told together."""
    found = await problems(own(tmp_path, team__rego=GOOD), listed("ghost"))
    assert "policies.ghost: listed, but there is no folder of that name" in found
    assert f"{tmp_path}/own/team: policies does not list team" in found


async def test_a_policy_in_two_places_is_refused(tmp_path: Path) -> None:
    """A second folder of the name would add rules to the first."""
    sources = own(tmp_path, "grants", grants__rego="package sidegate.policies.grants\n")
    assert "the policy grants is already there" in await problems(sources, SAMPLE)


async def test_data_beside_a_policy_is_refused(tmp_path: Path) -> None:
    """It would become part of the decision unseen."""
    sources = own(tmp_path, team__rego=GOOD, data__json='{"allow": [{"code": "yes"}]}')
    assert "data.json: does not belong in a policy folder" in await problems(sources, listed("team"))


async def test_a_folder_without_rego_or_a_stray_file_is_refused(tmp_path: Path) -> None:
    """What is not a policy is not passed over."""
    sources = own(tmp_path)
    (tmp_path / "own" / "stray.txt").touch()
    found = await problems(sources, listed("team"))
    assert "team: no .rego file in it" in found
    assert "stray.txt: not a policy folder" in found
    assert "no such folder" in await problems(Sources(shipped=REGO, own=(tmp_path / "absent",)), SAMPLE)


@pytest.mark.parametrize(
    ("old", "new", "wanted"),
    [
        ("deny contains", "denies contains", "team.rego:12: denies is no name that a policy exports"),
        ("policies.team\n", "policies.other\n", "team.rego:6: package sidegate.policies.other stands in the folder"),
        ("import rego.v2\n", "", "team.rego:6: import rego.v2 is missing"),
        ("# description: Says no on Fridays.\n", "", "team.rego:5: the package's METADATA has no description"),
        ("input.call.tool", "input.call.tol", "team.rego:13: undefined ref: input.call.tol"),
        ('"friday"', '"friday', "team.rego:12: "),
        ("input.call.tool ==", 'http.send({"url": "x"}) ==', "undefined function http.send"),
        ("input.call.tool ==", "opa.runtime() ==", "undefined function opa.runtime"),
        ("data.sidegate.settings.custom", "data.sidegate.policies.grants", "is not the policy's business"),
        ('$"not on {input.environment.now}"', "input.environment.now", "deny reads input in its head"),
    ],
)
async def test_a_slip_in_a_policy_is_named_with_its_place(tmp_path: Path, old: str, new: str, wanted: str) -> None:
    """File and row of what the author wrote, not of our copy."""
    assert old in GOOD
    found = await problems(own(tmp_path, team__rego=GOOD.replace(old, new)), listed("team"))
    assert wanted in found
    assert f"{tmp_path}/own/team/team.rego:" in found


async def test_a_package_outside_of_ours_is_told_once_with_its_place(tmp_path: Path) -> None:
    """OPA says the same without a place, and of a bundle that the author never sees."""
    found = await problems(own(tmp_path, team__rego=GOOD.replace("sidegate.policies.team", "team", 1)), listed("team"))
    assert found == f"{tmp_path}/own/team/team.rego:6: package team stands in the folder of sidegate.policies.team"


async def test_without_opa_there_is_no_bundle(tmp_path: Path) -> None:
    """And the sentence says which path was tried."""
    with pytest.raises(BundleError, match="cannot be started from"):
        await assemble(tmp_path / "opa", Sources(shipped=REGO), SAMPLE, catalog_revision="c1")


async def test_without_its_schema_there_is_no_bundle(tmp_path: Path) -> None:
    """An installation that lost files says so."""
    with pytest.raises(BundleError, match=r"policy\.json: cannot be read"):
        await assembled(Sources(shipped=tmp_path), SAMPLE)


async def test_an_opa_that_fails_is_no_word_about_the_content(tmp_path: Path) -> None:
    """So the same content may be tried again; what it is wrong with is not."""
    with pytest.raises(BundleError, match="cannot be started") as failed:
        await assemble(tmp_path / "absent", Sources(shipped=REGO), SAMPLE, catalog_revision="c1")
    assert failed.value.passing
    with pytest.raises(BundleError) as wrong:
        await assembled(Sources(shipped=REGO), {})
    assert not wrong.value.passing
