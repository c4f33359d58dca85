"""State of many pods in one Valkey or Redis server (design section 8): any pod serves any conversation."""

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from proxy.adapters.journal import Journal
from proxy.adapters.state_directory import UnusableError
from proxy.adapters.store_valkey_calls import SharedCalls
from proxy.adapters.store_valkey_conversations import SharedConversations
from proxy.adapters.store_valkey_fit import StoreSettingError
from proxy.adapters.store_valkey_gone import Gone
from proxy.adapters.store_valkey_holds import HeldCalls
from proxy.adapters.store_valkey_link import Link
from proxy.adapters.store_valkey_pods import Pods
from proxy.adapters.store_valkey_reviews import SharedReviews
from proxy.adapters.store_valkey_talks import Talks
from proxy.adapters.store_valkey_time import StoreTime
from proxy.adapters.store_valkey_troubles import why
from proxy.core.hold_rules import HoldLimits
from proxy.core.review import Review
from proxy.errors import Refusal
from proxy.settings import Valkey

IN_MEMORY = 10_000  # conversations
LEAST_KEY = 32  # bytes
STARTING = 10.0  # seconds that a server may be away when a pod starts


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedStore:
    """The three ports over one server."""

    calls: SharedCalls
    reviews: SharedReviews
    conversations: SharedConversations
    pods: Pods
    talks: Talks
    holds: HeldCalls
    pod: str
    link: Link
    time: StoreTime
    beats: "asyncio.Task[None]"

    @property
    def in_memory(self) -> int:
        """How many conversations are."""
        return self.talks.in_memory

    @property
    def switches(self) -> Mapping[str, Any]:
        """Stop switches that stand, as last heard of."""
        return self.link.switches

    def now(self) -> datetime:
        """What time it is for reviews: the server's."""
        return self.time.now()

    def open_reviews(self) -> list[Review]:
        """Those that are pending or approved, as last heard of."""
        return [hold.review for hold in self.holds.open()]

    def status(self) -> Mapping[str, Any]:
        """What reviewers are shown."""
        return {"kind": "valkey", "pod": self.pod, "connected": self.link.connected}

    async def recover(self) -> int:
        """End the calls that this pod left executing when it died. Before serving; returns how many."""
        return await self.calls.recover()

    async def close(self) -> None:
        """Sign off and close. Before the journal is closed."""
        self.beats.cancel()
        with suppress(asyncio.CancelledError):
            await self.beats
        with suppress(Refusal):
            await self.pods.sign_off()
        await self.link.close()


def read_mac_key(path: Path) -> bytes:
    """The secret that all pods share. Raises UnusableError."""
    try:
        key = path.read_bytes()
    except OSError as e:
        raise UnusableError(f"the key {path} of the shared store cannot be read: {e.strerror}") from e
    if len(key) < LEAST_KEY:
        raise UnusableError(
            f"the key {path} of the shared store has {len(key)} bytes; put {LEAST_KEY} random ones there"
        )
    return key


async def open_shared_store(
    settings: Valkey,
    journal: Journal,
    directory: Path,
    *,
    pod: str,
    time: StoreTime,
    limits: HoldLimits,
    in_memory: int = IN_MEMORY,
    starting: float = STARTING,
) -> SharedStore:
    """Connect as `pod`, the name of this state directory; `journal` is in `directory`. Raises UnusableError, with a sentence."""
    link = Link(settings, read_mac_key(settings.mac_key_file))
    holds = HeldCalls(link)
    talks = Talks(link, holds, time.own, pod, in_memory)
    calls = SharedCalls(link=link, talks=talks, holds=holds, journal=journal, directory=directory, clock=time, pod=pod)
    reviews = SharedReviews(link=link, talks=talks, holds=holds, calls=calls, journal=journal, time=time, limits=limits)
    gone = Gone(link=link, talks=talks, calls=calls, journal=journal, pod=pod)
    pods = Pods(link=link, holds=holds, calls=calls, gone=gone, waiting=reviews.waiting, time=time, pod=pod)
    try:
        await link.open(starting)
        await pods.beat()
    except (Refusal, StoreSettingError, OSError) as e:
        await link.close()
        raise UnusableError(f"the shared store cannot be used: {why(e) if isinstance(e, Refusal) else e}") from e
    return SharedStore(
        calls=calls,
        reviews=reviews,
        conversations=SharedConversations(link=link, talks=talks, journal=journal, clock=time.own),
        pods=pods,
        talks=talks,
        holds=holds,
        link=link,
        time=time,
        pod=pod,
        beats=asyncio.create_task(pods.watch()),
    )
