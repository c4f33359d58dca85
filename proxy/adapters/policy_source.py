"""From policy to the revision that OPA serves: what a snapshot is prepared with (design sections 6, 10)."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

from proxy.adapters.bundle import Assembled, BundleError, PolicyContent, Sources, bind, policy_schema, write
from proxy.adapters.bundle_check import Checks
from proxy.adapters.bundle_fetch import BundleFetcher
from proxy.adapters.opa import OpaPolicy
from proxy.adapters.policy_history import Pin, PolicyHistory
from proxy.adapters.policy_origin import Origin
from proxy.adapters.state_directory import UnusableError
from proxy.core.catalog import cross_check
from proxy.core.policy_data import approvers_of, mentions, places
from proxy.core.tool import Catalog
from proxy.errors import Refusal
from proxy.ports import Clock

LOOK_EVERY = 0.02  # seconds between looks at OPA's revision after a swap
PATIENCE = 10.0  # seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """A bundle that is ready, what it was made from, and the rollback that it is, if it is one."""

    assembled: Assembled
    source: str
    pin: Pin | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyBuilder:
    """Makes the bundle for a catalog: of the source's policy, or of the one that an operator went back to."""

    checks: Checks
    origin: Origin
    history: PolicyHistory
    credentials: frozenset[str]
    key: Path | None = None

    async def build(self, catalog: Catalog, *, today: date) -> Built:
        """What is to be in force now. Raises BundleError with all problems, YamlError."""
        source = await asyncio.to_thread(self.origin.digest)
        pin = self.history.pin()
        if pin is None or pin.source != source:  # the source has moved on since, which ends a rollback
            return Built(assembled=await self.of_source(catalog, today=today), source=source, pin=None)
        content = await asyncio.to_thread(self.history.content, pin, self.key, self._schema())
        assembled = await self._bound(content, f"policy gone back to by {pin.by}", catalog, today)
        return Built(assembled=assembled, source=source, pin=pin)

    async def of_source(self, catalog: Catalog, *, today: date) -> Assembled:
        """The source's policy, whatever an operator went back to. Raises BundleError with all problems, YamlError."""
        return await self._bound(await self.origin.content(), self.origin.name(), catalog, today)

    async def _bound(self, content: PolicyContent, name: str, catalog: Catalog, today: date) -> Assembled:
        problems = policy_problems(content.document, self._schema(), catalog, credentials=self.credentials, today=today)
        if problems:
            raise BundleError([f"{name}: {problem}" for problem in problems])
        return await bind(content, self.checks, catalog_revision=catalog.revision)

    def _schema(self) -> Mapping[str, Any]:
        return policy_schema(Sources(shipped=self.checks.shipped))


@dataclass(slots=True, kw_only=True)
class PolicySource:
    """`output` is the file that OPA reads. `started` starts OPA once the first bundle is there."""

    builder: PolicyBuilder
    output: Path
    policy: OpaPolicy
    clock: Clock
    started: Callable[[], Awaitable[None]]
    modes: Mapping[str, str] = field(default_factory=dict)
    approvers: Sequence[str] = ()
    warnings: Sequence[str] = ()
    layers: Mapping[str, str] = field(default_factory=dict)
    rollback: Pin | None = None
    fetcher: BundleFetcher | None = None  # where layers have URLs
    _accepted: Assembled | None = field(default=None, init=False, repr=False)  # the last that OPA served as it should

    @property
    def rolled_back(self) -> Mapping[str, str] | None:
        """Who went back to the policy in force, and when; None for the source's own."""
        return None if self.rollback is None else {"by": self.rollback.by, "at": self.rollback.at}

    @property
    def watched(self) -> tuple[Path, ...]:
        """Files and folders whose change asks for another look: the source's, and the word of an operator who goes back."""
        return (*self.builder.origin.watched, self.builder.history.pin_file)

    async def prepare(self, catalog: Catalog, announce: Callable[[str], None]) -> str:
        """Build the bundle for this catalog, put it in place, and answer its revision once OPA serves it.

        Raises BundleError (the policy before is in its place), or TimeoutError or Refusal policy_unavailable if OPA does not take
        it over in time, as it may yet do.
        """
        built = await self.builder.build(catalog, today=self.clock.now().date())
        assembled = built.assembled
        announce(assembled.revision)
        await put(assembled, self.output)
        await self.started()
        await self._served(assembled.revision)
        self._accepted = assembled
        self.modes, self.layers, self.rollback = assembled.settings["policies"], assembled.layers, built.pin
        self.approvers = sorted(approvers_of(assembled.settings))
        self.warnings = (*assembled.warnings, *await asyncio.to_thread(self._noted, built))
        return assembled.revision

    def _noted(self, built: Built) -> Sequence[str]:
        """Keep it for a rollback. That it cannot be kept is no reason against a policy that is in force already."""
        history, at = self.builder.history, self.clock.now().isoformat(timespec="seconds")
        try:
            history.installed(built.assembled, source=built.source, key=self.builder.key, at=at, pin=built.pin)
            if built.pin is None:
                history.end_pin()
        except OSError as error:
            return [f"the policy could not be kept for a rollback: {error}"]
        return []

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
                raise TimeoutError(
                    "OPA has not taken over the new bundle yet; until it does, the policy before it decides"
                )
            await self.clock.sleep(LOOK_EVERY)
        strangers = await self.policy.mismatch()
        if strangers:
            said = f"policies loaded but not listed, or listed but not loaded: {', '.join(sorted(strangers))}"
            raise BundleError([said, *await self._put_back()])

    async def _put_back(self) -> list[str]:
        """The policy before, where OPA already serves one that is refused. Until OPA has it, and if it cannot be, nothing is
        decided: the refused revision is unknown to us."""
        try:
            if self._accepted is not None:
                await put(self._accepted, self.output)
        except UnusableError as error:
            return [f"the policy before it could not be put back, so no call is decided: {error}"]
        return []


async def put(assembled: Assembled, output: Path) -> None:
    """Rename the bundle into the place where OPA reads it. Raises UnusableError."""
    try:
        await asyncio.to_thread(write, assembled, output)
    except OSError as error:
        raise UnusableError(f"{output}, the bundle that OPA reads, cannot be written: {error.strerror}") from None


def policy_problems(
    document: Mapping[str, Any],
    schema: Mapping[str, Any],
    catalog: Catalog,
    *,
    credentials: frozenset[str],
    today: date,
) -> list[str]:
    """What is wrong with valid policy settings beside this catalog, today."""
    named = mentions(document, schema)
    problems = cross_check(
        catalog,
        systems=named.systems,
        labels=named.labels,
        tools=named.tools,
        arguments=named.arguments,
        bounds=named.bounds,
        credentials=credentials,
        places=places(document),
    )
    return [
        *problems,
        *(
            f"policies/{waiver.policy}: its waiver ended on {waiver.until}; enforce it, or say anew why not"
            for waiver in named.waivers
            if waiver.until < today
        ),
    ]
