"""What the sidecar says of itself, in its log and its journal."""

import contextlib
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from proxy.adapters.journal import Journal
from proxy.core.tool import Snapshot
from proxy.errors import Refusal

_log = logging.getLogger("sidegate")


def log_of_opa(line: Mapping[str, str]) -> None:
    """A line that OPA logged, at its own level."""
    level = logging.getLevelNamesMapping().get(line.get("level", "").upper(), logging.INFO)
    fields = {key: value for key, value in line.items() if key not in {"level", "msg"}}
    _log.log(level, "opa: %s", line.get("msg", ""), extra={"fields": fields})


def reporter(journal: Journal) -> Callable[[Sequence[str]], None]:
    """What is said of a reload that failed: each sentence in the log, all of them in the journal."""

    def report(sentences: Sequence[str]) -> None:
        for sentence in sentences:
            _log.error("catalog or policy was not taken over; the one before stays in force: %s", sentence)
        if sentences:
            with contextlib.suppress(Refusal):
                journal.append({"kind": "reload", "failed": True, "problems": list(sentences)[:20]})

    return report


class InForce(Protocol):
    """What is known of the policy in force: PolicySource."""

    @property
    def modes(self) -> Mapping[str, str]: ...

    @property
    def layers(self) -> Mapping[str, str]: ...

    @property
    def rolled_back(self) -> Mapping[str, str] | None: ...


def taken_over(snapshot: Snapshot, policy: InForce, journal: Journal) -> None:
    """What is said of a catalog and policy that came into force."""
    record = {
        "kind": "reload",
        "revision": snapshot.revision,
        "policies": dict(policy.modes),
        "layers": dict(policy.layers),
        "rolled_back": policy.rolled_back,
    }
    _log.info("catalog and policy are in force", extra={"fields": record})
    with contextlib.suppress(Refusal):
        journal.append(record)
