"""What `check`, `policy build` and `policy test` work on: settings, catalog and policy as files, before anything runs."""

import asyncio
import shutil
from dataclasses import dataclass
from pathlib import Path

from proxy import resources
from proxy.adapters.bundle import Assembled, BundleError, Sources, assemble
from proxy.adapters.clock import SystemClock
from proxy.adapters.credentials import Credentials, CredentialUnavailableError
from proxy.adapters.policy_source import read_policy
from proxy.adapters.state_directory import UnusableError
from proxy.adapters.token_file import TokenFile
from proxy.adapters.watched_file import UnusableFileError
from proxy.adapters.yaml_file import YamlError, load_directory
from proxy.core.catalog import CatalogError, build_catalog
from proxy.core.tool import Catalog
from proxy.settings import Settings

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
        """The OPA executable: by path, on PATH, or where `deploy/tools.sh` has put it. Raises UnusableError."""
        found = shutil.which(self.settings.opa.binary) or shutil.which(
            "opa", path=str(self.settings.tools / OPA_FOLDER)
        )
        if found is None:
            raise UnusableError(
                f"there is no executable {self.settings.opa.binary} (opa.binary); "
                "`bash deploy/tools.sh opa` fetches the pinned one and prints its path"
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
        """Everything that is wrong, at once: catalog, policy, token files, credentials."""
        problems: list[str] = []
        try:
            catalog = await asyncio.to_thread(self.catalog)
        except (CatalogError, YamlError) as error:
            problems += error.problems
        else:
            problems += [f"tool {t.name}: {t.quarantined}" for t in catalog.tools.values() if t.quarantined]
            problems += await self._policy_problems(catalog)
        return problems + self._file_problems()

    async def _policy_problems(self, catalog: Catalog) -> list[str]:
        try:
            await self.assembled(catalog)
        except (BundleError, YamlError) as error:
            return list(error.problems)
        except UnusableError as error:
            return [str(error)]
        return []

    def _file_problems(self) -> list[str]:
        problems: list[str] = []
        clock = SystemClock()
        for tokens in (self.settings.tokens, self.settings.reviewers):
            if tokens.file is not None:
                try:
                    TokenFile(tokens.file, clock).check()
                except UnusableFileError as error:
                    problems.append(str(error))
        try:
            credentials = Credentials(self.settings.credentials, self.settings.variables, clock, problems.append)
            for name in self.settings.credentials:
                credentials.get(name)
        except (ValueError, CredentialUnavailableError) as error:
            problems.append(str(error))
        return problems
