"""A process for `test_store_embedded` to kill: 200 calls, half of them on approvals, and a line for each acknowledgement."""

import asyncio
import os
import sys
from pathlib import Path

from proxy.adapters.clock import SystemClock
from proxy.adapters.journal import Journal
from proxy.adapters.store_embedded import EmbeddedStore, open_store
from proxy.core.hold_rules import HoldLimits
from proxy.core.review import ReviewStatus
from proxy.core.tool import CheckedCall
from tests.contracts.store_kit import hold, register
from tests.contracts.store_values import caller, checked, intent, terminal, tool

CALLS, WORKERS = 200, 8
STOCK = tool("get_stock", labels=["quantities"])
MANY = HoldLimits(conversation=999, principal=999, agent=999, new_per_hour=999)


def say(*words: str) -> None:
    os.write(1, (" ".join(words) + "\n").encode())


async def one(store: EmbeddedStore, number: int) -> None:
    call, who, what = f"call-{number}", caller(f"talk-{number % 5}"), checked(STOCK, f"digest-{number}")
    review = await approved(store, number, what) if number % 2 else None
    facts = await store.calls.reserve(call, who, what)
    await store.calls.commit(intent(call, who, what, facts, review=review), durable=True)
    say("intent", call)
    await asyncio.sleep(0)
    await store.calls.settle(terminal(call, who, what, facts), durable=True)
    say("terminal", call)


async def approved(store: EmbeddedStore, number: int, what: CheckedCall) -> str:
    now = SystemClock().now()
    later = now.replace(year=now.year + 1)
    who = caller(f"talk-{number % 5}")
    asked = await hold(store, who, what, call=f"held-{number}", id=f"r-{number}", requested_at=now, expires_at=later)
    await store.reviews.resolve(asked.id, ReviewStatus.APPROVED, "rita", None)
    say("approved", asked.id)
    return asked.id


async def main(path: Path) -> None:
    clock = SystemClock()
    journal = Journal.open(path / "journal", chain="test", clock=clock)
    store = await open_store(path / "state.db", journal, path / "journal", clock=clock, limits=MANY)
    for number in range(5):
        await register(store, f"talk-{number}")
        say("registered", f"talk-{number}")
    numbers = iter(range(CALLS))

    async def work() -> None:
        for number in numbers:
            await one(store, number)

    await asyncio.gather(*(work() for _ in range(WORKERS)))
    say("finished", "all")
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
