"""The absence sweep over the shipped policies: null, delete, empty or replace every place of every denied and held sample."""

from pathlib import Path

from proxy.adapters.bundle import Sources
from proxy.adapters.bundle_proof import collect, run_sweep, sample_bundle, serving
from tests.contracts.opa_server import opa_binary

SOURCES = Sources(shipped=Path(__file__).parents[2] / "rego")


async def test_no_mutant_is_more_lenient_but_those_pardoned() -> None:
    """What remains is another statement of fact, listed with its reason in the policy's pardons.json."""
    bundle = await sample_bundle(opa_binary(), SOURCES)
    samples, pardons = collect(SOURCES, bundle)[0]
    async with serving(opa_binary(), bundle.files) as ask:
        tried, problems = await run_sweep(ask, samples, pardons)
    assert problems == []
    assert tried > 5000
