"""A place for a supervised OPA in tests, clocks that hurry or never wake, and questions to the kernel about processes."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from proxy.adapters.clock import SystemClock
from proxy.adapters.opa import OpaPolicy
from proxy.adapters.opa_process import (
    OpaStartError,
    SupervisedOpa,
)
from proxy.adapters.opa_transport import SidecarOpaClient
from tests.contracts.opa_server import opa_binary, short_directory, write_bundle


class HastyClock(SystemClock):
    """Notes how long it was asked to sleep. Of sleeps of `from_seconds` and more it sleeps a hundredth and skips the rest, as
    soon as `once` holds."""

    def __init__(self, from_seconds: float, once: Callable[[], bool] = lambda: True) -> None:
        self.slept: list[float] = []
        self._from_seconds = from_seconds
        self._once = once
        self._skipped = 0.0

    def monotonic(self) -> float:
        return super().monotonic() + self._skipped

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        real = seconds / 100 if seconds >= self._from_seconds and self._once() else seconds
        self._skipped += seconds - real
        await asyncio.sleep(real)


class NeverWakes(SystemClock):
    """Sleeps until cancelled."""

    async def sleep(self, seconds: float) -> None:
        await asyncio.Event().wait()


@dataclass(slots=True, kw_only=True)
class Place:
    """A directory with a bundle, and what OPA logged."""

    root: Path
    bundle: Path
    log: list[Mapping[str, str]] = field(default_factory=list)
    clock: SystemClock = field(default_factory=SystemClock)

    @property
    def directory(self) -> Path:
        return self.root / "opa"

    def opa(self, **options: Any) -> SupervisedOpa:
        given: dict[str, Any] = {
            "binary": opa_binary(),
            "bundle": self.bundle,
            "directory": self.directory,
            "clock": self.clock,
            "on_log": self.log.append,
        }
        return SupervisedOpa(**{**given, **options})

    @contextlib.asynccontextmanager
    async def started(self, **options: Any) -> AsyncIterator[SupervisedOpa]:
        opa = self.opa(**options)
        await opa.start()
        try:
            yield opa
        finally:
            await opa.close()


@contextlib.contextmanager
def new_place() -> Iterator[Place]:
    """A place with a bundle of revision r1."""
    with short_directory() as root:
        yield Place(root=root, bundle=write_bundle(root / "bundle.tar.gz", "r1"))


@contextlib.asynccontextmanager
async def policy_of(opa: SupervisedOpa, deadline: float = 5.0) -> AsyncIterator[OpaPolicy]:
    async with SidecarOpaClient(opa.address, deadline=deadline) as client:
        yield OpaPolicy(client)


def proc(pid: int, name: str) -> bytes:
    return Path(f"/proc/{pid}/{name}").read_bytes()


def running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state not in "ZX"


def pid_of(opa: SupervisedOpa) -> int:
    assert opa.pid is not None
    return opa.pid


async def start_error(opa: SupervisedOpa) -> str:
    with pytest.raises(OpaStartError) as caught:
        await opa.start()
    assert not opa.alive
    assert opa.pid is None
    return str(caught.value)


def commands_that_name(directory: Path) -> list[bytes]:
    commands = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            commands.append(path.read_bytes())
    return [command for command in commands if os.fsencode(directory) in command]
