"""One layer from an OCI registry: the one layer of an image manifest, as OPA's own downloader takes it (OCI distribution spec 1.1).

A poll that finds the known digest ends with a HEAD, a digest in the address with nothing at all. The credential goes to the
registry and to the token service that it names, never to where it redirects.
"""

import hashlib
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
import orjson

from proxy.adapters.archive import PACKED, ArchiveError
from proxy.adapters.bundle_http import Delivery, bounded
from proxy.adapters.oci_token import exchanged, led_to
from proxy.core.oci_reference import DIGEST, Reference, read_reference

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
LARGEST_MANIFEST = 64 * 1024  # bytes; one with one layer has 500
_INDEXES = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
_REDIRECTS = (301, 302, 303, 307, 308)
_MEANT = {
    401: ": it does not take the credential (`bundle.credential`), or wants one",
    403: ": the credential (`bundle.credential`) may not pull from this repository",
    404: ": it has no such repository, tag or digest, or does not show it without a credential",
    429: ": it is asked too often; raise `bundle.every`, or show it a credential",
}


async def pull(session: aiohttp.ClientSession, address: str, headers: Mapping[str, str], known: str) -> Delivery | None:
    """See Fetch. The tag is the manifest's digest."""
    reference = read_reference(address)
    repository = _Repository(session=session, reference=reference, headers=dict(headers))
    if known and known == (reference.wanted if reference.pinned else await repository.digest()):
        return None
    manifest = await repository.manifest()
    digest = _sha256(manifest)
    if reference.pinned and digest != reference.wanted:
        raise ArchiveError("its manifest is not the one of this digest: it was changed, or damaged under way")
    if digest == known:
        return None
    layer, size = the_layer(manifest)
    content = await repository.blob(layer, size)
    if _sha256(content) != layer:
        raise ArchiveError("its layer is not the one of its digest: it was changed, or damaged under way")
    return Delivery(content=content, tag=digest)


def the_layer(manifest: bytes) -> tuple[str, int]:
    """Digest and size of an image manifest's one layer. Raises ArchiveError."""
    try:
        said = orjson.loads(manifest)
    except orjson.JSONDecodeError:
        said = None
    if not isinstance(said, dict) or said.get("mediaType", MANIFEST) != MANIFEST or "manifests" in said:
        raise ArchiveError("its manifest is no OCI image manifest inside; push it again")
    layers = said.get("layers")
    if not isinstance(layers, list) or len(layers) != 1 or not isinstance(layers[0], dict):
        count = len(layers) if isinstance(layers, list) else 0
        raise ArchiveError(f"has {count} layers; push the bundle's .tar.gz alone, as one layer of the type {LAYER}")
    return _described(layers[0])


def _described(layer: Mapping[str, Any]) -> tuple[str, int]:
    kind, digest, size = layer.get("mediaType"), layer.get("digest"), layer.get("size")
    if kind != LAYER:
        raise ArchiveError(f"its layer has the type {_shown(kind)}; push the bundle as {LAYER}")
    if not isinstance(digest, str) or DIGEST.fullmatch(digest) is None:
        raise ArchiveError("its layer has no sha256 digest")
    if not isinstance(size, int) or isinstance(size, bool) or not 0 < size <= PACKED:
        raise ArchiveError(f"its layer must have a size of at most {PACKED} bytes")
    return digest, size


@dataclass(slots=True, kw_only=True)
class _Repository:
    """One repository for one pull: `headers` are the credential's, and a token's once the credential was exchanged for it."""

    session: aiohttp.ClientSession
    reference: Reference
    headers: dict[str, str]
    challenged: bool = False

    async def digest(self) -> str:
        """What the registry says that the tag names; empty if it does not say."""
        async with self._asked("HEAD", f"manifests/{self.reference.wanted}", MANIFEST) as answer:
            return answer.headers.get("Docker-Content-Digest", "") if answer.status == 200 else ""

    async def manifest(self) -> bytes:
        """An image manifest."""
        async with self._asked("GET", f"manifests/{self.reference.wanted}", MANIFEST) as answer:
            _check(answer)
            kind = answer.headers.get("Content-Type", "").partition(";")[0].strip()
            if kind in _INDEXES:
                raise ArchiveError("is an index of several images; push the bundle by itself, as one image manifest")
            if kind != MANIFEST:
                raise ArchiveError(f"is of the type {_shown(kind)}; push the bundle as an OCI image manifest")
            return await bounded(answer, LARGEST_MANIFEST, "its manifest ")

    async def blob(self, digest: str, size: int) -> bytes:
        """What is stored under a digest, here or where the registry says, which is told no credential."""
        async with self._asked("GET", f"blobs/{digest}", "*/*") as answer:
            if answer.status not in _REDIRECTS:
                _check(answer)
                return await bounded(answer, size, "its layer ")
            place = led_to(answer.url, answer.headers.get("Location", ""), self.reference)
        if place is None:
            raise ArchiveError("the registry redirects its layer to where there is no https; it was not followed")
        asked = {"Accept-Encoding": "identity"}
        async with self.session.get(place, headers=asked, allow_redirects=False) as answer:
            if answer.status != 200:
                raise ArchiveError(f"the place that its layer is redirected to answered with status {answer.status}")
            return await bounded(answer, size, "its layer ")

    @asynccontextmanager
    async def _asked(self, method: str, path: str, accept: str) -> AsyncIterator[aiohttp.ClientResponse]:
        """An answer; where the credential has to be exchanged for a token first, that is done, once."""
        async with self._request(method, path, accept) as answer:
            if answer.status != 401 or self.challenged:
                yield answer
                return
            challenges = answer.headers.getall("WWW-Authenticate", [])
            self.challenged = True
            headers = await exchanged(self.session, self.reference, challenges, self.headers)
            if headers is None:
                yield answer
                return
        self.headers = headers
        async with self._request(method, path, accept) as answer:
            yield answer

    def _request(self, method: str, path: str, accept: str) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        asked = {"Accept": accept, "Accept-Encoding": "identity", **self.headers}
        # Only a layer's redirect is followed, and by hand: whoever could redirect would be sent the credential.
        return self.session.request(method, f"{self.reference.base}/{path}", headers=asked, allow_redirects=False)


def _check(answer: aiohttp.ClientResponse) -> None:
    if answer.status != 200:
        raise ArchiveError(f"the registry answered with status {answer.status}{_MEANT.get(answer.status, '')}")


def _sha256(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def _shown(kind: object) -> str:
    return ascii(kind)[:100] if isinstance(kind, str) else "none"
