"""A real registry (CNCF Distribution) for tests, open or with tokens, and the push of a bundle to it."""

import asyncio
import base64
import contextlib
import subprocess
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import aiohttp
import jwt
import yaml
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from proxy.adapters.bundle_oci import MANIFEST
from tests.adapters.registry_stub import digest_of, layer_of, manifest_of
from tests.e2e.sidecar import REPO, free_ports
from tests.telemetry.certificates import make_authority

SECONDS = 20.0  # that a registry may take to answer
# The user `pod` with the password `pull-only`, as bcrypt.
PEOPLE = "pod:$2b$05$abcdefghijklmnopqrstuuA2YqJrHVCZyfMFDak5hovHEWtgzf6t6\n"
PASSWORD = "pod:pull-only"
BASIC = f"Basic {base64.b64encode(PASSWORD.encode()).decode()}"


@cache
def binary() -> str:
    """Path of the registry, got by the tool installer."""
    line = ["bash", str(REPO / "deploy" / "tools.sh"), "docker-registry"]
    found = subprocess.run(line, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr[-2000:]
    return found.stdout.strip()


@dataclass(slots=True)
class TokenService:
    """Gives who knows the password a token for what is asked, as far as that is a pull; `asked` are the scopes."""

    folder: Path
    port: int = 0
    asked: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        make_authority(self.folder)

    def config(self) -> dict[str, Any]:
        """What a registry needs to believe it."""
        where = {"realm": f"http://127.0.0.1:{self.port}/token", "service": "registry", "issuer": "tests"}
        return {"token": {**where, "rootcertbundle": str(self.folder / "ca.pem")}}

    def token(self, repository: str, *actions: str) -> str:
        """One that the registry believes."""
        certificate = x509.load_pem_x509_certificate((self.folder / "ca.pem").read_bytes())
        der = base64.b64encode(certificate.public_bytes(serialization.Encoding.DER)).decode()
        now = int(time.time())
        access = [{"type": "repository", "name": repository, "actions": list(actions)}]
        claims = {"iss": "tests", "sub": "pod", "aud": "registry", "nbf": now - 60, "iat": now, "exp": now + 300}
        key = (self.folder / "key.pem").read_text()
        return jwt.encode({**claims, "access": access}, key, algorithm="ES256", headers={"x5c": [der]})

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """One exchange."""
        scope = request.rel_url.query.get("scope", "")
        self.asked.append(scope)
        if request.headers.get("Authorization") != BASIC or not scope.endswith(":pull"):
            return web.Response(status=401)
        return web.json_response({"token": self.token(scope.split(":")[1], "pull")})


@dataclass(slots=True)
class Registry:
    """Start it, push to it, kill it. `auth` is that section of its configuration."""

    folder: Path
    auth: Mapping[str, Any] = field(default_factory=dict)
    port: int = 0
    process: subprocess.Popen[bytes] | None = None

    def address(self, name: str) -> str:
        """What a sidecar calls `repository:tag`."""
        return f"oci://127.0.0.1:{self.port}/{name}"

    async def start(self) -> None:
        """Start it and wait until it answers."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.port = next(free_ports(1))
        config = {
            "version": 0.1,
            "log": {"level": "error", "accesslog": {"disabled": True}},
            "storage": {"filesystem": {"rootdirectory": str(self.folder / "storage")}},
            "http": {"addr": f"127.0.0.1:{self.port}"},
            **({"auth": dict(self.auth)} if self.auth else {}),
        }
        (self.folder / "registry.yaml").write_text(yaml.safe_dump(config))
        with (self.folder / "registry.log").open("ab") as log:
            line = [binary(), "serve", str(self.folder / "registry.yaml")]
            self.process = subprocess.Popen(line, stdout=log, stderr=log)  # noqa: ASYNC220 - it returns at once
        end = time.monotonic() + SECONDS
        while not await self._answers():
            if self.process.poll() is not None or time.monotonic() > end:
                raise AssertionError((self.folder / "registry.log").read_text(errors="replace")[-1500:])
            await asyncio.sleep(0.02)

    async def push(self, repository: str, tag: str, content: bytes, authorization: str = "") -> str:
        """Put a bundle there, as `oras push` does; the manifest's digest."""
        headers = {"Authorization": authorization} if authorization else {}
        manifest = manifest_of(layer_of(content))
        async with aiohttp.ClientSession(f"http://127.0.0.1:{self.port}", headers=headers) as session:
            for blob in (content, b"{}"):
                async with session.post(f"/v2/{repository}/blobs/uploads/") as answer:
                    assert answer.status == 202, await answer.text()
                    place = answer.headers["Location"]
                url = f"{place}{'&' if '?' in place else '?'}digest={digest_of(blob)}"
                async with session.put(url, data=blob) as answer:
                    assert answer.status == 201, await answer.text()
            named, kind = f"/v2/{repository}/manifests/{tag}", {"Content-Type": MANIFEST}
            async with session.put(named, data=manifest, headers=kind) as answer:
                assert answer.status == 201, await answer.text()
        return digest_of(manifest)

    def kill(self) -> None:
        """End it at once."""
        if self.process is not None:
            self.process.kill()
            self.process.wait(SECONDS)
            self.process = None

    async def _answers(self) -> bool:
        with contextlib.suppress(aiohttp.ClientError):
            async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{self.port}/v2/"):
                return True
        return False


@contextlib.asynccontextmanager
async def running_registry(folder: Path, auth: Mapping[str, Any] | None = None) -> AsyncIterator[Registry]:
    """A registry that ends with the block."""
    registry = Registry(folder, auth or {})
    try:
        await registry.start()
        yield registry
    finally:
        registry.kill()


@contextlib.asynccontextmanager
async def token_service(folder: Path) -> AsyncIterator[TokenService]:
    """A token service that ends with the block."""
    service = TokenService(folder)
    runner = web.ServerRunner(web.Server(service.handle))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    service.port = runner.addresses[0][1]
    try:
        yield service
    finally:
        await runner.cleanup()
