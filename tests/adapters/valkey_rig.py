"""Shared stores on one real server, each with a journal of its own, as pods have them."""

import asyncio
import hmac
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from proxy.adapters.journal import Journal
from proxy.adapters.journal_reader import read
from proxy.adapters.store_valkey import SharedStore, open_shared_store
from proxy.adapters.store_valkey_rows import FORMAT
from proxy.adapters.store_valkey_time import StoreTime
from proxy.core.hold_rules import HoldLimits
from proxy.errors import Refusal
from proxy.settings import Valkey
from tests.contracts.store_kit import ManualClock
from tests.e2e.redis_server import RedisServer, redis_server

KEY = b"k" * 32
LATER = FORMAT + 1


class Pods:
    """Pods by name, all on one server and one clock."""

    def __init__(self, path: Path, server: RedisServer, **settings: Any) -> None:
        self.path = path
        self.server = server
        self.clock = ManualClock()
        path.mkdir(exist_ok=True)
        (path / "mac.key").write_bytes(KEY)
        self.settings = Valkey(
            **{"url": server.url, "mac_key_file": path / "mac.key", "prefix": "test", "deadline": 2.0, **settings}
        )

    @asynccontextmanager
    async def pod(
        self,
        name: str = "a",
        *,
        limits: HoldLimits | None = None,
        in_memory: int = 10_000,
        clock: ManualClock | None = None,
    ) -> AsyncIterator[SharedStore]:
        """A store between start and stop, by this clock or the server's, which is `self.clock`."""
        clock = clock or self.clock
        journal = Journal.open(self.path / name, chain=name, clock=clock, reserve_bytes=4096)
        try:
            store = await open_shared_store(
                self.settings,
                journal,
                self.path / name,
                pod=name,
                time=StoreTime(clock, lambda _reply: self.clock.now()),
                limits=limits or HoldLimits(),
                in_memory=in_memory,
                starting=0.3,
            )
            try:
                yield store
            finally:
                await store.close()
        finally:
            with suppress(Refusal):
                await journal.close()

    def rewrite_later(self, key: str, *, format_: int = LATER) -> None:
        """The row of this key as a later version of Sidegate would change it: one version on, with a field more, in its own
        format (or in ours, which would be a fault of that version)."""
        row = self.server.command("GET", key).split(b"\r\n")[1].decode()
        version, _, _, body = row.split(" ", 3)
        for field in ('"total":', '"digest":'):  # of a conversation, of a review
            body = body.replace(field, f'"later":1,{field}')
        later = row_of_format(format_, key, int(version) + 1, body)
        assert self.server.command("SET", key, later) == b"+OK\r\n"

    def records(self, name: str, **wanted: Any) -> list[dict[str, Any]]:
        """What a pod's journal says."""
        found = [dict(record) for record in read(self.path / name)]
        return [r for r in found if all(r.get(key) == value for key, value in wanted.items())]


def row_of_format(format_: int, key: str, version: int, body: str) -> str:
    """A row as a version of Sidegate with this format writes it, by the standard library's HMAC."""
    secret = hmac.digest(KEY, b"sidegate rows", "sha256")
    mac = hmac.digest(secret, f"{key}\0{version}\0{format_}\0{body}".encode(), "sha256").hex()
    return f"{version} {format_} {mac} {body}"


@asynccontextmanager
async def pods_on_server(path: Path, *arguments: str, **settings: Any) -> AsyncIterator[Pods]:
    """A server of its own, and pods on it."""
    async with redis_server(path / "redis", *arguments) as server:
        yield Pods(path / "pods", server, **settings)


async def looked_twice(store: SharedStore) -> int:
    """How many calls the second look for pods that are gone has ended; the first one only notes who has no lease."""
    assert await store.pods.end_the_gone() == 0
    return await store.pods.end_the_gone()


async def until_told(store: SharedStore) -> None:
    """Beat until the server answers again and has heard all, within ten seconds."""
    end = time.monotonic() + 10
    while True:
        try:
            return await store.pods.beat()
        except Refusal:
            assert time.monotonic() < end, "it does not recover"
            await asyncio.sleep(0.02)
