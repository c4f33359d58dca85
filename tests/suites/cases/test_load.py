"""Cases of section 15: what piles up (C097, C098), through the running sidecar."""

import asyncio
from pathlib import Path

import pytest

from tests.e2e.rig import Rig, native

pytestmark = pytest.mark.asyncio(loop_scope="module")

IN_MEMORY = 100
ROUND, ROUNDS = 500, 4


def prepare(rig: Rig) -> None:
    """Few conversations in memory."""
    rig.settings["limits"] = {"conversations_in_memory": IN_MEMORY}


def megabytes(rig: Rig) -> float:
    """Resident memory of the sidecar."""
    return int(Path(f"/proc/{rig.pid}/statm").read_text().split()[1]) * 4096 / (1 << 20)


def callers(rig: Rig) -> int:
    """Connections of its agent port that the sidecar has open, in any state but TIME_WAIT (which belongs to the kernel)."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    port = f"0100007F:{rig.ports['agent']:04X}"
    return sum(row[1] == port and row[3] not in ("06", "0A") and row[9] != "0" for row in rows)


async def a_round(rig: Rig, number: int) -> None:
    """Conversations that are registered, make some calls, and are never heard of again."""

    async def one(n: int) -> None:
        handle = await rig.register(f"left-{number}-{n}")
        for call in range(5):
            assert (await rig.send(handle, "get_terms", {"sku": f"S{call}"})).status == 200

    for start in range(0, ROUND, 20):
        await asyncio.gather(*(one(n) for n in range(start, start + 20)))


@pytest.mark.slow  # 2,000 conversations: about 10 s
async def test_c097_conversations_that_nobody_ends(shared: Rig) -> None:
    """Memory is flat over rounds, and a conversation that is older than all of them still knows what it has read."""
    old = await shared.register("old")
    for name in ("get_stock", "get_terms"):
        assert (await shared.send(old, name)).status == 200
    held = []
    for number in range(ROUNDS):
        await a_round(shared, number)
        held.append(megabytes(shared))
    # Over some rounds, since an allocator takes a megabyte at a time. It is 11.6 a round if they all stay in memory.
    assert (held[-1] - held[0]) / (ROUNDS - 1) < 1, held
    assert (await shared.send(old, "get_price")).code == "review_pending"


async def leaving(rig: Rig, handle: str, how: str) -> None:
    """A call on a connection of its own, which its client leaves."""
    body = native("get_stock")
    reader, writer = await asyncio.open_connection("127.0.0.1", rig.ports["agent"])
    head = f"POST /v1/tool-calls HTTP/1.1\r\nhost: 127.0.0.1\r\nx-sidegate-conversation: {handle}\r\n"
    whole = f"{head}content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n{body}".encode()
    writer.write(whole if how != "in the middle of the body" else whole[:-5])
    await writer.drain()
    if how == "after the result":
        assert await reader.readuntil(b"\r\n\r\n")
    if how == "resetting":
        writer.transport.abort()
    writer.close()


@pytest.mark.parametrize("how", ["after the result", "at once", "in the middle of the body", "resetting"])
async def test_c098_descriptors_return(shared: Rig, how: str) -> None:
    """200 callers that leave, each in its way: no connection of theirs stays open, not even half (CLOSE_WAIT), and no call is
    left under way. Connections to upstream and OPA are kept for the next call, so they do not count."""
    handle = await shared.register(f"c098-{how.replace(' ', '-')}")
    assert (await shared.send(handle, "get_stock")).status == 200
    own = callers(shared)  # the rig's, kept alive since the tests before
    assert own >= 1, "they are counted"
    for _ in range(10):
        await asyncio.gather(*(leaving(shared, handle, how) for _ in range(20)))

    async def nothing_left() -> bool:
        _, status = await shared.review("GET", "/v1/status")
        return status["in_flight"] == 0 and callers(shared) <= own

    await shared.until(nothing_left, f"callers' connections are closed, of {callers(shared)}", 10)
    assert (await shared.send(handle, "get_stock", {"sku": how})).status == 200
