"""A running sidecar: whether it is ready, its figures, and how it ends."""

import logging
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from proxy import __version__
from proxy.adapters.journal import Journal
from proxy.adapters.opa_process import SupervisedOpa
from proxy.adapters.opa_watchdog import OpaWatchdog
from proxy.adapters.policy_source import PolicySource
from proxy.adapters.snapshots import SnapshotKeeper
from proxy.adapters.volume import Volume
from proxy.core.review import Review, ReviewStatus
from proxy.core.stops import SCOPES
from proxy.pipeline import Pipeline
from proxy.server.listeners import Listeners
from proxy.settings import Settings
from proxy.stores import Store
from proxy.telemetry import names
from proxy.telemetry.metrics import Reading

_log = logging.getLogger("sidegate")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sidecar:
    """A running sidecar."""

    settings: Settings
    pipeline: Pipeline
    store: Store
    journal: Journal
    volume: Volume
    snapshots: SnapshotKeeper
    policy_source: PolicySource
    listeners: Listeners
    opa: SupervisedOpa | None
    watchdog: OpaWatchdog

    def ready(self) -> bool:
        """Whether calls are decided at present."""
        return self.listeners.complete and not self.pipeline.gate.closed and self._opa_up()

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
            "approvers": list(self.policy_source.approvers),
            "layers": dict(self.policy_source.layers),
            "rolled_back": self.policy_source.rolled_back,
            "not_enforcing": self._not_enforcing(),
            "warnings": list(self.policy_source.warnings),
            "registration": self.settings.registration,
            "opa": self.settings.opa.mode,
            "ports": {name: getattr(self.settings, f"{name}_port").address for name in ("agent", "review", "probe")},
            "enforcement": self._enforcement(),
            "in_flight": self.pipeline.gate.inside,
            "ready": self.ready(),
            "store": self.store.status(),
            "journal": {"seq": head.seq, "hash": head.hash, "segment": head.segment},
        }

    def unknown(self, scope: str, name: str) -> bool:
        """Whether the catalog has no such tool or system; of other scopes it cannot tell."""
        catalog = self.snapshots.current().catalog
        named: Mapping[str, Mapping[str, object]] = {"tool": catalog.tools, "system": catalog.systems}
        return scope in named and name not in named[scope]

    def readings(self) -> Mapping[str, Callable[[], Reading]]:
        """What `/metrics` reads at each scrape."""
        return {
            names.REVIEWS_WAITING: lambda: len(self._waiting()),
            names.REVIEWS_OLDEST_SECONDS: self._oldest,
            names.REVIEWS_DEADLINE_SECONDS: lambda: self.pipeline.review_ttl,
            names.POLICY_REVISION_INFO: lambda: {(self.snapshots.current().policy_revision, self._agent()): 1},
            names.CATALOG_REVISION_INFO: lambda: {(self.snapshots.current().catalog.revision, self._agent()): 1},
            names.REVISION_SKEW: self._skew,
            names.RELOAD_SUCCESSFUL: lambda: int(not (self.snapshots.failing or self._fetch_failing())),
            names.RELOAD_TIMESTAMP_SECONDS: lambda: self.snapshots.loaded_at,
            names.NOT_ENFORCING: self._not_enforcing_by_mode,
            names.OPA_UP: lambda: int(self._opa_up()),
            names.OPA_RESTARTS_TOTAL: lambda: 0 if self.opa is None else self.opa.restarts,
            names.JOURNAL_RECORDS_TOTAL: lambda: self.journal.head.seq,
            names.JOURNAL_FREE_BYTES: lambda: self.volume.free,
            names.JOURNAL_SIZE_BYTES: lambda: self.volume.size,
            names.STOPS_STANDING: self._stops,
            names.CONVERSATIONS_IN_MEMORY: lambda: self.store.in_memory,
            names.CALLS_IN_FLIGHT: lambda: self.pipeline.gate.inside,
            names.BUILD_INFO: lambda: {(__version__,): 1},
        }

    def _enforcement(self) -> Mapping[str, list[str]]:
        """Upstreams by what keeps an agent from going past the sidecar: a credential that it has not, or its good will."""
        upstreams = sorted(self.snapshots.current().catalog.upstreams.values(), key=lambda upstream: upstream.name)
        return {
            "credential": [each.name for each in upstreams if each.credential is not None],
            "cooperative": [each.name for each in upstreams if each.credential is None],
        }

    def _not_enforcing(self) -> list[str]:
        return sorted(name for name, mode in self.policy_source.modes.items() if mode != "enforce")

    def _not_enforcing_by_mode(self) -> Mapping[tuple[str, ...], float]:
        counts = Counter(self.policy_source.modes.values())
        return {(mode,): counts[mode] for mode in ("warn", "shadow")}

    def _agent(self) -> str:
        """The workload, whose pods should all have one revision; empty if the pod did not tell."""
        agent = self.settings.agent
        return "/".join(filter(None, (agent.get("namespace"), agent.get("service_account"))))

    def _opa_up(self) -> bool:
        return self.watchdog.answers and (self.opa is None or self.opa.alive)

    def _fetch_failing(self) -> bool:
        fetcher = self.policy_source.fetcher
        return fetcher is not None and fetcher.failing

    def _skew(self) -> float:
        """Whether OPA last told another revision than the one in force; an OPA that has told nothing yet is not skewed."""
        return int(self.watchdog.answer not in (None, self.snapshots.current().policy_revision))

    def _stops(self) -> Mapping[tuple[str, ...], float]:
        counts = Counter(switch["scope"] for switch in self.store.switches.values())
        return {(scope,): counts[scope] for scope in sorted(SCOPES)}

    def _waiting(self) -> list[Review]:
        """Of this pod's calls: a shared store has those of the others, who tell of them themselves."""
        own = self.settings.agent.get("pod")
        return [
            review
            for review in self.store.open_reviews()
            if review.status is ReviewStatus.PENDING and (self.settings.store is None or review.agent.pod == own)
        ]

    def _oldest(self) -> float:
        now = self.store.now()
        return max([0.0, *((now - review.requested_at).total_seconds() for review in self._waiting())])


async def drain(sidecar: Sidecar) -> None:
    """Unready at once, no new calls, those under way end, held ones get their answer; what is left after that is ended."""
    sidecar.pipeline.gate.closed = True
    await sidecar.listeners.stop_accepting()
    sidecar.store.reviews.release_all()
    left = await sidecar.pipeline.finish(sidecar.settings.drain)
    _log.info("drained", extra={"fields": {"ended": left}})
