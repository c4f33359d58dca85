"""Load over raw keep-alive connections, in the benchmark's own process: closed loop, and open loop by a schedule."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count as counting
from pathlib import Path

STATUS = slice(9, 12)  # of `HTTP/1.1 200 OK`


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One run: seconds per request (sorted), and CPU seconds per request of each watched process."""

    latencies: Sequence[float]
    cpu: dict[str, float]
    seconds: float
    bad: int

    def percentile(self, p: float) -> float:
        """Latency at a percentile, in seconds."""
        return percentile(self.latencies, p)

    def corrected(self, p: float) -> float:
        """The same with coordinated omission corrected as wrk2 and HdrHistogram do: whoever would have asked during a long
        answer, one every median, waited too."""
        interval = percentile(self.latencies, 50)
        waited = [late for found in self.latencies for late in _omitted(found, interval)]
        return percentile(sorted([*self.latencies, *waited]), p)


def _omitted(found: float, interval: float) -> Iterator[float]:
    while (found := found - interval) >= interval:
        yield found


def percentile(ordered: Sequence[float], p: float) -> float:
    """Of sorted values; 0 if there are none."""
    return ordered[min(len(ordered) - 1, int(len(ordered) * p / 100))] if ordered else 0.0


class Client(asyncio.Protocol):
    """One connection, one request at a time."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._waiter: asyncio.Future[tuple[bytes, bytes]] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: asyncio.Transport = transport  # type: ignore[assignment]  # a stream's transport

    def connection_lost(self, exc: Exception | None) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(ConnectionResetError("closed before the answer"))

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        head = bytes(self._buffer[:end]).lower()
        start = head.index(b"content-length:")
        length = int(head[start + 15 :].split(b"\r\n", 1)[0])
        if len(self._buffer) >= end + 4 + length and self._waiter is not None and not self._waiter.done():
            body = bytes(self._buffer[end + 4 :])
            self._buffer.clear()
            self._waiter.set_result((head, body))

    async def ask(self, request: bytes) -> tuple[bytes, bytes]:
        """Head in lower case, and body. Raises ConnectionResetError."""
        self._waiter = asyncio.get_running_loop().create_future()
        self.transport.write(request)
        return await self._waiter


async def connect(port: int) -> Client:
    """A connection to loopback; the benchmarks go nowhere else."""
    _, client = await asyncio.get_running_loop().create_connection(Client, "127.0.0.1", port)
    return client


def cpu_seconds(pid: int) -> float:
    """CPU time of all threads of a process so far, to the nanosecond (the ticks of `stat` are 10 ms)."""
    tasks = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(task.read_text().split()[0]) for task in tasks) / 1e9


def rss_mib(pid: int) -> float:
    """Resident memory."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise ValueError(f"process {pid} has no resident memory")


async def load(
    port: int,
    requests: Sequence[bytes],
    *,
    concurrency: int,
    count: int,
    watched: dict[str, int],
    status: bytes = b"200",
) -> Measured:
    """Closed loop: `count` requests over `concurrency` connections, taken from `requests` in turn, from a random one on."""
    latencies: list[float] = []
    first = random.randrange(len(requests))
    numbers = iter(range(first, first + count))
    bad = 0

    async def worker(client: Client) -> None:
        nonlocal bad
        for number in numbers:
            request = requests[number % len(requests)]
            began = time.perf_counter()
            head, _ = await client.ask(request)
            latencies.append(time.perf_counter() - began)
            bad += head[STATUS] != status
        client.transport.close()

    clients = await asyncio.gather(*(connect(port) for _ in range(concurrency)))
    before = {name: cpu_seconds(pid) for name, pid in watched.items()}
    began = time.perf_counter()
    await asyncio.gather(*map(worker, clients))
    seconds = time.perf_counter() - began
    cpu = {name: (cpu_seconds(pid) - before[name]) / len(latencies) for name, pid in watched.items()}
    return Measured(latencies=sorted(latencies), cpu=cpu, seconds=seconds, bad=bad)


@dataclass(slots=True, kw_only=True)
class Offered:
    """An open loop: seconds from sending to the answer, by `judge`'s word for the answer. The schedule never waits for answers."""

    latencies: dict[str, list[float]] = field(default_factory=dict)
    unsent: int = 0  # due while all connections were busy
    late: float = 0.0  # greatest delay of the schedule, seconds: more than a few ms is this process's own lack of CPU
    broken: int = 0  # connections that ended before the answer
    seconds: float = 0.0

    def counted(self) -> Counter[str]:
        """How many answers of each kind."""
        return Counter({kind: len(found) for kind, found in self.latencies.items()})

    def percentile(self, p: float, *kinds: str) -> float:
        """In seconds, over these kinds; all if none is named."""
        return percentile(sorted(s for kind in kinds or self.latencies for s in self.latencies.get(kind, ())), p)


async def offer(
    port: int,
    build: Callable[[int], bytes],
    *,
    rate: float,
    seconds: float,
    judge: Callable[[int, bytes, bytes], str],
    connections: int = 1000,
) -> Offered:
    """Open loop: `rate` requests a second, whether earlier ones were answered or not. `judge(number, head, body)` names answers."""
    made, idle, tasks = Offered(), list[Client](), set[asyncio.Task[None]]()
    opened, began = 0, time.perf_counter()

    async def one(number: int, client: Client | None) -> None:
        sent = time.perf_counter()
        try:
            client = client or await connect(port)
            head, body = await client.ask(build(number))
        except OSError:
            nonlocal opened
            opened -= 1
            made.broken += 1
            return
        made.latencies.setdefault(judge(number, head, body), []).append(time.perf_counter() - sent)
        idle.append(client)

    for number in counting():
        due = began + number / rate
        if due >= began + seconds:
            break
        if (early := due - time.perf_counter()) > 0:
            await asyncio.sleep(early)
        elif number % 32 == 0:
            await asyncio.sleep(0)  # behind schedule, answers are read all the same
        made.late = max(made.late, -early)
        if not idle and opened >= connections:
            made.unsent += 1
            continue
        opened += not idle
        task = asyncio.create_task(one(number, idle.pop() if idle else None))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
    if tasks:
        await asyncio.wait(set(tasks), timeout=30)
    made.seconds = max(seconds, time.perf_counter() - began)
    for client in idle:
        client.transport.close()
    return made
