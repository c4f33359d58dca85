"""Recorded decisions asked again of the real OPA: every rule that speaks is found, with its place and title."""

import asyncio
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import orjson
import pytest

from proxy.adapters.archive import pack
from proxy.adapters.bundle import Assembled, BundleError, Sources
from proxy.adapters.bundle_proof import collect, sample_bundle, serving
from proxy.adapters.policy_eval import Loaded, of_assembled, of_bundles, rules
from proxy.core.layers import team_members
from proxy.core.samples import Sample
from tests.contracts.opa_server import opa_binary

SHIPPED = Sources(shipped=Path(__file__).parents[2] / "rego")


@pytest.fixture(scope="module")
def bundle() -> Assembled:
    """The shipped policies with the settings of their samples."""
    return asyncio.run(sample_bundle(opa_binary(), SHIPPED))


def said(decision: Mapping[str, Any]) -> Iterator[tuple[str, str, Any]]:
    for says in ("deny", "review", "allow"):
        for policy, reasons in decision[says].items():
            yield from ((policy, says, reason) for reason in reasons)


@pytest.mark.slow
async def test_each_reason_of_the_shipped_samples_has_its_rule(bundle: Assembled) -> None:
    """One sample for each set of codes: the place is a line of the author's file on which that rule begins, and has a title."""
    (samples, _), _ = collect(SHIPPED, bundle)
    each: dict[frozenset[str], Sample] = {sample.codes: sample for sample in samples}
    policy = of_assembled(bundle)
    spoken = set()
    async with serving(opa_binary(), bundle.files) as ask:
        for sample in each.values():
            found = await rules(opa_binary(), policy, orjson.dumps(sample.document))
            for name, says, reason in said(await ask(sample.document)):
                (rule,) = [r for r in found if (r.policy, r.says, r.reason) == (name, says, reason)]
                line = policy.authors[rule.member].read_text().splitlines()[rule.row - 1]
                assert line.startswith(f"{says} contains"), (sample.name, line)
                assert rule.title
                spoken.add((name, reason["code"]))
    assert len(spoken) > 10


def test_a_built_bundle_is_asked_without_its_sources(bundle: Assembled, tmp_path: Path) -> None:
    """A team's layer joins the platform's."""
    platform, team = tmp_path / "p.tar.gz", tmp_path / "t.tar.gz"
    platform.write_bytes(pack(bundle.files))
    _, members = team_members("mine", {"sidegate/policies/mine/mine.rego": b"package sidegate.policies.mine\n"})
    team.write_bytes(pack(members))
    loaded: Loaded = of_bundles([platform, team])
    assert (loaded.revision, loaded.name) == (bundle.revision, f"{platform}, {team}")
    assert loaded.document["schema"] == 1
    assert orjson.loads(loaded.files[".manifest"])["roots"] == ["sidegate"]
    assert loaded.authors["sidegate/policies/mine/mine.rego"] == team / "sidegate/policies/mine/mine.rego"
    with pytest.raises(BundleError, match=r"t\.tar\.gz: is no bundle of a platform"):
        of_bundles([team])
    (tmp_path / "x").write_bytes(b"no")
    with pytest.raises(BundleError, match="is not gzip"):
        of_bundles([tmp_path / "x"])


async def test_no_rule_is_found_where_none_speaks(bundle: Assembled) -> None:
    """An empty input is denied by guards alone, whatever else fails on it."""
    found = await rules(opa_binary(), of_assembled(bundle), b"{}")
    assert [rule for rule in found if rule.says == "allow"] == []
