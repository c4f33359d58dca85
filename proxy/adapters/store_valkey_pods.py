"""Beats of a pod at the shared store: it lives, it hears of changes, and it ends what pods that are gone have left."""

import re
from collections.abc import Collection

from proxy.adapters.again import again_and_again
from proxy.adapters.store_valkey_calls import SharedCalls
from proxy.adapters.store_valkey_gone import Gone
from proxy.adapters.store_valkey_holds import HeldCalls
from proxy.adapters.store_valkey_link import Link
from proxy.adapters.store_valkey_time import StoreTime
from proxy.adapters.store_valkey_waiting import Waiting

BEAT = 0.25  # seconds: an answer or a stop in another pod is known here that much later
LEASE_MS = 30_000  # how long a silent pod is taken for alive
NAME = re.compile(rb"[A-Za-z0-9._-]{1,128}")  # a pod's, which is that of its journal's chain
_LOOK_EVERY = 20  # beats between looks for pods that are gone


class Pods:
    """Keep `watch` running."""

    def __init__(
        self,
        *,
        link: Link,
        holds: HeldCalls,
        calls: SharedCalls,
        gone: Gone,
        waiting: Waiting,
        time: StoreTime,
        pod: str,
    ) -> None:
        self._link = link
        self._holds = holds
        self._calls = calls
        self._gone = gone
        self._waiting = waiting
        self._time = time
        self._pod = pod
        self._pods = link.seal.name("pods")
        self._beats = 0
        self._silent: set[str] = set()  # pods that had no lease at the last look

    async def watch(self) -> None:
        """Beat for ever; what cannot be done now is done at a later beat."""
        await again_and_again(self._time, BEAT, self._beat_and_look, "the beats of this pod")

    async def _beat_and_look(self) -> None:
        self._beats += 1
        try:
            await self.beat()
        finally:
            if self._beats % _LOOK_EVERY == 0:
                await self.end_the_gone()

    async def beat(self) -> None:
        """One sign of life; take in what others have changed, and the server's time. Raises Refusal state_unavailable."""
        lease = self._link.seal.name("lease", self._pod)
        signs = [("SET", lease, 1, "PX", LEASE_MS), ("HSET", self._pods, self._pod, 1), *self._waiting.signs()]
        self._time.learn((await self._link.run([], [("TIME",), *signs])).replies[0])
        await self._holds.sync()
        await self._calls.settle_late()

    async def end_the_gone(self) -> int:
        """Look for pods that have no lease, and end the calls of those that had none at the look before; returns how many were
        executing. Raises Refusal.

        One look is not enough: after an outage, or a jump of the server's clock, leases of the living have run out as well.
        They beat before the next look. One that fails counts for nothing, nor does one while this pod has no lease itself: a
        server that can be read and not written keeps everybody from beating.
        """
        before, self._silent = self._silent, set()
        lease = self._link.seal.name("lease", self._pod)
        names, own = (await self._link.run([], [("HKEYS", self._pods), ("EXISTS", lease)])).replies
        # Whoever can write to the server can put any name there: what no pod has is passed over.
        others = [name.decode() for name in names if own and NAME.fullmatch(name) and name.decode() != self._pod]
        try:
            await self._link.each(others, lambda name: self._look_at(name, before))
        finally:
            count = await self._gone.end_adopted()
        return count

    async def _look_at(self, pod: str, before: Collection[str]) -> None:
        if (await self._link.run([], [("EXISTS", self._link.seal.name("lease", pod))])).replies[0]:
            return
        self._silent.add(pod)
        if pod in before:
            await self._gone.take_over(pod)
            await self._link.run([], [("HDEL", self._pods, pod)])
            self._silent.discard(pod)

    async def sign_off(self) -> None:
        """This pod ends in order. Raises Refusal."""
        await self._calls.settle_late()
        if not await self._calls.calls_of(self._pod):
            lease = self._link.seal.name("lease", self._pod)
            await self._link.run([], [("DEL", lease), ("HDEL", self._pods, self._pod)])
