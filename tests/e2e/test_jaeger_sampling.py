"""The tail-sampling snippet that we ship, in a real Jaeger: evidence stays, most of what went well goes."""

import asyncio
from pathlib import Path

import pytest

from tests.e2e.jaeger import Jaeger
from tests.e2e.jaeger_story import Story, held_and_approved, play
from tests.e2e.rig import REPO, Rig

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

SNIPPET = REPO / "deploy" / "jaeger" / "tail-sampling.yaml"
CALLS = 60  # of which the policy keeps a tenth; half of them would be one chance in 10^14


async def test_what_somebody_will_ask_about_is_kept(prepared: Rig, tmp_path: Path) -> None:
    """Denied, unknown, held; run after a yes; and a person's answer that comes after the sampler's decision."""
    hurry = tmp_path / "hurry.yaml"
    hurry.write_text("processors: {tail_sampling: {decision_wait: 1s}}\n")
    with Jaeger(folder=tmp_path, more=(SNIPPET, hurry)).running() as jaeger:
        told = Story(prepared, jaeger, "sidegate")
        prepared.environment = jaeger.variables("http/protobuf", told.service)
        await prepared.start()
        await held_and_approved(told)  # which approves once the held call can be searched: after the decision
        handle = await prepared.register("c-plain")
        await play(told, "denied", handle, "create_order", {"sku": "S", "quantity": 5000})
        await play(told, "unknown", handle, "send_fax")
        for number in range(CALLS):
            await play(told, f"plain {number}", handle, "get_stock", {"sku": f"S{number}"})
        assert await prepared.stop() == 0

        def kept(way: str) -> bool:
            return {"execute_tool", "decide"} <= {span.name.partition(" ")[0] for span in told.spans(way)}

        async def all_evidence() -> bool:
            return await asyncio.to_thread(lambda: all(map(kept, ("held", "denied", "resumed"))))

        await prepared.until(all_evidence, "the evidence can be searched")
        await prepared.until_true(lambda: bool(told.spans("unknown")), "a refusal before the decision can be searched")
        assert [span.name for span in told.spans("held") if span.name.startswith("review")] == [
            "review requested",
            "review resolved",
        ]
        assert sum(kept(f"plain {number}") for number in range(CALLS)) < CALLS / 2
