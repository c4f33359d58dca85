"""One at a time, in the order of asking, whoever gives up meanwhile."""

import asyncio

import pytest

from proxy.adapters.store_valkey_turn import Turn


async def take(turn: Turn, name: int, order: list[int]) -> None:
    """Hold it over a turn of the loop."""
    if turn.taken:
        await turn.wait()
    turn.taken = True
    try:
        order.append(name)
        await asyncio.sleep(0)
        assert order[-1] == name, "somebody else had it, too"
    finally:
        turn.leave()


async def test_each_has_it_alone_in_the_order_of_asking() -> None:
    turn, order = Turn(), list[int]()
    await asyncio.gather(*(take(turn, n, order) for n in range(20)))
    assert (order, turn.taken) == (list(range(20)), False)


@pytest.mark.parametrize("given", [False, True], ids=["while it waits", "when it has just been given the turn"])
async def test_who_is_cancelled_keeps_nobody_waiting(*, given: bool) -> None:
    turn, order = Turn(), list[int]()
    turn.taken = True
    tasks = [asyncio.create_task(take(turn, n, order)) for n in range(3)]
    await asyncio.sleep(0)
    if given:
        turn.leave()
        tasks[0].cancel()
    else:
        tasks[0].cancel()
        await asyncio.wait([tasks[0]])
        turn.leave()
    await asyncio.wait(tasks, timeout=5)
    assert (tasks[0].cancelled(), order, turn.taken) == (True, [1, 2], False)
