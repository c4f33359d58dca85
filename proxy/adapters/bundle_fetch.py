"""Bundles from a URL: asked for at intervals, verified, and put into a file that is then a delivery like any other.

What is refused never replaces the file, so that the last good one outlives a restart while the server is down.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp

from proxy.adapters.archive import PACKED, ArchiveError, replace, unpack
from proxy.adapters.bundle_check import BundleError
from proxy.adapters.bundle_signature import SignatureError
from proxy.adapters.credentials import CredentialUnavailableError
from proxy.adapters.opa_cli import OpaFailedError
from proxy.core.layers import LayerError
from proxy.ports import Clock

SECONDS = 10.0  # for one fetch, in all
SPREAD = 0.2  # of the interval, either way: pods that started together do not ask together
_LONGEST_TAG = 1024

Verify = Callable[[str, Mapping[str, bytes]], Awaitable[object]]


@dataclass(slots=True, kw_only=True)
class BundleFetcher:
    """Layers by name and URL, each fetched into `directory`. `headers` are the credential's, made anew for each request.

    `verify` raises SignatureError, LayerError or OpaFailedError; `report` gets the problems that there are, each time they change;
    `every` in seconds.
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
            async with asyncio.timeout(SECONDS):
                await self._fetch(name, url)
        except (ArchiveError, SignatureError, OpaFailedError, LayerError, CredentialUnavailableError) as error:
            why = str(error)
        except TimeoutError:
            why = f"did not come within {SECONDS:g} s"
        except (aiohttp.ClientError, OSError) as error:
            why = f"could not be fetched: {_cause(error)}"
        else:
            return None
        return f"{_plain(url)}: {why}"

    async def _fetch(self, name: str, url: str) -> None:
        headers = {"Accept-Encoding": "identity", **self.headers()}
        if self.file(name).exists() and name in self._tags:
            headers["If-None-Match"] = self._tags[name]
        # No redirect: whoever could redirect would be sent the credential.
        async with self.session.get(url, headers=headers, allow_redirects=False) as answer:
            if answer.status == 304:
                return
            if answer.status != 200:
                raise ArchiveError(f"the server answered with status {answer.status}")
            content = await _bounded(answer)
        await self.verify(name, await asyncio.to_thread(unpack, content))
        await asyncio.to_thread(self._keep, name, content)
        self._tags.pop(name, None)
        tag = answer.headers.get("ETag", "")
        if 0 < len(tag) <= _LONGEST_TAG:
            self._tags[name] = tag

    def _keep(self, name: str, content: bytes) -> None:
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        replace(self.file(name), content, mode=0o600)


async def _bounded(answer: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    async for chunk in answer.content.iter_chunked(65536):
        body += chunk
        if len(body) > PACKED:
            raise ArchiveError(f"is larger than {PACKED} bytes")
    return bytes(body)


def _plain(url: str) -> str:
    """A URL without what may be secret in it."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.hostname}{f':{parts.port}' if parts.port else ''}{parts.path}"


def _cause(error: Exception) -> str:
    """Without the library's text, which may quote the whole URL."""
    return (
        (getattr(error, "strerror", None) or type(error).__name__)
        if isinstance(error, OSError)
        else type(error).__name__
    )
