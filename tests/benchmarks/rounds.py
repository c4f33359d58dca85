"""Alternated rounds: all targets, started once, each asked in each round, in turn forwards and backwards."""

from collections import defaultdict
from collections.abc import Callable, Sequence

from tests.benchmarks.load import Measured, load
from tests.benchmarks.report import spread
from tests.benchmarks.targets import Target

Rounds = dict[str, list[dict[int, Measured]]]  # by target, by round, by concurrency


async def alternate(targets: Sequence[Target], *, rounds: int, counts: dict[int, int], progress: bool = True) -> Rounds:
    """`counts`: concurrency -> requests a round. Raises RuntimeError at an answer that is not a 200."""
    measured: Rounds = defaultdict(list)
    for target in targets:  # warm: connections, caches, OPA's compiled query
        await load(target.port, target.requests, concurrency=16, count=min(500, counts[16]), watched=target.pids)
    for number in range(rounds):
        for target in targets if number % 2 == 0 else reversed(targets):
            found = {
                c: await load(target.port, target.requests, concurrency=c, count=n, watched=target.pids)
                for c, n in counts.items()
            }
            if bad := sum(m.bad for m in found.values()):
                raise RuntimeError(f"{target.name}: {bad} answers other than 200")
            measured[target.name].append(found)
        if progress:
            print(f"  round {number + 1} of {rounds}", flush=True)
    return measured


def ratio(
    own: Sequence[dict[int, Measured]],
    base: Sequence[dict[int, Measured]],
    figure: Callable[[dict[int, Measured]], float],
) -> dict[str, float]:
    """The figure against the base's in the same round: median, least, greatest."""
    return spread(figure(a) / figure(b) for a, b in zip(own, base, strict=True))


def cpu(process: str = "proxy", concurrency: int = 16) -> Callable[[dict[int, Measured]], float]:
    """CPU seconds per call of one process."""
    return lambda found: found[concurrency].cpu[process]


def latency(p: float, concurrency: int = 1) -> Callable[[dict[int, Measured]], float]:
    """Seconds at a percentile."""
    return lambda found: found[concurrency].percentile(p)
