"""A layer is what its manifest says, whole and unchanged, or it is none."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml

from proxy.core.layers import (
    PLATFORM,
    Layer,
    LayerError,
    beside_teams,
    merged,
    platform_members,
    policies_in,
    read_layer,
    revision_of,
    team_members,
)
from proxy.core.policy_data import compile_policy
from proxy.core.policy_document import read_document

REGO = Path(__file__).parents[2] / "rego"
SCHEMA: Mapping[str, Any] = orjson.loads((REGO / "schemas/policy.json").read_bytes())
DOCUMENT = read_document(yaml.safe_load((REGO / "samples/policy.yaml").read_bytes()), SCHEMA)
RULES = {
    "sidegate/decision/decision.rego": b"package sidegate.decision\n",
    "sidegate/policies/grants/grants.rego": b"package sidegate.policies.grants\n",
}
TEAM = {"sidegate/policies/team/team.rego": b"package sidegate.policies.team\n"}
DATA, MANIFEST, POLICY = "sidegate/settings/data.json", ".manifest", "sidegate/settings/policy.json"

Members = dict[str, bytes]


def platform(**changes: Any) -> Members:
    settings = compile_policy(DOCUMENT, SCHEMA)
    given: dict[str, Any] = {
        "rego": RULES,
        "document": DOCUMENT,
        "settings": settings,
        "about": {"catalog": "c1"},
        "revision": revision_of(RULES, settings, "c1"),
    }
    return platform_members(**given | changes)


def changed(members: Members, name: str, change: Callable[[Any], Any]) -> Members:
    """With one JSON member changed."""
    value = orjson.loads(members[name])
    change(value)
    return {**members, name: orjson.dumps(value)}


def problems(name: str, members: Members) -> str:
    with pytest.raises(LayerError) as error:
        read_layer(name, members, SCHEMA)
    assert error.value.problems
    return "\n".join(error.value.problems)


@pytest.mark.parametrize(("apart", "roots"), [(False, 1), (True, 3)])
def test_what_is_built_is_read_back(apart: bool, roots: int) -> None:
    """Rego, document and revision; with room for teams the roots are folder by folder."""
    members = beside_teams(platform()) if apart else platform()
    layer = read_layer(PLATFORM, members, SCHEMA)
    assert (layer.rego, layer.document, layer.of) == (RULES, DOCUMENT, {PLATFORM: layer.revision})
    manifest = orjson.loads(members[MANIFEST])
    assert (manifest["revision"], len(manifest["roots"])) == (layer.revision, roots)
    assert orjson.loads(members[DATA])["revision"] == layer.revision


def test_a_bundle_in_force_tells_what_it_was_put_together_from() -> None:
    members = platform(about={"catalog": "c1", "layers": {"platform": "a", "team": "b"}})
    assert read_layer(PLATFORM, members, SCHEMA).of == {"platform": "a", "team": "b"}


def test_a_team_has_its_own_root_and_nothing_else() -> None:
    """Of a whole bundle, only its folder."""
    revision, members = team_members("team", {**RULES, **TEAM})
    layer = read_layer("team", members, SCHEMA)
    assert (layer.revision, layer.rego, layer.document) == (revision, TEAM, None)
    assert orjson.loads(members[MANIFEST])["roots"] == ["sidegate/policies/team"]
    assert merged([read_layer(PLATFORM, platform(), SCHEMA), layer]) == {**RULES, **TEAM}
    assert policies_in({**RULES, **TEAM}) == {"grants", "team"}


@pytest.mark.parametrize(
    ("members", "wanted"),
    [
        ({}, "has no .manifest"),
        ({**platform(), MANIFEST: b"{"}, "has no .manifest that can be read"),
        ({**platform(), MANIFEST: b"{}"}, "does not say which layer"),
        (changed(platform(), MANIFEST, lambda m: m.update(metadata=3)), "does not say which layer"),
        (team_members("team", TEAM)[1], "is the layer team, not platform"),
        (changed(platform(), MANIFEST, lambda m: m.update(roots=[""])), "must have the roots"),
        (changed(platform(), MANIFEST, lambda m: m.update(rego_version=1)), "rego_version 2"),
        (changed(platform(), MANIFEST, lambda m: m.update(revision="0")), "it was changed"),
        (changed(platform(), MANIFEST, lambda m: m["metadata"]["sidegate"].update(catalog="c2")), "it was changed"),
        ({**platform(), "sidegate/decision/decision.rego": b"package x\n"}, "it was changed"),
        (changed(platform(), DATA, lambda d: d["granting"].update(team=True)), "not what this version"),
        (changed(platform(), POLICY, lambda d: d.update(granting=["team"])), "granting.0"),
        (changed(platform(), POLICY, lambda d: d.pop("combination")), "combination"),
        (changed(platform(), POLICY, lambda d: d["policies"].pop("grants")), "policies.grants: missing"),
        ({**platform(), POLICY: b"[]"}, "has no sidegate/settings/policy.json"),
        ({**platform(), "data.json": b"{}"}, "data.json does not belong"),
        ({**platform(), "sidegate/policies/grants/data.json": b"{}"}, "does not belong"),
        ({**platform(), "sidegate/policies/grants/a_test.rego": b""}, "a_test.rego does not belong"),
        ({**platform(), "system/authz.rego": b""}, "does not belong"),
        ({name: c for name, c in platform().items() if not name.endswith(".rego")}, "has no .rego file"),
    ],
)
def test_what_is_amiss_in_the_platforms_layer_is_named(members: Members, wanted: str) -> None:
    """Not ours, another's, changed, without a section, with a waiver's lack, with what would be read unseen."""
    assert wanted in problems(PLATFORM, members)


@pytest.mark.parametrize(
    ("more", "wanted"),
    [
        (
            {"sidegate/policies/grants/grants.rego": b"package sidegate.policies.grants\n"},
            "grants.rego does not belong",
        ),
        ({"sidegate/decision/more.rego": b"package sidegate.decision\n"}, "more.rego does not belong"),
        ({DATA: b"{}"}, "data.json does not belong"),
    ],
)
def test_a_team_cannot_bring_what_is_not_its_own(more: Members, wanted: str) -> None:
    """Another's policy, the composer, settings."""
    assert wanted in problems("team", {**team_members("team", TEAM)[1], **more})


def test_a_team_cannot_claim_another_root() -> None:
    members = changed(team_members("team", TEAM)[1], MANIFEST, lambda m: m.update(roots=["sidegate"]))
    assert "must have the roots sidegate/policies/team" in problems("team", members)


def test_a_team_cannot_take_the_name_of_a_policy_that_is_there() -> None:
    """It would add rules to it."""
    grants = Layer(name="grants", revision="r", rego={"sidegate/policies/grants/x.rego": b""}, document=None, of={})
    with pytest.raises(LayerError, match="the policy grants is already"):
        merged([read_layer(PLATFORM, platform(), SCHEMA), grants])
