"""What goes wrong and when: a list of faults made from a seed, which prints as it will be done."""

import random
from collections.abc import Sequence
from dataclasses import dataclass

# Weight, and the shortest and longest duration in seconds. What has no duration is over at once.
PROCESS: dict[str, tuple[int, float, float]] = {
    "kill": (3, 0, 0),  # kill -9 of the sidecar, and a start on the same state
    "terminate": (2, 0, 0),  # SIGTERM in the middle of calls, and a start
    "pause": (3, 0.2, 2.0),  # SIGSTOP of the sidecar
    "opa_kill": (3, 0, 0),
    "opa_pause": (3, 0.1, 1.5),
    "disk_full": (4, 0.3, 1.5),
    "full_start": (1, 0, 0),  # an end, and a start on a full disk
    "read_only_start": (1, 0, 0),
    "reload": (2, 0, 0),
    "broken_reload": (2, 0, 0),
    "clock": (3, 0.3, 1.0),  # a step of the wall clock of the sidecar, and back
    "slow_clients": (2, 0.3, 1.5),
}
UPSTREAM: dict[str, tuple[int, float, float]] = {
    "refuse": (2, 0.2, 1.0),
    "reset": (2, 0.2, 1.0),
    "half": (2, 0.2, 1.0),
    "slow": (3, 0.3, 1.5),
    "status_500": (2, 0.2, 1.0),
    "garbage": (1, 0.2, 0.8),
    "huge": (1, 0.2, 0.8),
    "close_after": (2, 0.2, 1.0),
}
STUB: dict[str, tuple[int, float, float]] = {"opa_answers": (6, 0.5, 2.0), "kill": (1, 0, 0), "pause": (1, 0.2, 1.0)}
MOUNTS = frozenset({"disk_full", "full_start", "read_only_start"})
ROOM = {"reload": 4.0, "broken_reload": 3.0, "kill": 2.5, "terminate": 2.5, "full_start": 5.0, "read_only_start": 4.0}


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One fault: seconds after the begin, what, for how many seconds, and a number from 0 to 1 for what the kind leaves open."""

    at: float
    kind: str
    seconds: float
    detail: float

    def __str__(self) -> str:
        return f"{self.at:7.2f}  {self.kind:<16} {self.seconds:5.2f} s  {self.detail:.3f}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """Two tracks at the same time, one fault at a time on each."""

    process: Sequence[Fault]
    upstream: Sequence[Fault]

    def __str__(self) -> str:
        return "\n".join(str(fault) for fault in sorted((*self.process, *self.upstream), key=lambda fault: fault.at))


def track(
    rng: random.Random, kinds: dict[str, tuple[int, float, float]], seconds: float, *, pause: tuple[float, float]
) -> list[Fault]:
    """Faults one after the other for so long. Every kind comes once, in a random order, before any comes again."""
    faults, at, bag = list[Fault](), rng.uniform(*pause), list[str]()
    while True:
        if not bag:
            bag = [kind for kind, (weight, _, _) in kinds.items() for _ in range(1 if not faults else weight)]
            rng.shuffle(bag)
        kind = bag.pop()
        fault = Fault(at=at, kind=kind, seconds=rng.uniform(*kinds[kind][1:]), detail=rng.random())
        at += fault.seconds + ROOM.get(kind, 0.0) + rng.uniform(*pause)
        if at > seconds:
            return faults
        faults.append(fault)


def schedule(seed: int, seconds: float, *, mounts: bool, clock: bool, stub: bool = False) -> Schedule:
    """The faults of one seed, without those that this machine cannot do."""
    rng = random.Random(f"{seed} {'stub' if stub else 'real'}")
    left_out = (frozenset() if mounts else MOUNTS) | (frozenset() if clock else {"clock"})
    kinds = {kind: facts for kind, facts in (STUB if stub else PROCESS).items() if kind not in left_out}
    return Schedule(
        process=track(rng, kinds, seconds, pause=(0.2, 0.8)), upstream=track(rng, UPSTREAM, seconds, pause=(0.5, 2.5))
    )
