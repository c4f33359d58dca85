"""Bundles from a URL or a registry: asked for at intervals, verified, and put into a file that is then a delivery like any other.

What is refused never replaces the file, so that the last good one outlives a restart while the server is down.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp

from proxy.adapters.archive import ArchiveError, replace, unpack
from proxy.adapters.bundle_check import BundleError
from proxy.adapters.bundle_http import Fetch, get
from proxy.adapters.bundle_oci import pull
from proxy.adapters.bundle_signature import SignatureError
from proxy.adapters.credentials import CredentialUnavailableError
from proxy.adapters.opa_cli import OpaFailedError
from proxy.adapters.plain_url import plain_url
from proxy.core.layers import LayerError
from proxy.ports import Clock

SECONDS = 10.0  # for one fetch, in all
SPREAD = 0.2  # of the interval, either way: pods that started together do not ask together
WAYS: Mapping[str, Fetch] = {"https": get, "http": get, "oci": pull}

Verify = Callable[[str, Mapping[str, bytes]], Awaitable[object]]


@dataclass(slots=True, kw_only=True)
class BundleFetcher:
    """Layers by name and URL, each fetched into `directory`. `headers` are the credential's, made anew for each request.

    `verify` raises SignatureError, LayerError or OpaFailedError; `report` gets the problems that there are, each time they change;
    `every` and `patience`, for one fetch, in seconds.
    """

    urls: Mapping[str, str]
    directory: Path
    session: aiohttp.ClientSession
    clock: Clock
    verify: Verify
    headers: Callable[[], Mapping[str, str]]
    every: float
    jitter: Callable[[], float]
    report: Callable[[Sequence[str]], None]
    patience: float = SECONDS
    _tags: dict[str, str] = field(default_factory=dict)
    _told: list[str] = field(default_factory=list)

    async def first(self) -> None:
        """Fetch all, in bounded time. Raises BundleError where a layer neither comes nor came before."""
        problems = await self._round()
        missing = [problem for name, problem in problems.items() if not self.file(name).exists()]
        if missing:
            raise BundleError(missing)
        self._tell(problems)

    async def watch(self) -> None:
        """Ask again and again. Does not end."""
        while True:
            await self.clock.sleep(self.every * (1 - SPREAD + 2 * SPREAD * self.jitter()))
            self._tell(await self._round())

    @property
    def failing(self) -> bool:
        """Whether a layer did not come, or was not taken, when it was last asked for."""
        return bool(self._told)

    def file(self, name: str) -> Path:
        """Where a layer is, once it came."""
        return self.directory / f"{name}.tar.gz"

    async def _round(self) -> dict[str, str]:
        problems = await asyncio.gather(*(self._problem(name, url) for name, url in self.urls.items()))
        return {name: why for name, why in zip(self.urls, problems, strict=True) if why is not None}

    def _tell(self, problems: Mapping[str, str]) -> None:
        told = list(problems.values())
        if told != self._told:
            self._told = told
            self.report(told)

    async def _problem(self, name: str, url: str) -> str | None:
        """Fetch one layer; why it was not taken, if it was not."""
        try:
            async with asyncio.timeout(self.patience):
                await self._fetch(name, url)
        except (ArchiveError, SignatureError, OpaFailedError, LayerError, CredentialUnavailableError) as error:
            why = str(error)
        except TimeoutError:
            why = f"did not come within {self.patience:g} s"
        except (aiohttp.ClientError, OSError, ValueError) as error:  # ValueError: of a host that cannot be one
            why = f"could not be fetched: {_cause(error)}"
        except Exception as error:  # noqa: BLE001 - whatever a server sent, it is asked again
            why = f"could not be taken over: {type(error).__name__}"
        else:
            return None
        return f"{plain_url(url)}: {why}"

    async def _fetch(self, name: str, url: str) -> None:
        known = self._tags.get(name, "") if self.file(name).exists() else ""
        came = await WAYS[urlsplit(url).scheme](self.session, url, self.headers(), known)
        if came is None:
            return
        await self.verify(name, await asyncio.to_thread(unpack, came.content))
        await asyncio.to_thread(self._keep, name, came.content)
        self._tags[name] = came.tag

    def _keep(self, name: str, content: bytes) -> None:
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        replace(self.file(name), content, mode=0o600)


def _cause(error: Exception) -> str:
    """Without the library's text, which may quote the whole URL."""
    return (
        (getattr(error, "strerror", None) or type(error).__name__)
        if isinstance(error, OSError)
        else type(error).__name__
    )
