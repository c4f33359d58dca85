"""What `check`, `policy build` and `policy test` work on: settings, catalog and policy as files, before anything runs."""

import asyncio
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from proxy import resources
from proxy.adapters.bundle import Assembled, BundleError, Sources, assemble
from proxy.adapters.clock import SystemClock
from proxy.adapters.credentials import Credentials, CredentialUnavailableError
from proxy.adapters.opa_directory import OpaDirectory
from proxy.adapters.policy_source import policy_settings, read_policy
from proxy.adapters.state_directory import UnusableError
from proxy.adapters.verifiers import attestations, verifier
from proxy.adapters.watched_file import UnusableFileError
from proxy.adapters.yaml_file import YamlError, load_directory
from proxy.core.catalog import CatalogError, build_catalog
from proxy.core.tool import Catalog
from proxy.settings import Opa, Settings, Tokens

OPA_FOLDER = "opa-1.22.2"


@dataclass(slots=True)
class Workshop:
    """Reads everything that the settings name, and collects what is wrong with it."""

    settings: Settings

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
        return build_catalog(documents, today=SystemClock().now().date())

    async def assembled(self, catalog: Catalog) -> Assembled:
        """The bundle, checked. Raises BundleError with all problems."""
        document = read_policy(
            self.settings.policy,
            self.sources,
            catalog,
            credentials=frozenset(self.settings.credentials),
            today=SystemClock().now().date(),
        )
        return await assemble(self.opa(), self.sources, document, catalog_revision=catalog.revision)

    async def problems(self) -> list[str]:
        """Everything that is wrong, at once: catalog, policy, token files, keys, credentials."""
        problems: list[str] = []
        try:
            catalog = await asyncio.to_thread(self.catalog)
        except (CatalogError, YamlError) as error:
            problems += [*error.problems, *self._settings_problems()]
        else:
            problems += [f"tool {t.name}: {t.quarantined}" for t in catalog.tools.values() if t.quarantined]
            problems += await self._policy_problems(catalog)
        problems += [*await self._token_problems(), *self._credential_problems()]
        if self.settings.opa.mode == "supervised" and (why := OpaDirectory(self.settings.state / "opa").problem()):
            problems.append(f"state: {why}")
        return list(dict.fromkeys(problems))

    async def _policy_problems(self, catalog: Catalog) -> list[str]:
        try:
            await self.assembled(catalog)
        except (BundleError, YamlError) as error:
            return list(error.problems)
        except UnusableError as error:
            return [str(error)]
        return []

    def _settings_problems(self) -> list[str]:
        """What can be said of the policy while there is no catalog to compare it with."""
        try:
            policy_settings(self.settings.policy, self.sources)
            self.opa()
        except (BundleError, YamlError) as error:
            return list(error.problems)
        except UnusableError as error:
            return [str(error)]
        return []

    async def _token_problems(self) -> list[str]:
        """Each token file and issuer by itself, then all of a port together, as `serve` takes them."""
        problems: list[str] = []
        clock = SystemClock()
        async with aiohttp.ClientSession() as session:
            for port, part in self._token_parts():
                try:
                    verifier(part, session, clock)
                except ValueError as error:  # UnusableFileError is one
                    problems.append(f"{port}: {error}")
        try:
            attestations(self.settings, clock)
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
                given = Credentials({name: fields}, self.settings.variables, SystemClock(), problems.append)
                given.get(name)
            except (ValueError, CredentialUnavailableError) as error:
                problems.append(str(error))
        return problems
