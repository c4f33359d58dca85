"""A running sidecar: whether it is ready, its figures, and how it ends."""

import logging
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from proxy.adapters.journal import Journal
from proxy.adapters.opa_process import SupervisedOpa
from proxy.adapters.opa_watchdog import OpaWatchdog
from proxy.adapters.policy_source import PolicySource
from proxy.adapters.snapshots import SnapshotKeeper
from proxy.adapters.store_embedded import EmbeddedStore
from proxy.core.review import Review, ReviewStatus
from proxy.pipeline import Pipeline
from proxy.server.listeners import Listeners
from proxy.settings import Settings
from proxy.telemetry import names
from proxy.telemetry.metrics import Reading

_log = logging.getLogger("sidegate")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sidecar:
    """A running sidecar."""

    settings: Settings
    pipeline: Pipeline
    store: EmbeddedStore
    journal: Journal
    snapshots: SnapshotKeeper
    policy_source: PolicySource
    listeners: Listeners
    opa: SupervisedOpa | None
    watchdog: OpaWatchdog

    def ready(self) -> bool:
        """Whether calls are decided at present."""
        opa = self.watchdog.answers and (self.opa is None or self.opa.alive)
        return self.listeners.complete and not self.pipeline.gate.closed and opa

    def status(self) -> Mapping[str, Any]:
        """Figures for the review port and the start line."""
        snapshot, head = self.snapshots.current(), self.journal.head
        return {
            "revision": snapshot.revision,
            "policy": snapshot.policy_revision,
            "catalog": snapshot.catalog.revision,
            "tools": len(snapshot.catalog.tools),
            "quarantined": sorted(t.name for t in snapshot.catalog.tools.values() if t.quarantined),
            "policies": dict(self.policy_source.modes),
            "not_enforcing": self._not_enforcing(),
            "warnings": list(self.policy_source.warnings),
            "registration": self.settings.registration,
            "ports": {name: getattr(self.settings, f"{name}_port").address for name in ("agent", "review", "probe")},
            "enforcement": "cooperative, or credential held by the sidecar where upstreams have one",
            "in_flight": self.pipeline.gate.inside,
            "ready": self.ready(),
            "journal": {"seq": head.seq, "hash": head.hash, "segment": head.segment},
        }

    def readings(self) -> Mapping[str, Callable[[], Reading]]:
        """What `/metrics` reads at each scrape."""
        return {
            names.REVIEWS_WAITING: lambda: len(self._waiting()),
            names.REVIEWS_OLDEST_SECONDS: self._oldest,
            names.POLICY_REVISION_INFO: lambda: {(self.snapshots.current().policy_revision,): 1},
            names.NOT_ENFORCING: lambda: len(self._not_enforcing()),
            names.JOURNAL_RECORDS_TOTAL: lambda: self.journal.head.seq,
            names.JOURNAL_FREE_BYTES: lambda: shutil.disk_usage(self.settings.state).free,
        }

    def _not_enforcing(self) -> list[str]:
        return sorted(name for name, mode in self.policy_source.modes.items() if mode != "enforce")

    def _waiting(self) -> list[Review]:
        reviews = (hold.review for hold in self.store.log.state.holds.values())
        return [review for review in reviews if review.status is ReviewStatus.PENDING]

    def _oldest(self) -> float:
        now = self.pipeline.clock.now()
        return max(((now - review.requested_at).total_seconds() for review in self._waiting()), default=0.0)


async def drain(sidecar: Sidecar) -> None:
    """Unready at once, no new calls, those under way end, held ones get their answer; what is left after that is ended."""
    sidecar.pipeline.gate.closed = True
    await sidecar.listeners.stop_accepting()
    sidecar.store.reviews.release_all()
    left = await sidecar.pipeline.finish(sidecar.settings.drain)
    _log.info("drained", extra={"fields": {"ended": left}})
