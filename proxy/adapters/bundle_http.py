"""One layer from a web server: asked for by its ETag, read in bounds."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import aiohttp

from proxy.adapters.archive import PACKED, ArchiveError

_LONGEST_TAG = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """A layer's bytes, not verified yet, and the tag by which the same is known next time; empty if the server gives none."""

    content: bytes
    tag: str


class Fetch(Protocol):
    """A way to a layer."""

    async def __call__(
        self, session: aiohttp.ClientSession, address: str, headers: Mapping[str, str], known: str
    ) -> Delivery | None:
        """What is there; None if it is what came as `known` (empty: nothing came). `headers` are the credential's.

        Raises ArchiveError with a sentence that continues the address, and what aiohttp raises.
        """
        ...


async def get(session: aiohttp.ClientSession, address: str, headers: Mapping[str, str], known: str) -> Delivery | None:
    """See Fetch."""
    asked = {"Accept-Encoding": "identity", **headers, **({"If-None-Match": known} if known else {})}
    # No redirect: whoever could redirect would be sent the credential.
    async with session.get(address, headers=asked, allow_redirects=False) as answer:
        if answer.status == 304:
            return None
        if answer.status != 200:
            raise ArchiveError(f"the server answered with status {answer.status}")
        tag = answer.headers.get("ETag", "")
        return Delivery(content=await bounded(answer, PACKED), tag=tag if len(tag) <= _LONGEST_TAG else "")


async def bounded(answer: aiohttp.ClientResponse, most: int, what: str = "") -> bytes:
    """The body of an answer, of so many bytes at most. Raises ArchiveError."""
    body = bytearray()
    async for chunk in answer.content.iter_chunked(65536):
        body += chunk
        if len(body) > most:
            raise ArchiveError(f"{what}is larger than {most} bytes")
    return bytes(body)
