"""A closed-loop load over raw keep-alive connections, in the benchmark's own process."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

TICKS = 100  # clock ticks per second of /proc/PID/stat on Linux


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One run: seconds per request (sorted), and CPU seconds per request of each watched process."""

    latencies: Sequence[float]
    cpu: dict[str, float]
    seconds: float
    bad: int

    def percentile(self, p: float) -> float:
        """Latency at a percentile, in seconds."""
        return self.latencies[min(len(self.latencies) - 1, int(len(self.latencies) * p / 100))]


class _Client(asyncio.Protocol):
    def __init__(self) -> None:
        self._buffer = bytearray()
        self._waiter: asyncio.Future[bytes] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: asyncio.Transport = transport  # type: ignore[assignment]  # a stream's transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        head = bytes(self._buffer[:end]).lower()
        start = head.index(b"content-length:")
        length = int(head[start + 15 :].split(b"\r\n", 1)[0])
        if len(self._buffer) >= end + 4 + length and self._waiter is not None:
            self._buffer.clear()
            self._waiter.set_result(head)

    async def ask(self, request: bytes) -> bytes:
        self._waiter = asyncio.get_running_loop().create_future()
        self.transport.write(request)
        return await self._waiter


def cpu_seconds(pid: int) -> float:
    """User and system time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


async def load(
    port: int, requests: Sequence[bytes], *, concurrency: int, count: int, watched: dict[str, int]
) -> Measured:
    """Send `count` requests over `concurrency` connections; connection n sends `requests[n % len]`."""
    loop = asyncio.get_running_loop()
    latencies: list[float] = []
    left, bad = count, 0

    async def worker(number: int) -> None:
        nonlocal left, bad
        _, client = await loop.create_connection(_Client, "127.0.0.1", port)
        request = requests[number % len(requests)]
        while left > 0:
            left -= 1
            began = time.perf_counter()
            head = await client.ask(request)
            latencies.append(time.perf_counter() - began)
            bad += not head.startswith(b"http/1.1 200")
        client.transport.close()

    before = {name: cpu_seconds(pid) for name, pid in watched.items()}
    began = time.perf_counter()
    await asyncio.gather(*(worker(n) for n in range(concurrency)))
    seconds = time.perf_counter() - began
    cpu = {name: (cpu_seconds(pid) - before[name]) / len(latencies) for name, pid in watched.items()}
    return Measured(latencies=sorted(latencies), cpu=cpu, seconds=seconds, bad=bad)
