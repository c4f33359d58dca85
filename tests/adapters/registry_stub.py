"""A registry on loopback that answers each path as it is told, and notes what it was asked."""

import contextlib
import hashlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from proxy.adapters.bundle_oci import LAYER, MANIFEST
from proxy.core.oci_reference import Reference, read_reference

Answer = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


def digest_of(content: bytes) -> str:
    """As a registry names it."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


CONFIG = {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": digest_of(b"{}"), "size": 2}


def layer_of(content: bytes, **changed: Any) -> dict[str, Any]:
    """A layer's descriptor."""
    return {"mediaType": LAYER, "digest": digest_of(content), "size": len(content), **changed}


def manifest_of(*layers: Mapping[str, Any], **changed: Any) -> bytes:
    """An image manifest with these layers."""
    return json.dumps(
        {"schemaVersion": 2, "mediaType": MANIFEST, "config": CONFIG, "layers": layers, **changed}
    ).encode()


def saying(status: int = 200, body: bytes = b"", **headers: str) -> Answer:
    """The same answer every time; `Content_Type` and the like are headers."""

    async def answer(_: web.BaseRequest) -> web.Response:
        return web.Response(status=status, body=body, headers={k.replace("_", "-"): v for k, v in headers.items()})

    return answer


@dataclass(slots=True)
class StubRegistry:
    """`answers` by path, or by method and path; everything else is not there."""

    port: int = 0
    answers: dict[str, Answer] = field(default_factory=dict)
    asked: list[web.BaseRequest] = field(default_factory=list)

    @property
    def url(self) -> str:
        """Of the server."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def address(self) -> str:
        """Of the bundle that it holds."""
        return f"oci://127.0.0.1:{self.port}/team/p:stable"

    @property
    def reference(self) -> Reference:
        """The same, read."""
        return read_reference(self.address)

    @property
    def lines(self) -> list[str]:
        """What it was asked, in order."""
        return [f"{request.method} {request.rel_url.path}" for request in self.asked]

    def hold(self, content: bytes, manifest: bytes | None = None, kind: str = MANIFEST) -> str:
        """Hold this layer under the tag and its digest; the manifest's digest."""
        manifest = manifest_of(layer_of(content)) if manifest is None else manifest
        shown = saying(body=manifest, Content_Type=kind, Docker_Content_Digest=digest_of(manifest))
        self.answers[f"/v2/team/p/blobs/{digest_of(content)}"] = saying(body=content)
        self.answers["/v2/team/p/manifests/stable"] = shown
        self.answers[f"/v2/team/p/manifests/{digest_of(manifest)}"] = shown
        return digest_of(manifest)

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request."""
        self.asked.append(request)
        path = request.rel_url.path
        return await self.answers.get(f"{request.method} {path}", self.answers.get(path, saying(404)))(request)


@contextlib.asynccontextmanager
async def stub_registry() -> AsyncIterator[StubRegistry]:
    """A running one, on a free port."""
    stub = StubRegistry()
    runner = web.ServerRunner(web.Server(stub.handle))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    stub.port = runner.addresses[0][1]
    try:
        yield stub
    finally:
        await runner.cleanup()
