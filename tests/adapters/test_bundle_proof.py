"""A policy of one's own is proven on the settings of the bundle: samples, Rego tests, the absence sweep."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml

from proxy.adapters.bundle import BundleError, Sources, assemble
from proxy.adapters.bundle_proof import Proof, collect, enforced, prove, run_sweep, serving
from proxy.adapters.opa_cli import OpaFailedError
from proxy.core.samples import read_pardons
from tests.contracts.opa_server import opa_binary

REGO = Path(__file__).parents[2] / "rego"
SAMPLE: Mapping[str, Any] = yaml.safe_load((REGO / "samples/policy.yaml").read_bytes())
README = (REGO / "README.md").read_text()
WEEKEND = re.findall(r"```rego\n(.*?)```", README, re.DOTALL)[0]
EXAMPLE = dict(re.findall(r"`policies/weekend/(\S+)`[^`]*(?:`[^`]+`[^`]*)*?:\n\n```\w+\n(.*?)```", README, re.DOTALL))
YAML = [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", README, re.DOTALL)]
PRESET = yaml.safe_load((REGO.parent / "proxy/presets/policy-guarded-writes.yaml").read_bytes())
TEST = """package sidegate.policies.weekend_test

import data.sidegate.policies.weekend
import rego.v2

_input(now) := {"tool": {"name": "get_price"}, "environment": {"now": now}}

test_deny_sunday if {
	weekend.deny == {{"code": "closed", "message": "get_price runs on weekdays only"}} with input as _input("2026-11-22T10:00:00Z")
		with data.sidegate.settings.custom.weekend as {"tools": {"get_price": true}}
}
"""
SUNDAY = {"environment.now": "2026-11-22T10:00:00.000000Z"}
SAMPLES: dict[str, list[dict[str, Any]]] = {
    "allowed": [{"name": "a Wednesday", "codes": ["granted"]}],
    "denied": [{"name": "a Sunday", "codes": ["closed"], "set": SUNDAY}],
    "held": [{"name": "a Wednesday at high risk", "codes": ["risk_needs_person"], "set": {"tool.risk": "high"}}],
}


def weekend(root: Path, *, rego: str = WEEKEND, test: str = TEST, **samples: Any) -> Sources:
    """The README's policy as a folder, with whatever else is given."""
    folder = root / "own" / "weekend"
    (folder / "samples").mkdir(parents=True)
    (folder / "weekend.rego").write_text(rego)
    (folder / "weekend_test.rego").write_text(test)
    for name, entries in {**SAMPLES, **samples}.items():
        if entries is not None:
            (folder / "samples" / f"{name}.json").write_bytes(orjson.dumps(entries))
    return Sources(shipped=REGO, own=(root / "own",))


async def proof(sources: Sources, mode: str = "enforce") -> Proof:
    """Everything, on settings that list the policy."""
    policies = {**SAMPLE["policies"], "weekend": mode}
    custom = {"weekend": {"tools": {"get_price": True}}}
    document = {**SAMPLE, "policies": policies, "custom": custom}
    return await prove(opa_binary(), sources, await assemble(opa_binary(), sources, document, catalog_revision="c1"))


async def problems(sources: Sources, mode: str = "enforce") -> str:
    """What a proof complains about."""
    with pytest.raises(BundleError) as caught:
        await proof(sources, mode)
    return "\n".join(caught.value.problems)


async def test_the_example_of_the_readme_is_proven(tmp_path: Path) -> None:
    """Folder, settings, tests and samples as a reader copies them beside what `sidegate init` wrote and README added."""
    assert YAML[1] == {"policy_folders": ["policies"]}
    names = (
        "weekend.rego",
        "weekend_test.rego",
        *(f"samples/{n}.json" for n in ("allowed", "denied", "held")),
    )
    assert EXAMPLE.keys() == set(names)
    (tmp_path / "policies/weekend/samples").mkdir(parents=True)
    for name, content in EXAMPLE.items():
        (tmp_path / "policies/weekend" / name).write_text(content)
    sources = Sources(shipped=REGO, own=(tmp_path / "policies",))
    grants: dict[str, Any] = {"tools": {}, "systems": {"pricing": {"read": {"user": {}}}}}
    bundle = await assemble(opa_binary(), sources, {**PRESET, "grants": grants, **YAML[2]}, catalog_revision="c1")
    proven = await prove(opa_binary(), sources, bundle)
    assert (proven.samples > 50, proven.mutants > 100) == (True, True)
    assert (proven.tests.failed, proven.tests.coverage, bundle.warnings) == ((), 100.0, ())


async def test_own_samples_are_evaluated_and_swept(tmp_path: Path) -> None:
    """Shipped and own samples, mutants and tests are all tried."""
    proven = await proof(weekend(tmp_path))
    assert proven.samples > 50
    assert proven.mutants > 300
    assert proven.tests.failed == ()
    assert proven.tests.coverage == 100.0


@pytest.mark.parametrize("mode", ["shadow", "warn"])
async def test_a_policy_on_trial_is_proven_as_if_enforced(mode: str, tmp_path: Path) -> None:
    """It has no say yet, and still its samples hold or fail; the bundle itself keeps the mode."""
    sources = weekend(tmp_path)
    assert (await proof(sources, mode)).mutants > 300
    (tmp_path / "own/weekend/samples/allowed.json").write_bytes(
        orjson.dumps([{"name": "a Sunday after all", "codes": ["granted"], "set": SUNDAY}])
    )
    wrong = "weekend: a Sunday after all: wanted allow with code granted, got deny with code weekend.closed"
    assert await problems(sources, mode) == wrong


async def test_only_own_policies_are_raised_for_their_samples(tmp_path: Path) -> None:
    """A policy of ours whose waiver is recorded stays as it will be in force; nothing else changes."""
    waiver = {"mode": "warn", "because": "a trial", "until": "2099-01-01"}
    document = {**SAMPLE, "policies": {**SAMPLE["policies"], "ownership": waiver, "weekend": "shadow"}}
    sources = weekend(tmp_path)
    bundle = await assemble(opa_binary(), sources, document, catalog_revision="c1")
    settings = orjson.loads(enforced(sources, bundle)["sidegate/settings/data.json"])
    assert settings == {**bundle.settings, "policies": {**bundle.settings["policies"], "weekend": "enforce"}}
    assert (settings["policies"]["ownership"], bundle.settings["policies"]["weekend"]) == ("warn", "shadow")


async def test_a_sample_that_failed_is_not_swept(tmp_path: Path) -> None:
    """One sentence, not one a mutant; nor are its pardons called idle. Those of other samples still are."""
    wrong = [{"name": "a Wednesday at last", "codes": ["closed"]}]
    pardons = [
        {"sample": name, "path": "agent.pod", "kinds": ["null"], "because": "never"}
        for name in ("*", "a Wednesday at last", "a Wednesday at high risk")
    ]
    assert (await problems(weekend(tmp_path, denied=wrong, pardons=pardons))).splitlines() == [
        "weekend: a Wednesday at last: wanted deny with code closed, got allow with code grants.granted",
        "weekend: a Wednesday at high risk: nothing to pardon at agent.pod",
    ]


async def test_what_is_wrong_is_told_together(tmp_path: Path) -> None:
    """A sample, a mutant, an idle pardon and a Rego test."""
    needs_domain = '\tinput.principal.attributes.domain == "acme.example"\n\tnot time'
    loose = WEEKEND.replace("\tnot time", needs_domain)
    pardon = [{"sample": "*", "path": "agent.pod", "kinds": ["null"], "because": "never"}]
    allowed = [{"name": "a Sunday after all", "codes": ["granted"], "set": SUNDAY}]
    found = await problems(
        weekend(tmp_path, rego=loose, allowed=allowed, pardons=pardon, test=TEST.replace("closed", "shut"))
    )
    assert "weekend: a Sunday after all: wanted allow" in found
    assert "weekend: a Sunday: delete principal.attributes.domain: allow" in found
    assert "weekend: *: nothing to pardon at agent.pod" in found
    assert f"{tmp_path}/own/weekend/weekend_test.rego:8: test_deny_sunday failed" in found
    assert len(found.splitlines()) > 4


async def test_a_pardon_lets_a_mutant_pass(tmp_path: Path) -> None:
    """If it says why."""
    loose = WEEKEND.replace("\tnot time", "\tinput.call.version\n\tnot time")
    kinds = ["delete"]
    pardons = [{"sample": "a Sunday", "path": "call.version", "kinds": kinds, "because": "it runs no version"}]
    policies = {**SAMPLE["policies"], "weekend": "enforce"}
    document = {**SAMPLE, "policies": policies, "custom": {"weekend": {"tools": {"get_price": True}}}}
    sources = weekend(tmp_path, rego=loose, pardons=pardons)
    bundle = await assemble(opa_binary(), sources, document, catalog_revision="c1")
    samples, read = collect(sources, bundle)[1]
    async with serving(opa_binary(), bundle.files) as ask:
        tried, lenient = await run_sweep(ask, samples, read)
        assert lenient == []
        assert tried > 300
        _, lenient = await run_sweep(ask, samples, {"weekend": []})
    assert lenient == ["weekend: a Sunday: delete call.version: allow"]


async def test_samples_and_tests_are_part_of_a_policy(tmp_path: Path) -> None:
    """All three files, readable and of inputs that Sidegate would send; and a test beside it. Absent files are named once."""
    bad = [{"name": "x", "codes": [], "set": {"tool.efect": "read"}}]
    sources = weekend(tmp_path, held=None, denied=bad, allowed={"no": "list"})
    (tmp_path / "own/weekend/weekend_test.rego").unlink()
    found = await problems(sources)
    assert "weekend: no test (weekend_test.rego)" in found
    assert "weekend: needs samples/held.json (rego/README.md)" in found
    assert "Errno" not in found
    assert "denied.json: x: no input of Sidegate's: tool: " in found
    assert "allowed.json: a list of samples is wanted" in found


async def test_files_without_samples_are_empty_lists_and_one_has_some(tmp_path: Path) -> None:
    """A policy that only denies has nothing to hold; one without any sample proves nothing."""
    assert (await proof(weekend(tmp_path / "denies", held=[], allowed=[]))).mutants > 100
    none = await problems(weekend(tmp_path / "silent", held=[], allowed=[], denied=[]))
    assert none.endswith("own/weekend/samples: a policy needs one sample at least")
    absent = await problems(weekend(tmp_path / "absent", held=None, allowed=None, denied=None))
    assert absent.endswith(
        "own/weekend: needs samples/allowed.json, samples/denied.json, samples/held.json (rego/README.md)"
    )
    assert len(absent.splitlines()) == 1


async def test_pardons_are_read_strictly(tmp_path: Path) -> None:
    """A pardon without a reason is none."""
    assert "pardons.json: a list of" in await problems(weekend(tmp_path, pardons=[{"sample": "x"}]))


async def test_tests_are_not_required(tmp_path: Path) -> None:
    """Settings alone are no code: without own policies there is nothing more to prove than ours."""
    bundle = await assemble(opa_binary(), Sources(shipped=REGO), SAMPLE, catalog_revision="c1")
    proven = await prove(opa_binary(), Sources(shipped=REGO), bundle)
    assert (proven.mutants, proven.tests.failed) == (0, ())
    assert proven.samples > 50


async def test_a_bundle_that_opa_does_not_take() -> None:
    """Is said in bounded time."""
    with pytest.raises(OpaFailedError, match="does not serve"):
        async with serving(opa_binary(), {"sidegate/x.rego": b"not rego"}):
            pass


def test_the_readmes_settings_are_valid() -> None:
    """What a reader copies compiles."""
    from proxy.core.policy_data import compile_policy

    schema = orjson.loads((REGO / "schemas/policy.json").read_bytes())
    document = yaml.safe_load(re.findall(r"```yaml\n(.*?)```", README, re.DOTALL)[0])
    assert compile_policy(document, schema)["combination"].keys() == {
        "system:inventory",
        "system:suppliers",
        "system:pricing",
    }


def test_the_readmes_pardon_is_one_of_ours() -> None:
    """Its form is what is read, and it is in force."""
    (pardon,) = orjson.loads(re.findall(r"```json\n(.*?)```", README, re.DOTALL)[-1])
    ours = orjson.loads((REGO / "sidegate/policies/arguments/samples/pardons.json").read_bytes())
    assert pardon in ours
    assert len(read_pardons([pardon])) == 1
