"""From policy settings and folders to the revision that OPA serves: what a snapshot is prepared with (design sections 6, 10)."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import orjson

from proxy.adapters.bundle import BundleError, Sources, assemble, write
from proxy.adapters.opa import OpaPolicy
from proxy.adapters.yaml_file import load_yaml
from proxy.core.catalog import cross_check
from proxy.core.policy_data import Mentions, mentions
from proxy.core.policy_document import PolicyDataError
from proxy.core.tool import Catalog
from proxy.errors import Refusal
from proxy.ports import Clock

LOOK_EVERY = 0.02  # seconds between looks at OPA's revision after a swap
PATIENCE = 10.0  # seconds


@dataclass(slots=True, kw_only=True)
class PolicySource:
    """`settings` is policy.yaml; `output` the file that OPA reads. `started` starts OPA once the first bundle is there."""

    opa: Path
    sources: Sources
    settings: Path
    output: Path
    policy: OpaPolicy
    clock: Clock
    started: Callable[[], Awaitable[None]]
    credentials: frozenset[str]
    modes: Mapping[str, str] = field(default_factory=dict)
    warnings: Sequence[str] = ()

    async def prepare(self, catalog: Catalog, announce: Callable[[str], None]) -> str:
        """Build the bundle for this catalog, put it in place, and answer its revision once OPA serves it.

        Raises BundleError (nothing changed), or TimeoutError or Refusal policy_unavailable if OPA does not take it over in time.
        """
        document = read_policy(
            self.settings, self.sources, catalog, credentials=self.credentials, today=self.clock.now().date()
        )
        assembled = await assemble(self.opa, self.sources, document, catalog_revision=catalog.revision)
        announce(assembled.revision)
        write(assembled, self.output)
        await self.started()
        await self._served(assembled.revision)
        self.modes, self.warnings = assembled.settings["policies"], assembled.warnings
        return assembled.revision

    async def _served(self, revision: str) -> None:
        deadline = self.clock.monotonic() + PATIENCE
        while True:
            try:
                if await self.policy.warm() == revision:
                    break
            except Refusal:
                if self.clock.monotonic() >= deadline:
                    raise
            if self.clock.monotonic() >= deadline:
                raise TimeoutError("OPA did not take over the new bundle; the policy before it stays in force")
            await self.clock.sleep(LOOK_EVERY)
        strangers = await self.policy.mismatch()
        if strangers:
            raise BundleError(
                [f"policies loaded but not listed, or listed but not loaded: {', '.join(sorted(strangers))}"]
            )


def read_policy(
    settings: Path, sources: Sources, catalog: Catalog, *, credentials: frozenset[str], today: date
) -> Mapping[str, Any]:
    """The policy settings, cross-checked with the catalog. Raises BundleError with all problems, YamlError."""
    document, named = policy_settings(settings, sources)
    problems = cross_check(
        catalog,
        systems=named.systems,
        labels=named.labels,
        tools=named.tools,
        arguments=named.arguments,
        credentials=credentials,
    )
    problems += [
        f"policies/{waiver.policy}: its waiver ended on {waiver.until}; enforce it, or say anew why not"
        for waiver in named.waivers
        if waiver.until < today
    ]
    if problems:
        raise BundleError([f"{settings.name}: {problem}" for problem in problems])
    return document


def policy_settings(settings: Path, sources: Sources) -> tuple[Mapping[str, Any], Mentions]:
    """The policy settings and what they name, checked by themselves. Raises BundleError with all problems, YamlError."""
    document = load_yaml(settings)
    if not isinstance(document, Mapping):
        raise BundleError([f"{settings.name}: must be a mapping"])
    try:
        return document, mentions(document, orjson.loads((sources.schemas / "policy.json").read_bytes()))
    except PolicyDataError as error:
        raise BundleError([f"{settings.name}: {problem}" for problem in error.problems]) from None
