"""The one writer thread, and which callers share one flush (performance.md section 6, grouping "G")."""

import asyncio
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import TypeVar

from proxy.errors import Code, Refusal

T = TypeVar("T")
_GROUP_SECONDS = 0.002


def unwritable(error: BaseException) -> Refusal:
    """The refusal for a record that was not written or not flushed; the cause goes to the details only."""
    return Refusal(Code.AUDIT_UNAVAILABLE, "the audit journal cannot be written", details={"error": str(error)})


class WriterThread:
    """Runs blocking work in order, off the event loop. Results come back on the loop that asked."""

    def __init__(self) -> None:
        self._queue: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="sidegate-journal", daemon=True)
        self._thread.start()

    def submit(self, work: Callable[[], T], done: Callable[[T | None, BaseException | None], None]) -> None:
        """Queue `work`; `done(result, error)` is called on the running loop, once."""
        loop = asyncio.get_running_loop()

        def job() -> None:
            result, error = None, None
            try:
                result = work()
            except BaseException as caught:  # noqa: BLE001 - handed to the caller, who raises it
                error = caught
            if not loop.is_closed():
                loop.call_soon_threadsafe(done, result, error)

        self._queue.put(job)

    async def run(self, work: Callable[[], T]) -> T:
        """Run `work` after all that is queued, and wait for it. Raises what it raises."""
        future: asyncio.Future[T | None] = asyncio.get_running_loop().create_future()

        def done(result: T | None, error: BaseException | None) -> None:
            if future.done():  # its caller was cancelled
                return
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(result)

        self.submit(work, done)
        return await future  # type: ignore[return-value]  # None only where T is None

    def stop(self) -> None:
        """End the thread once its queue is done, and wait for that."""
        self._queue.put(None)
        self._thread.join()

    def _work(self) -> None:
        while (job := self._queue.get()) is not None:
            job()


class Flusher:
    """Groups callers who wait for a flush. All methods run on the event loop.

    `take()` returns the highest sequence number written and the blocking flush that covers it; `failed()` is told of a
    flush error and returns the highest sequence number that is in doubt since.
    """

    def __init__(
        self,
        thread: WriterThread,
        *,
        durable: int,
        take: Callable[[], tuple[int, Callable[[], None]]],
        failed: Callable[[], int],
    ) -> None:
        self._thread = thread
        self._take = take
        self._failed = failed
        self._durable = durable
        self._doubtful: list[tuple[int, int]] = []  # ranges (low, high) whose flush failed
        self._waiting: list[tuple[int, asyncio.Future[None]]] = []
        self._in_flight = 0
        self._flushing = False
        self._timer: asyncio.TimerHandle | None = None
        self._callbacks: list[Callable[[int], None]] = []

    def on_durable(self, callback: Callable[[int], None]) -> None:
        """Call it after each successful flush with the highest durable sequence number."""
        self._callbacks.append(callback)

    def enter(self) -> None:
        """A call is in flight."""
        self._in_flight += 1

    def leave(self) -> None:
        """A call has ended or is held: the group need not wait for it."""
        self._in_flight -= 1
        if self._waiting:
            self._consider()

    async def flushed(self, seq: int) -> None:
        """Return once a flush covered `seq`. Raises Refusal audit_unavailable if that flush failed."""
        if any(low <= seq <= high for low, high in self._doubtful):
            raise unwritable(OSError("its flush failed"))
        if seq <= self._durable:
            return
        future = asyncio.get_running_loop().create_future()
        self._waiting.append((seq, future))
        self._consider()
        await future

    def start(self) -> None:
        """Flush now for those who wait, unless a flush is running (they are the next group then)."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._flushing or not self._waiting:
            return
        group, self._waiting = self._waiting, []
        self._flushing = True
        upto, flush = self._take()
        self._thread.submit(flush, lambda _, error: self._finish(upto, group, error))

    def _consider(self) -> None:
        if self._flushing:
            return
        if len(self._waiting) >= self._in_flight:
            self.start()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_GROUP_SECONDS, self.start)

    def _finish(self, upto: int, group: list[tuple[int, asyncio.Future[None]]], error: BaseException | None) -> None:
        self._flushing = False
        if error is None:
            self._durable = upto
            _resolve(group, None)
        else:
            self._doubt(self._failed())
            # Whoever joined meanwhile waits for bytes of the same descriptor.
            _resolve(group + self._waiting, unwritable(error))
            self._waiting = []
        if self._waiting:
            self._consider()
        if error is None:
            for callback in self._callbacks:
                callback(upto)

    def _doubt(self, high: int) -> None:
        if self._doubtful and self._doubtful[-1][1] >= self._durable:
            low, _ = self._doubtful.pop()  # nothing became durable since: one range
        else:
            low = self._durable + 1
        self._doubtful.append((low, high))


def _resolve(group: list[tuple[int, asyncio.Future[None]]], refusal: Refusal | None) -> None:
    for _, future in group:
        if future.done():  # its caller was cancelled
            continue
        if refusal is None:
            future.set_result(None)
        else:
            future.set_exception(refusal)
