"""A policy service that says odd things: at every key of the decision every wrong type, and every fault by byte and by time.

One named case for each kind of answer, refused, hung, truncated, huge and so on: tests/e2e/test_stub_opa.py and test_opa_faults.py;
a swap of the real bundle under load: tests/e2e/test_reload.py.
"""

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from tests.core.broken_decisions import breakable, mutants, typed
from tests.e2e.rig import Reply, Rig, rig
from tests.e2e.stub_opa import StubOpa, say
from tests.faults.stub import ODD

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.slow]

DEADLINE = 0.3  # seconds, the setting
SLACK = 2.0  # seconds for two busy cores
AT_ONCE = 16
REFUSED = {"policy_invalid", "policy_unavailable"}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stubbed(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[Rig, StubOpa]]:
    """A sidecar in mode external over a stub."""
    folder = tmp_path_factory.mktemp("answers")
    opa = StubOpa(folder / "opa.sock", folder / "policy.tar.gz")
    await opa.start()
    async with rig(folder) as made:
        where = {"address": f"unix://{opa.socket}", "bundle": str(opa.bundle)}
        made.settings["opa"] = {"mode": "external", "deadline": f"{DEADLINE}s", **where}
        await made.start()
        yield made, opa
        await made.sound()
    await opa.stop()


def number_of(document: dict[str, Any]) -> int:
    """Which case a call is of: its argument says so."""
    return int(document["call"]["arguments"]["quantity"])


async def every_case(made: Rig, count: int, conversation: str) -> list[Reply]:
    """One order for each case, some at a time; each answer in bounded time."""
    handle = await made.register(conversation)
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(number: int) -> Reply:
        async with gate:
            began = time.monotonic()
            answer = await made.send(handle, "create_order", {"sku": "S", "quantity": number})
            assert time.monotonic() - began < DEADLINE + SLACK
            return answer

    return await asyncio.gather(*map(one, range(count)))


async def test_a_wrong_type_at_any_key_runs_nothing(stubbed: tuple[Rig, StubOpa]) -> None:
    """Some hundred mutants of a valid allow: what an oracle of its own does not call a typed allow is refused and recorded."""
    made, opa = stubbed
    revision = opa.revision()
    cases = [mutant for at in breakable() for mutant in mutants(at)]
    good = [
        isinstance(case.get("result"), dict) and typed(case["result"]) and set(case) == {"result"} for case in cases
    ]

    async def answer(writer: asyncio.StreamWriter, _: dict[str, Any]) -> None:
        case = cases[number_of(opa.asked.pop())]
        result = case.get("result")
        if isinstance(result, dict) and result.get("revision") == "r1":
            result = result | {"revision": revision}
        say(writer, case if result is None else case | {"result": result})

    opa.misbehave = answer
    answers = await every_case(made, len(cases), "types")
    opa.misbehave = None
    assert len(cases) > 300
    odd = [number for number, fine in enumerate(good) if not fine]
    assert [(cases[number], answers[number].body) for number in odd if answers[number].code not in REFUSED] == []
    # A typed allow of another revision is a revision that this process has not loaded.
    assert {reply.code for number, reply in enumerate(answers) if good[number]} <= {"", "policy_unavailable"}
    assert sum(reply.status == 200 for reply in answers) == len(made.upstream.received) > 5
    ends = Counter(record["call"] for record in made.records(kind="terminal"))
    assert {ends[reply.call_id] for reply in answers} == {1}


@pytest.mark.parametrize("kind", ODD)
async def test_each_oddity_of_the_harness_runs_nothing(stubbed: tuple[Rig, StubOpa], kind: str) -> None:
    """Some of each kind that the randomized harness uses, and then a good answer is good again, for its own call."""
    made, opa = stubbed
    rng = random.Random(kind)
    before = len(made.upstream.received)

    async def answer(writer: asyncio.StreamWriter, decision: dict[str, Any]) -> None:
        opa.asked.clear()
        await ODD[kind](writer, decision, rng)

    opa.misbehave = answer
    answers = await every_case(made, 24, f"odd-{kind.replace(' ', '-')}")
    opa.misbehave = None
    assert {reply.code for reply in answers} <= REFUSED | ({"denied"} if kind in ("deny", "two answers") else set())
    assert len(made.upstream.received) == before
    handle = await made.register(f"good-{kind.replace(' ', '-')}")
    assert (await made.send(handle, "create_order", {"sku": "S", "quantity": 1})).status == 200
