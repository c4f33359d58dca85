"""What the settings name, made ready: catalog, policy and OPA as files, for `check` and `policy` and for the start of `serve`."""

import asyncio
import logging
import random
import shutil
import tempfile
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import aiohttp

from proxy import resources
from proxy.adapters.bundle import Assembled, BundleError, Sources
from proxy.adapters.bundle_check import Checks
from proxy.adapters.bundle_fetch import BundleFetcher
from proxy.adapters.clock import SystemClock
from proxy.adapters.credentials import Credentials, CredentialUnavailableError
from proxy.adapters.opa import OpaPolicy
from proxy.adapters.opa_directory import OpaDirectory
from proxy.adapters.policy_history import PolicyHistory
from proxy.adapters.policy_origin import BundleOrigin, FolderOrigin, Origin, policy_document, read_verified
from proxy.adapters.policy_source import PolicyBuilder, PolicySource, put
from proxy.adapters.state_directory import UnusableError, make_private
from proxy.adapters.verifiers import attestations, verifier
from proxy.adapters.watched_file import UnusableFileError
from proxy.adapters.yaml_file import YamlError, load_directory
from proxy.core.catalog import CatalogError, build_catalog
from proxy.core.tool import Catalog
from proxy.ports import Clock
from proxy.settings import Opa, Settings, Tokens

_log = logging.getLogger(__name__)

OPA_FOLDER = "opa-1.22.2"


@dataclass(slots=True)
class Workshop:
    """Reads everything that the settings name, and collects what is wrong with it."""

    settings: Settings
    fetch_into: Path | None = None  # where layers that have a URL are; by default in the state directory
    clock: Clock = field(default_factory=SystemClock)

    @property
    def sources(self) -> Sources:
        """Policy folders: ours and the deployer's."""
        return Sources(shipped=resources.rego(), own=self.settings.policy_folders)

    def opa(self) -> Path:
        """The OPA executable that the settings name; unless they do, `opa` on PATH or where `deploy/tools.sh` has put it.

        Raises UnusableError.
        """
        binary = self.settings.opa.binary
        found = shutil.which(binary)
        if found is None and binary == Opa().binary:
            found = shutil.which(binary, path=str(self.settings.tools / OPA_FOLDER))
        if found is None:
            raise UnusableError(
                f"there is no executable {binary} (opa.binary): put OPA on PATH or name it there; "
                "in a checkout of Sidegate, `bash deploy/tools.sh opa` fetches the pinned one and prints its path"
            )
        return Path(found)

    def catalog(self) -> Catalog:
        """Raises CatalogError or YamlError with all problems."""
        documents = load_directory(self.settings.catalog)
        if not documents:
            raise YamlError([f"{self.settings.catalog}: has no .yaml or .yml file"])
        return build_catalog(documents, today=self.clock.now().date())

    @property
    def keeping(self) -> Path:
        """Where policies that were in force are kept, and those that were fetched."""
        return self.settings.state / "policy"

    def origin(self, apart: frozenset[str] = frozenset()) -> Origin:
        """Where policy comes from. Raises UnusableError without an OPA."""
        bundle = self.settings.bundle
        if bundle is None:
            return FolderOrigin(settings=self.settings.policy, sources=self.sources, apart=apart)
        fetched = self._fetched
        files = {
            name: fetched / f"{name}.tar.gz" if name in bundle.urls else Path(place)
            for name, place in bundle.layers.items()
        }
        return BundleOrigin(opa=self.opa(), shipped=self.sources.shipped, files=files, key=bundle.key)

    def builder(self, *, memory: bool = True, apart: frozenset[str] = frozenset()) -> PolicyBuilder:
        """What makes bundles. `memory`: those found in order before are not checked again. Raises UnusableError."""
        return PolicyBuilder(
            checks=Checks(
                opa=self.opa(), shipped=self.sources.shipped, memory=self.keeping / "checked.json" if memory else None
            ),
            origin=self.origin(apart),
            history=self.history,
            credentials=frozenset(self.settings.credentials),
            key=self.settings.bundle.key if self.settings.bundle is not None else None,
        )

    @property
    def history(self) -> PolicyHistory:
        """The policies that were in force."""
        return PolicyHistory(self.keeping)

    async def installed(self) -> Assembled:
        """Put in place what OPA reads, before any OPA runs. Raises BundleError, YamlError, CatalogError, UnusableError."""
        make_private(self.settings.state)
        catalog = await asyncio.to_thread(self.catalog)
        await self.fetched()
        made = await self.builder().build(catalog, today=self.clock.now().date())
        await put(made.assembled, self.output)
        return made.assembled

    def source(self, policy: OpaPolicy, started: Callable[[], Awaitable[None]]) -> PolicySource:
        """What a snapshot is prepared with. Raises UnusableError."""
        return PolicySource(
            builder=self.builder(), output=self.output, policy=policy, clock=self.clock, started=started
        )

    @property
    def _fetched(self) -> Path:
        return self.fetch_into or self.keeping / "fetched"

    @property
    def output(self) -> Path:
        """The file that OPA reads."""
        return self.settings.opa.bundle or self.settings.state / "bundle" / "policy.tar.gz"

    def fetcher(self, session: aiohttp.ClientSession, report: Callable[[Sequence[str]], None]) -> BundleFetcher | None:
        """Who fetches the layers that have a URL; None if none has. Raises UnusableError, ValueError."""
        bundle = self.settings.bundle
        if bundle is None or not bundle.urls:
            return None
        opa, shipped = self.opa(), self.sources.shipped
        given = Credentials(self.settings.credentials, self.settings.variables, self.clock, _log.warning)

        def headers() -> dict[str, str]:
            credential = given.get(bundle.credential)
            return {} if credential is None else {credential.header: credential.value.reveal()}

        return BundleFetcher(
            urls=bundle.urls,
            directory=self._fetched,
            session=session,
            clock=self.clock,
            verify=lambda name, members: read_verified(name, members, opa, shipped, bundle.key),
            headers=headers,
            every=bundle.every,
            jitter=random.random,
            report=report,
        )

    async def fetched(self) -> None:
        """Fetch the layers that have a URL, once. Raises BundleError where one neither comes nor came before, UnusableError."""
        async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as session:
            fetcher = self.fetcher(session, _warn)
            if fetcher is not None:
                await fetcher.first()

    async def assembled(self, catalog: Catalog, apart: frozenset[str] = frozenset()) -> Assembled:
        """The bundle of the source's policy, checked; `apart`: teams that deliver theirs. Raises BundleError with all problems,
        YamlError, UnusableError."""
        await self.fetched()
        builder = self.builder(memory=False, apart=apart)
        return await builder.of_source(catalog, today=self.clock.now().date())

    async def problems(self) -> list[str]:
        """Everything that is wrong, at once: catalog, policy, token files, keys, credentials."""
        problems: list[str] = []
        try:
            catalog = await asyncio.to_thread(self.catalog)
        except (CatalogError, YamlError) as error:
            problems += [*error.problems, *await self._settings_problems()]
        else:
            problems += [f"tool {t.name}: {t.quarantined}" for t in catalog.tools.values() if t.quarantined]
            problems += await self._policy_problems(catalog)
        problems += [*await self._token_problems(), *self._credential_problems()]
        if self.settings.opa.mode == "supervised" and (why := OpaDirectory(self.settings.state / "opa").problem()):
            problems.append(f"state: {why}")
        return list(dict.fromkeys(problems))

    async def _policy_problems(self, catalog: Catalog) -> list[str]:
        """What is fetched for this goes to a place of its own: a check writes nothing."""
        with tempfile.TemporaryDirectory(prefix="sidegate-check-") as name:
            try:
                await replace(self, fetch_into=Path(name)).assembled(catalog)
            except (BundleError, YamlError) as error:
                return list(error.problems)
            except (UnusableError, ValueError) as error:
                return [str(error)]
        return []

    async def _settings_problems(self) -> list[str]:
        """What can be said of the policy while there is no catalog to compare it with."""
        try:
            if self.settings.bundle is None:
                policy_document(self.settings.policy, self.sources)
                self.opa()
            elif not self.settings.bundle.urls:
                await self.origin().content()
        except (BundleError, YamlError) as error:
            return list(error.problems)
        except UnusableError as error:
            return [str(error)]
        return []

    async def _token_problems(self) -> list[str]:
        """Each token file and issuer by itself, then all of a port together, as `serve` takes them."""
        problems: list[str] = []
        async with aiohttp.ClientSession() as session:
            for port, part in self._token_parts():
                try:
                    verifier(part, session, self.clock)
                except ValueError as error:  # UnusableFileError is one
                    problems.append(f"{port}: {error}")
        try:
            attestations(self.settings, self.clock)
        except UnusableFileError as error:
            problems.append(f"attestation: {error}")
        return problems

    def _token_parts(self) -> Iterator[tuple[str, Tokens]]:
        for port, tokens in (("tokens", self.settings.tokens), ("reviewers", self.settings.reviewers)):
            yield port, Tokens(file=tokens.file)
            yield from ((port, Tokens(issuers=(issuer,))) for issuer in tokens.issuers)
            yield port, tokens

    def _credential_problems(self) -> list[str]:
        problems: list[str] = []
        for name, fields in self.settings.credentials.items():
            try:
                given = Credentials({name: fields}, self.settings.variables, self.clock, problems.append)
                given.get(name)
            except (ValueError, CredentialUnavailableError) as error:
                problems.append(str(error))
        return problems


def _warn(problems: Sequence[str]) -> None:
    for problem in problems:
        _log.warning("%s", problem)
