"""The load: clients that do all that clients do, well and badly, and a reviewer. What they were told goes into the ledger."""

import asyncio
import json
import random
import time
import traceback
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from tests.e2e.rig import Rig, native
from tests.faults import mutants
from tests.faults.ledger import Ledger, Talk
from tests.wire.shapes import SHAPES

LOST = (aiohttp.ClientError, ConnectionError, TimeoutError, asyncio.IncompleteReadError)
SYSTEMS = {"get_stock": "inventory", "get_terms": "suppliers", "get_price": "pricing"}
KEPT = 40  # conversations in use at a time
JSON = {"content-type": "application/json"}


@dataclass(slots=True)
class Load:
    """Clients of one rig. `up` is cleared while no sidecar runs; `calm` leaves out what never gets a whole answer."""

    rig: Rig
    ledger: Ledger
    seed: int
    began: float
    up: asyncio.Event = field(default_factory=asyncio.Event)
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    pace: float = 0.06  # seconds between two acts of one client, on average
    named: int = 0
    _plain: list[Talk] = field(default_factory=list)  # they read from two systems
    _wide: list[Talk] = field(default_factory=list)  # from three that may not meet

    async def client(self, number: int) -> None:
        """One client, until `stop`."""
        rng = random.Random(f"{self.seed} client {number}")
        await self._again(rng, lambda: self.act(rng))

    async def reviewer(self) -> None:
        """Answers what is held: yes, no, or later."""
        rng = random.Random(f"{self.seed} reviewer")
        await self._again(rng, lambda: self.review(rng))

    async def act(self, rng: random.Random) -> None:
        """One thing that a client does."""
        if len(self._plain) < 3 or len(self._wide) < 3:
            await self.new(rng)
            return
        kinds: dict[Callable[[random.Random], Awaitable[None]], int] = {
            self.read: 30, self.write: 15, self.wide: 20, self.many: 8, self.broken: 6, self.own: 6, self.hang_up: 5,
            self.resume: 8, self.new: 4, self.again: 3, self.stopped: 1, self.customer: 4, self.unknown: 2,
        }  # fmt: skip
        do = rng.choices(list(kinds), list(kinds.values()))[0]
        self.ledger.acts[do.__name__] += 1
        try:
            await do(rng)
        except LOST as e:
            self.ledger.no_answer[type(e).__name__] += 1

    async def read(self, rng: random.Random) -> None:
        await self.call(rng.choice(self._plain), rng.choice(("get_stock", "get_terms")), {"sku": sku(rng)})

    async def write(self, rng: random.Random) -> None:
        await self.call(rng.choice(self._plain), "create_order", {"sku": sku(rng), "quantity": rng.randrange(1, 130)})

    async def wide(self, rng: random.Random) -> None:
        """In a conversation where three systems meet: what completes the three is held."""
        await self.call(rng.choice(self._wide), rng.choice(tuple(SYSTEMS)), {"sku": sku(rng, 5)})

    async def many(self, rng: random.Random) -> None:
        """A list in the shape of one of the dialects."""
        shape = rng.choice(list(SHAPES.values()))
        items = [shape({"sku": sku(rng)}, f"c{n}") for n in range(rng.randrange(1, 4))]
        talk = rng.choice((*self._plain, *self._wide))
        await self.post("/v1/tool-calls", json.dumps(items).encode(), talk)

    async def broken(self, rng: random.Random) -> None:
        """A body that may be anything."""
        await self.post("/v1/tool-calls", mutants.body(rng), rng.choice(self._plain))

    async def own(self, rng: random.Random) -> None:
        """A tool that the agent runs itself; the result is mostly reported."""
        before = set(self.ledger.handed)
        await self.call(rng.choice(self._plain), "convert", {"sku": sku(rng)})
        for call in sorted(set(self.ledger.handed) - before):
            if rng.random() < 0.7:
                report = json.dumps({"handle": self.ledger.handed[call], "result": {"ok": True}}).encode()
                await self.post(f"/v1/tool-calls/{call}/result", report, None)

    async def hang_up(self, rng: random.Random) -> None:
        """Gone after some milliseconds."""
        talk, patience = rng.choice((*self._plain, *self._wide)), rng.uniform(0.001, 0.05)
        name = rng.choice(tuple(SYSTEMS)) if talk in self._wide else "get_terms"
        end = time.monotonic() + patience

        async def late() -> bool:
            return time.monotonic() > end

        await self.rig.hang_up(talk.handle, name, {"sku": sku(rng)}, when=late)

    async def resume(self, rng: random.Random) -> None:
        """The application runs an approved call, now and then one that has run."""
        if self.ledger.approved:
            shown = rng.choice(list(self.ledger.approved.values())[-10:])
            await self.post(f"/v1/tool-calls/{shown['call_id']}/resume", b"", self.ledger.talks[shown["conversation"]])

    async def new(self, rng: random.Random) -> None:
        """A conversation of one of two users."""
        self.named += 1
        name, user = f"{rng.choice('pw')}{self.named}-{rng.randrange(10**6)}", rng.choice(("ada", "ben"))
        talk = await self.register(name, user)
        if talk is not None:
            pool = self._plain if name.startswith("p") else self._wide
            pool.append(talk)
            del pool[:-KEPT]

    async def again(self, rng: random.Random) -> None:
        """A registration refreshed, keeping the handle; by another user it has to fail."""
        talk = rng.choice(self._plain)
        right = rng.random() < 0.7
        user = talk.user if right else "eve"
        handle = {"x-sidegate-conversation": talk.handle} if right else {}
        status, answer = await self.rig.put(talk.name, self.rig.users[user], handle, text="again")
        if status == 200 and not right:
            self.ledger.problems.append(f"{talk.name} of {talk.user} was given to eve: {answer}")

    async def stopped(self, rng: random.Random) -> None:
        """A conversation of its own is stopped by an operator; from the answer on nothing runs in it."""
        self.named += 1
        talk = await self.register(f"s{self.named}-{rng.randrange(10**6)}", "ada")
        if talk is None:
            return
        status, _ = await self.rig.review("POST", "/v1/stops", {"scope": "conversation", "name": talk.name})
        if status == 200:
            self.ledger.stopped.add(talk.name)
            codes = await self.call(talk, "get_stock", {"sku": sku(rng)})
            if codes == [""]:
                self.ledger.problems.append(f"{talk.name} is stopped, and a call ran")

    async def customer(self, rng: random.Random) -> None:
        """A tool that asks for facts first."""
        await self.call(rng.choice(self._plain), "get_customer", {"id": sku(rng)})

    async def unknown(self, rng: random.Random) -> None:
        await self.call(
            rng.choice(self._plain), rng.choice(("get_stokc", "GET_STOCK", "../get_stock")), {"sku": sku(rng)}
        )

    async def register(self, name: str, user: str) -> Talk | None:
        """A conversation, if the answer came."""
        try:
            status, answer = await self.rig.put(name, self.rig.users[user], text="hello")
        except LOST as e:
            self.ledger.no_answer[type(e).__name__] += 1
            return None
        if status != 200:
            return None
        self.ledger.talks[name] = talk = Talk(name=name, handle=answer["handle"], user=user)
        return talk

    async def call(self, talk: Talk, name: str, arguments: dict[str, Any]) -> list[str]:
        """One native call; its code, in a list."""
        codes = await self.post("/v1/tool-calls", native(name, arguments).encode(), talk)
        if codes == [""] and name in SYSTEMS:
            self.ledger.read.setdefault(talk.name, set()).add(SYSTEMS[name])
        return codes

    async def post(self, path: str, body: bytes, talk: Talk | None) -> list[str]:
        """Any POST to the agent port; the codes of its answers go to the ledger."""
        headers = JSON if talk is None else JSON | {"x-sidegate-conversation": talk.handle}
        limit = aiohttp.ClientTimeout(total=15)
        url = self.rig.url("agent") + path
        async with self.rig.session.post(url, data=body, headers=headers, timeout=limit) as response:
            names = {name.lower(): value for name, value in response.headers.items()}
            return self.ledger.answered(time.monotonic() - self.began, names, await response.read())

    async def review(self, rng: random.Random) -> None:
        """Look at what is held and answer some of it."""
        status, waiting = await self.rig.review("GET", "/v1/reviews")
        for each in waiting if status == 200 else ():
            kind = rng.choices(("approve", "reject", "later"), (60, 10, 30))[0]
            if kind == "later":
                continue
            status, shown = await self.rig.review("GET", f"/v1/reviews/{each['id']}")
            if status != 200:
                continue
            body = {"digest": shown["digest"]}
            status, _ = await self.rig.review("POST", f"/v1/reviews/{each['id']}/{kind}", body)
            if status == 200 and kind == "approve":
                self.ledger.approved[each["id"]] = shown
            elif status == 200:
                self.ledger.rejected.add(each["id"])

    async def _again(self, rng: random.Random, do: Callable[[], Awaitable[None]]) -> None:
        """Over and over while a sidecar runs. The pace leaves the processors to others."""
        while not self.stop.is_set():
            await self.up.wait()
            try:
                await do()
            except LOST as e:
                self.ledger.no_answer[type(e).__name__] += 1
            except Exception:  # noqa: BLE001 - an answer that a client cannot read is a finding, and the run goes on
                self.ledger.problems.append(traceback.format_exc(limit=-3))
            await asyncio.sleep(rng.uniform(0, 2 * self.pace))


def sku(rng: random.Random, kinds: int = 10**6) -> str:
    """Few kinds make identical calls, which the loop guard and the reviews know."""
    return f"S{rng.randrange(kinds)}"
