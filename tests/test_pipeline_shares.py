"""One principal's calls under way, and everybody else's."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from proxy.core.identity import ANONYMOUS, hash_handle
from proxy.core.review import ReviewStatus
from proxy.errors import Code
from proxy.model import Presented, Status
from tests.contracts.line import ADA, Line, call, opened, refusal, reviewed
from tests.contracts.store_kit import until
from tests.contracts.store_values import principal, registered

BEA = Presented(handle="b" * 43)
NOBODY = Presented()


@pytest.fixture
async def line(tmp_path: Path) -> AsyncIterator[Line]:
    """Four places; bea has a conversation, too."""
    async with opened(tmp_path, limit=4) as made:
        conversation = registered("hers", handle_hash=hash_handle("b" * 43), principal=principal("bea"))
        await made.store.conversations.register(conversation)
        yield made


async def under_way(line: Line, presented: Presented, count: int) -> list[asyncio.Task[object]]:
    """So many calls of this caller's at their upstream."""
    line.stop("executor.execute")
    begun = line.steps.count("executor.execute")
    calls = [call(given=b'{"supplier_id":"s%d"}' % number) for number in range(count)]
    tasks = [asyncio.create_task(line.handle(one, presented)) for one in calls]
    await until(lambda: line.steps.count("executor.execute") == begun + count)
    return list(tasks)


@pytest.mark.parametrize(("greedy", "other"), [(ADA, BEA), (NOBODY, ADA), (BEA, NOBODY)], ids=["a", "nobody", "b"])
async def test_one_principal_leaves_places_for_the_next(line: Line, greedy: Presented, other: Presented) -> None:
    """Half of them; over it the refusal is on record under its name, and the other's call runs."""
    tasks = await under_way(line, greedy, 2)
    no = await line.handle(call(given=b'{"supplier_id":"more"}'), greedy)
    assert (refusal(no).code, line.pipeline.gate.inside) == (Code.OVERLOADED, 2)
    record = await line.terminal(no.call_id)
    name = {ADA: principal("ada").id, BEA: principal("bea").id, NOBODY: ANONYMOUS.id}[greedy]
    assert (record["code"], record["ran"], record["principal"]["id"]) == ("overloaded", "no", name)
    assert record["refusal"]["details"]["cause"] == "share_of_principal"
    tasks += await under_way(line, other, 1)
    line.stop("executor.execute").go.set()
    await asyncio.gather(*tasks)
    assert (await line.handle(presented=greedy)).status is Status.DONE
    assert (line.pipeline.gate.inside, line.pipeline.gate.held) == (0, {})


async def test_held_calls_are_nobodys_share(line: Line) -> None:
    """Who waits for a person may go on working; an answered call counts again until it ends."""
    line.policy.decides = reviewed
    held = []
    for number in range(3):
        held.append(line.begin(call(given=b'{"supplier_id":"h%d"}' % number)))
        await until(lambda: line.steps.count("reviews.outcome") == len(held))
    assert (line.pipeline.gate.inside, line.pipeline.gate.held) == (0, {})
    ends = line.stop("executor.execute")
    for hold in line.store.log.state.holds.open():
        await line.store.reviews.resolve(hold.review.id, ReviewStatus.APPROVED, "id#rita", "because")
    await until(lambda: line.steps.count("executor.execute") == 3)
    assert line.pipeline.gate.held == {principal("ada").id: 3}
    assert refusal(await line.handle(call(given=b'{"supplier_id":"more"}'))).code is Code.OVERLOADED
    ends.go.set()
    assert [(await task).status for task in held] == [Status.DONE] * 3
    assert line.pipeline.gate.held == {}
