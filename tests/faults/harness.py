"""One run: a leg over the real OPA, a leg over an OPA that says odd things, and the invariants at the end of each."""

import asyncio
import contextlib
import random
import signal
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.e2e.rig import Rig, rig
from tests.e2e.stub_opa import StubOpa
from tests.faults.final import Growth, everything_acknowledged_stands, measured_load, nothing_left_running
from tests.faults.inject import Injector
from tests.faults.invariants import Evidence, breaches
from tests.faults.ledger import Ledger
from tests.faults.load import Load
from tests.faults.schedule import Schedule, schedule
from tests.faults.stub import OddOpa
from tests.faults.volume import Volume, Wall, volume, wall
from tests.faults.watch import Tail, Witness

CLIENTS = 6
STUB_SHARE = 0.25  # of the time
STEADY = 15.0  # seconds of the load under which memory and descriptors are compared
TOGETHER = frozenset({"system:inventory", "system:suppliers", "system:pricing"})
RETRIES = {"get_stock": 1}


@dataclass(slots=True, kw_only=True)
class Leg:
    """What happened in one leg. `broken` must be empty everywhere."""

    name: str
    plan: Schedule
    injector: Injector
    evidence: Evidence
    broken: dict[str, list[str]]
    seconds: float
    opa_said: Counter[str] = field(default_factory=Counter)
    growth: Growth | None = None

    @property
    def ledger(self) -> Ledger:
        return self.evidence.ledger


@dataclass(slots=True, kw_only=True)
class Run:
    """All of one seed. `gaps`: what this machine could not do."""

    seed: int
    seconds: float
    legs: list[Leg]
    gaps: list[str]

    @property
    def broken(self) -> list[str]:
        return [
            f"{leg.name}: {name}: {sentence}"
            for leg in self.legs
            for name, sentences in leg.broken.items()
            for sentence in sentences
        ]


async def run(seed: int, seconds: float) -> Run:
    """Both legs; `seconds` is the time of faults in all."""
    with tempfile.TemporaryDirectory(prefix="sidegate-faults-") as name:
        folder = Path(name)
        clock = wall(folder)
        with volume(folder / "volume", min(1 << 30, (64 << 20) + int(seconds * (2 << 20)))) as disk:
            real = await real_leg(folder, seed, seconds * (1 - STUB_SHARE), disk, clock)
        stub = await stub_leg(folder, seed, seconds * STUB_SHARE)
    gaps = ["a read-only remount under a running sidecar: the kernel refuses it while files are open for writing"]
    if disk is None:
        gaps.append("a full and a read-only disk: this user may not mount a tmpfs")
    if clock is None:
        gaps.append("steps of the wall clock: no C compiler for the preloaded clock")
    return Run(seed=seed, seconds=seconds, legs=[real, stub], gaps=gaps)


async def real_leg(folder: Path, seed: int, seconds: float, disk: Volume | None, clock: Wall | None) -> Leg:
    """Every fault, over a supervised OPA."""
    plan = schedule(seed, seconds, mounts=disk is not None, clock=clock is not None)
    async with _parts(folder / "real", seed, disk, clock) as (made, load, injector):
        if clock is not None:
            made.environment |= clock.environment
        return await _leg("real OPA", plan, made, load, injector, steady=True)


async def stub_leg(folder: Path, seed: int, seconds: float) -> Leg:
    """Odd answers by an OPA in this process."""
    plan = schedule(seed, seconds, mounts=False, clock=False, stub=True)
    async with _parts(folder / "stub", seed, None, None) as (made, load, injector):
        stub = StubOpa(made.folder / "opa.sock", made.folder / "policy.tar.gz")
        odd = OddOpa(stub, random.Random(f"{seed} opa"))
        odd.attach()
        await stub.start()
        made.settings["opa"] = {
            "mode": "external",
            "address": f"unix://{stub.socket}",
            "bundle": str(stub.bundle),
            "deadline": "300ms",
        }
        injector.opa_answers = odd.switch
        try:
            return await _leg("stub OPA", plan, made, load, injector, odd=odd)
        finally:
            await stub.stop()


@contextlib.asynccontextmanager
async def _parts(
    folder: Path, seed: int, disk: Volume | None, clock: Wall | None
) -> AsyncIterator[tuple[Rig, Load, Injector]]:
    folder.mkdir()  # noqa: ASYNC240 - nothing runs yet
    began = time.monotonic()
    async with rig(folder) as made:
        made.settings["state"] = str(disk.path / "state" if disk is not None else folder / "state")
        made.settings |= {"patience": "150ms", "drain": "3s", "review_ttl": "1h"}
        made.settings["limits"] = {"holds_per_conversation": 50, "new_holds_per_hour": 500, "holds_per_principal": 500}
        for tool in made.catalog["tools"]:
            tool["timeout"] = "800ms"
            if tool["name"] in RETRIES:
                tool |= {"idempotent": True, "retries": RETRIES[tool["name"]]}
        witness = Witness(Tail(Path(made.settings["state"]) / "journal"), random.Random(f"{seed} upstream"))
        made.upstream.answer = witness
        load = Load(made, Ledger(), seed, began)
        yield made, load, Injector(made, load, witness, disk, clock, began)


async def _leg(
    name: str,
    plan: Schedule,
    made: Rig,
    load: Load,
    injector: Injector,
    *,
    odd: OddOpa | None = None,
    steady: bool = False,
) -> Leg:
    """The load with the faults of a plan, then peace, then the questions."""
    await injector.start()
    injector.began = load.began = time.monotonic()
    clients = [asyncio.create_task(load.client(number)) for number in range(CLIENTS)]
    clients.append(asyncio.create_task(load.reviewer()))
    async with asyncio.TaskGroup() as group:
        group.create_task(injector.run(plan.process))
        group.create_task(injector.run(plan.upstream))
    if odd is not None:
        odd.switch(False)
    await injector.terminate(plan.process[0])  # what could not be recorded gets its end at a start
    growth = await measured_load(made, STEADY, injector) if steady else None
    load.stop.set()
    await asyncio.gather(*clients)
    broken = await _asked(load, injector, growth, together=odd is None)
    evidence = Evidence(
        records=made.records(),
        arrivals=injector.witness.arrivals,
        ledger=load.ledger,
        unsafe=injector.unsafe,
        retries=RETRIES,
        together=TOGETHER if odd is None else frozenset(),
        told=None if odd is None else odd.told,
    )
    return Leg(
        name=name,
        plan=plan,
        injector=injector,
        evidence=evidence,
        broken=broken | breaches(evidence),
        seconds=injector.now(),
        opa_said=Counter() if odd is None else odd.said,
        growth=growth,
    )


async def _asked(load: Load, injector: Injector, growth: Growth | None, *, together: bool) -> dict[str, list[str]]:
    """What the sidecar itself and its processes show at the end."""
    broken = {
        "acknowledged": [sentence async for sentence in everything_acknowledged_stands(load, together=together)],
        "sound": await _sound(load.rig),
        "growth": [] if growth is None else growth.problems(),
        "faults": injector.problems,
        "answers": load.ledger.problems,
    }
    code = await load.rig.stop(signal.SIGTERM)
    wrong = [] if code == 0 else [f"SIGTERM ended it with {code}"]
    return broken | {"end": wrong + await nothing_left_running(load.rig.folder)}


async def _sound(made: Rig) -> list[str]:
    """Nothing in flight, and `sidegate audit verify` over the whole chain."""
    try:
        await made.sound()
    except AssertionError as e:
        return [str(e)[:2000]]
    return []
