"""deploy/compose.yaml, played: its services as Compose would start them, with its users, mounts, settings and order, by the rig's
containers and networks. No engine runs here, so these are not real: the images of store and Jaeger (a Redis of this machine takes
the store's arguments; there is no Jaeger), bridges and published ports (the desk is asked inside its own network)."""

import asyncio
import contextlib
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from proxy.adapters.token_file import token_line
from tests.e2e.redis_server import binary
from tests.e2e.sidecar import REPO
from tests.e2e.upstream import echo
from tests.e2e.world import CATALOG, POLICY, TOOLS
from tests.pod import image
from tests.pod.container import Spec
from tests.pod.kernel import Network
from tests.pod.networks import Cable
from tests.pod.outside import UPSTREAM_PORT, Outside, session_in
from tests.pod.rig import Wanted, pictures

COMPOSE: dict[str, Any] = yaml.safe_load((REPO / "deploy" / "compose.yaml").read_text())
OWNERS = {
    "run": (26500, 26500, 0o770),
    "store": (26502, 26500, 0o770),
}  # by the image's folder, by the volume's options
SIDECAR, DESK = "http://127.0.0.1:8900", "https://127.0.0.1:8902"
PATIENCE = 30.0  # seconds
CALLS: dict[str, dict[str, Any]] = {
    "get_stock": {"sku": "S"},
    "create_order": {"sku": "S", "quantity": 1000},
    "get_price": {"sku": "S"},
}


@dataclass(slots=True, kw_only=True)
class Engine:
    """What Compose and an engine do with the file, as far as the services here need it."""

    folder: Path
    networks: dict[str, Network]
    running: dict[str, "subprocess.Popen[bytes]"] = field(default_factory=dict)

    def start(self, name: str) -> "subprocess.Popen[bytes]":
        """A service's container."""
        made = self._command(name, None)
        with (self.folder / f"{name}.log").open("ab") as log:
            self.running[name] = subprocess.Popen(made, cwd=REPO, stdout=log, stderr=log)
        return self.running[name]

    def healthy(self, name: str) -> bool:
        """One health check, in the service's container."""
        assert self.running[name].poll() is None, self.said(name)
        test = COMPOSE["services"][name]["healthcheck"]["test"]
        assert test[0] == "CMD"
        return subprocess.run(self._command(name, test[1:]), cwd=REPO, capture_output=True, check=False).returncode == 0

    def said(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text(errors="replace")[-2000:]

    def close(self) -> None:
        for process in self.running.values():
            process.kill()
            process.wait()

    def _command(self, name: str, argv: list[str] | None) -> list[str]:
        service = COMPOSE["services"][name]
        built = image.build()
        opa = pictures(built, self.folder, Wanted())["openpolicyagent/opa:1.22.2-static"].root
        root, entry = (opa, ["/opa"]) if name == "opa" else (built.root, built.config["Entrypoint"])
        uid, gid = map(int, service["user"].split(":"))
        mounts = [*self._mounts(name, service)]
        for source, place, _ in mounts:
            target = root / place.lstrip("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            if not target.exists():
                target.mkdir() if Path(source).is_dir() else target.touch()
        own = {} if name == "opa" else dict(pair.split("=", 1) for pair in built.config["Env"])
        spec = Spec(
            root=str(root),
            network=self.networks.get(name, self.networks["none"]).path,
            argv=argv or [*entry, *service["command"]],
            env=own | service.get("environment", {}),
            uid=uid,
            gid=gid,
            groups=[],
            mounts=mounts,
        )
        return [sys.executable, "-m", "tests.pod.container", spec.text()]

    def _mounts(self, name: str, service: dict[str, Any]) -> Iterator[tuple[str, str, bool]]:
        for volume in service.get("volumes", ()):
            if isinstance(volume, dict):
                yield volume["source"].replace("${SIDEGATE_FILES:-./local}", str(self.folder)), volume["target"], False
            else:
                source, _, place = volume.partition(":")
                yield str(self.volume(source, *OWNERS.get(source, (26500, 26500, 0o700)))), place, True
        for text in service.get("tmpfs", ()):
            place = text.split(":")[0]
            made = self.volume(f"{name}{place.replace('/', '-')}", 26500, 26500, 0o1777 if "1777" in text else 0o700)
            yield str(made), place, True
        for config in service.get("configs", ()):
            file = COMPOSE["configs"][config["source"]]["file"]
            yield str((REPO / "deploy" / file).resolve()), config["target"], False
        for secret in service.get("secrets", ()):
            file = COMPOSE["secrets"][secret]["file"].replace("${SIDEGATE_FILES:-./local}", str(self.folder))
            yield file, f"/run/secrets/{secret}", False

    def volume(self, name: str, uid: int, gid: int, mode: int) -> Path:
        """A named volume, made once."""
        place = self.folder / "volumes" / name
        if not place.exists():
            place.mkdir(parents=True)
            shutil.chown(place, uid, gid)
            place.chmod(mode)
        return place


async def until(holds: Callable[[], bool], what: Callable[[], str]) -> None:
    """Poll; a deadline that passes is a failure with the service's words."""
    end = time.monotonic() + PATIENCE
    while not await asyncio.to_thread(holds):
        assert time.monotonic() < end, what()
        await asyncio.sleep(0.05)


def write_files(folder: Path, upstream: str) -> tuple[str, str]:
    """What the head of compose.yaml asks for, readable for group 26500; a user's and a reviewer's token."""
    user, users = token_line(subject="ada", name="Ada", tenant="acme", roles=("buyer",))
    reviewer, reviewers = token_line(subject="rob", name="Rob", tenant="acme", roles=("sourcing-leads",))
    api = {"http": {"base_url": upstream}, "owner": "platform-team"}
    tools = [entry for entry in TOOLS if entry["upstream"] == "api"]
    catalog = {**CATALOG, "upstreams": {"api": api}, "tools": tools}
    two = {**POLICY["combination"][0], "marks": ["system:inventory", "system:pricing"]}
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "desk")])
    made = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(1)
    now = datetime.now(UTC)
    signed = made.not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    files = {
        "catalog/tools.yaml": yaml.safe_dump(catalog).encode(),
        "policy.yaml": yaml.safe_dump({**POLICY, "combination": [two]}).encode(),
        "tokens.yaml": users.encode(),
        "reviewers.yaml": reviewers.encode(),
        "mac.key": bytes(range(32)),
        "desk.crt": signed.sign(key, hashes.SHA256()).public_bytes(pem),
        "desk.key": private,
    }
    (folder / "catalog").mkdir()
    for file, content in files.items():
        (folder / file).write_bytes(content)
        (folder / file).chmod(0o640)
        shutil.chown(folder / file, 0, 26500)
    return user, reviewer


def start_store(engine: Engine) -> Path:
    """A Redis of this machine with the service's own arguments; its socket, in the volume that the others mount."""
    place, data = engine.volume("store", 26502, 26500, 0o770), engine.volume("store-data", 26502, 26500, 0o700)
    words = [
        word.replace("/run/store", str(place)).replace("/data", str(data))
        for word in COMPOSE["services"]["store"]["command"]
    ]
    engine.running["store"] = subprocess.Popen([binary("redis-server"), *words], stdout=subprocess.DEVNULL)
    return place / "store.sock"


async def ask(
    session: aiohttp.ClientSession, method: str, url: str, body: Any = None, **headers: str
) -> tuple[int, Any]:
    """One request; status and JSON. The desk's certificate is its own, so it is not checked here."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    async with session.request(method, url, json=body, headers=named, ssl=False) as response:
        return response.status, await response.json(content_type=None)


async def started(engine: Engine) -> None:
    """Every service after those that it depends on."""
    assert await asyncio.to_thread(engine.start("policy").wait, PATIENCE) == 0, engine.said("policy")
    engine.start("opa")
    socket = start_store(engine)
    await until(socket.exists, lambda: "the store has no socket")
    shutil.chown(socket, 26502, 26500)  # it runs as root here
    for name in ("sidegate", "desk"):
        engine.start(name)
    for name in ("sidegate", "desk"):
        await until(lambda name=name: engine.healthy(name), lambda name=name: engine.said(name))  # type: ignore[misc]  # bound


async def test_a_call_is_allowed_one_denied_and_one_held_and_answered_at_the_desk() -> None:
    """From `docker compose up` to the approved call, with another person at another process."""
    folder = Path(tempfile.mkdtemp(prefix="sg-", dir="/tmp"))
    folder.chmod(0o755)  # noqa: ASYNC240 - it returns at once
    async with contextlib.AsyncExitStack() as stack:
        stack.callback(shutil.rmtree, folder)
        ours, desks, none, upstream = Cable(families="4"), Cable(families="4"), Network(), Outside()
        for closed in (ours, desks, none):
            stack.callback(closed.close)
        ours.lay()
        desks.lay()
        await upstream.listen(ours.node, ours.node_address)
        stack.push_async_callback(upstream.stop)
        upstream.answer = echo
        user, reviewer = write_files(folder, f"http://{ours.node_address}:{UPSTREAM_PORT}")
        engine = Engine(folder=folder, networks={"sidegate": ours.pod, "desk": desks.pod, "none": none})
        stack.callback(engine.close)
        await started(engine)
        agent = await stack.enter_async_context(session_in(ours.pod))
        desk = await stack.enter_async_context(session_in(desks.pod))
        status, put = await ask(
            agent, "PUT", f"{SIDECAR}/v1/conversations/c1", {"text": "x"}, authorization=f"Bearer {user}"
        )
        assert status == 200, put
        found = {}
        for name, arguments in CALLS.items():
            body = {"id": name, "tool": name, "arguments": arguments}
            found[name] = await ask(
                agent, "POST", f"{SIDECAR}/v1/tool-calls", body, x_sidegate_conversation=put["handle"]
            )
        assert {name: (status, answer["status"]) for name, (status, answer) in found.items()} == {
            "get_stock": (200, "done"),
            "create_order": (403, "refused"),
            "get_price": (409, "pending"),
        }
        bearer = f"Bearer {reviewer}"
        _, waiting = await ask(desk, "GET", f"{DESK}/v1/reviews", authorization=bearer)
        (review,) = waiting["reviews"] if isinstance(waiting, dict) else waiting
        yes = f"{DESK}/v1/reviews/{review['id']}/approve"
        _, shown = await ask(desk, "GET", f"{DESK}/v1/reviews/{review['id']}", authorization=bearer)
        status, answer = await ask(desk, "POST", yes, {"digest": shown["digest"]}, authorization=bearer)
        assert status == 200, answer
        body = {"id": "again", "tool": "get_price", "arguments": CALLS["get_price"]}
        status, answer = await ask(
            agent, "POST", f"{SIDECAR}/v1/tool-calls", body, x_sidegate_conversation=put["handle"]
        )
        assert (status, answer["status"]) == (200, "done")
        assert [request.target for request in upstream.received] == ["/stock/S", "/prices/S"]
