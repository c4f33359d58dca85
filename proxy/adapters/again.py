"""Work that goes on as long as the process lives. One time that goes wrong must not be the last, and no end of it go unseen."""

import asyncio
import contextlib
import logging
import signal
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack
from typing import Any

from proxy.adapters.seldom import Seldom
from proxy.errors import Refusal
from proxy.ports import Clock

_log = logging.getLogger("sidegate")


async def again_and_again(clock: Clock, seconds: float, step: Callable[[], Awaitable[object]], what: str) -> None:
    """Do `step` every so many seconds, whatever becomes of it. Does not end.

    A Refusal is passed over: whoever is refused is told, and the next time may do. Anything else is logged, at most once a
    minute, as a fault in `what`.
    """
    seldom = Seldom(clock)
    while True:
        await clock.sleep(seconds)
        try:
            await step()
        except Refusal:
            pass
        except Exception:  # noqa: BLE001 - the next time is tried whatever broke in this one
            if (before := seldom.due(what)) is not None:
                fields = {"work": what, "times_before": before}
                _log.exception("a fault of Sidegate's own; this work is tried again", extra={"fields": fields})


def in_background(work: Coroutine[Any, Any, None], stack: AsyncExitStack) -> None:
    """Run it until the stack ends. Should it end by a fault, the process is asked to end in order (SIGTERM): without this
    part it only seems to live, and whoever supervises it starts a whole one."""
    task = asyncio.create_task(work)
    task.add_done_callback(_look_at)

    async def end() -> None:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError, Exception):  # `_look_at` has told of it
            await task

    stack.push_async_callback(end)


def _look_at(task: "asyncio.Task[None]") -> None:
    if not task.cancelled() and (fault := task.exception()) is not None:
        _log.critical("a part of Sidegate has ended by a fault; the process ends", exc_info=fault)
        signal.raise_signal(signal.SIGTERM)
