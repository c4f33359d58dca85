"""Public keys of token issuers: JSON Web Key Sets from a file or a URL (RFC 7517), with the limits of a source that may be down."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import aiohttp
import jwt

from proxy.adapters.bundle_http import bounded
from proxy.adapters.plain_url import plain_url
from proxy.adapters.watched_file import UnusableFileError, WatchedFile
from proxy.core import strict_json
from proxy.core.claims import ALGORITHMS
from proxy.errors import Code, Refusal, Retry
from proxy.ports import Clock

MAX_KEYS = 100
MAX_BYTES = 256 * 1024
TIMEOUT = 2.0  # seconds for one fetch, in all
REFRESH_AFTER = 300.0  # seconds until keys are fetched again, so that a withdrawn key ends
BETWEEN_FETCHES = 60.0  # seconds at least between two fetches, whatever keys callers ask for
BETWEEN_FIRST_FETCHES = 5.0  # the same while there are no keys at all: the issuer may start after us
KEEP = 3600.0  # seconds that keys stay good while the issuer is down

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """One public key for one algorithm."""

    key_id: str | None
    algorithm: str
    key: jwt.PyJWK


KeySet = tuple[Key, ...]


class Keys(Protocol):
    """Where the keys of an issuer come from."""

    async def find(self, key_id: str | None, algorithm: str) -> Sequence[jwt.PyJWK]:
        """Keys that may have signed. Raises Refusal unauthenticated (to be tried later) when there are none to look in."""
        ...


class FileKeys:
    """Keys from a watched file."""

    def __init__(self, path: Path, clock: Clock) -> None:
        self._file = WatchedFile(path, parse_keys, clock)

    def check(self) -> None:
        """Raise UnusableFileError if the file cannot be used, for `sidegate check`."""
        self._file.value()

    async def find(self, key_id: str | None, algorithm: str) -> Sequence[jwt.PyJWK]:
        """See Keys."""
        try:
            return matching(self._file.value(), key_id, algorithm)
        except UnusableFileError:
            raise _unavailable() from None


class UrlKeys:
    """Keys from an issuer's endpoint. One fetch at a time, in a task of its own: a caller that hangs up ends nobody's fetch."""

    def __init__(
        self,
        url: str,
        session: aiohttp.ClientSession,
        clock: Clock,
        *,
        wait: float = TIMEOUT,
        report: Callable[[str], None] = _log.warning,
    ) -> None:
        self._url = url
        self._session = session
        self._clock = clock
        self._wait = wait
        self._report = report
        self._keys: KeySet = ()
        self._fetched: float | None = None
        self._tried: float | None = None
        self._fetch: asyncio.Task[None] | None = None

    async def find(self, key_id: str | None, algorithm: str) -> Sequence[jwt.PyJWK]:
        """See Keys. A key that is not known yet is worth a fetch, at most once a minute."""
        found = self._usable(key_id, algorithm)
        if not found or self._age() > REFRESH_AFTER:
            self._start_fetch()
        # Who has a key that is still good does not wait for a slow issuer.
        if not found and self._fetch is not None:
            await asyncio.shield(self._fetch)
            found = self._usable(key_id, algorithm)
        if not found and self._age() > KEEP:
            raise _unavailable()
        return found

    async def close(self) -> None:
        """End a fetch under way."""
        if self._fetch is not None:
            self._fetch.cancel()
            await asyncio.wait([self._fetch])

    def _usable(self, key_id: str | None, algorithm: str) -> Sequence[jwt.PyJWK]:
        return matching(self._keys, key_id, algorithm) if self._age() <= KEEP else ()

    def _age(self) -> float:
        return float("inf") if self._fetched is None else self._clock.monotonic() - self._fetched

    def _start_fetch(self) -> None:
        now = self._clock.monotonic()
        pause = BETWEEN_FIRST_FETCHES if self._age() > KEEP else BETWEEN_FETCHES
        if self._fetch is not None or (self._tried is not None and now - self._tried < pause):
            return
        self._tried = now
        self._fetch = asyncio.create_task(self._refresh(), name="fetch JWKS")

    async def _refresh(self) -> None:
        try:
            self._keys = parse_keys(await self._get())
            self._fetched = self._clock.monotonic()
        except (aiohttp.ClientError, TimeoutError, OSError) as e:
            self._report(f"keys could not be fetched from {plain_url(self._url)}: {type(e).__name__}")
        except ValueError as e:
            self._report(f"keys could not be fetched from {plain_url(self._url)}: the answer {e}")
        finally:
            self._fetch = None

    async def _get(self) -> bytes:
        request = self._session.get(
            self._url,
            allow_redirects=False,  # whoever could redirect could choose the keys
            timeout=aiohttp.ClientTimeout(total=self._wait),
            headers={"accept": "application/jwk-set+json, application/json", "accept-encoding": "identity"},
        )
        async with request as response:
            if response.status != 200:
                raise ValueError(f"has status {response.status}")
            return await bounded(response, MAX_BYTES)


def matching(keys: KeySet, key_id: str | None, algorithm: str) -> Sequence[jwt.PyJWK]:
    """The keys of that id and algorithm. A token that names no key is verified only where one key alone can be meant."""
    found = [key.key for key in keys if key.algorithm == algorithm and key_id in (None, key.key_id)]
    return found if key_id is not None or len(found) == 1 else ()


def parse_keys(content: bytes) -> KeySet:
    """Read a key set; keys of other kinds and uses are left out. Raises ValueError if none is left, or one is private."""
    try:
        document = strict_json.read_values(strict_json.write(strict_json.read_tree(content, "key set")))
    except Refusal as e:
        raise ValueError(e.message) from None
    entries = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(entries, list) or len(entries) > MAX_KEYS:
        raise ValueError(f"is not a JSON Web Key Set of at most {MAX_KEYS} keys")
    keys = tuple(key for entry in entries if isinstance(entry, dict) for key in _keys(entry))
    if not keys:
        raise ValueError("holds no public key for signatures")
    return keys


def _keys(entry: dict[str, Any]) -> list[Key]:
    if "d" in entry:
        raise ValueError("holds a private key")
    operations = entry.get("key_ops", ["verify"])
    if entry.get("use", "sig") != "sig" or not isinstance(operations, list) or "verify" not in operations:
        return []
    key_id = entry.get("kid")
    kind = (entry.get("kty"), entry.get("crv"))
    return [
        Key(key_id=key_id if isinstance(key_id, str) else None, algorithm=algorithm, key=key)
        for algorithm, meant in ALGORITHMS.items()
        if kind == meant and entry.get("alg", algorithm) == algorithm and (key := _build(entry, algorithm)) is not None
    ]


def _build(entry: dict[str, Any], algorithm: str) -> jwt.PyJWK | None:
    try:
        return jwt.PyJWK(entry, algorithm)
    except (jwt.PyJWTError, ValueError, TypeError, KeyError):
        return None  # a key that cannot be read must not take the others with it


def _unavailable() -> Refusal:
    return Refusal(
        Code.UNAUTHENTICATED,
        "the keys to verify this token are not available now",
        fix="try again later",
        retry=Retry.LATER,
    )
