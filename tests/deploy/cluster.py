"""A real Kubernetes API server on loopback: etcd and kube-apiserver as deploy/tools.sh builds them. No kubelet, no controllers:
objects are stored, defaulted, validated and admitted as in a cluster, and nothing runs."""

import contextlib
import json
import os
import signal
import ssl
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from tests.e2e.sidecar import free_ports

REPO = Path(__file__).parents[2]
TOKEN = "the-admin-of-a-throwaway-cluster"
ISSUER = "https://kubernetes.default.svc"
START_SECONDS = 90.0
Json = dict[str, Any]


class ApiError(Exception):
    """What the API server refused: status and its sentence."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status
        self.message = message


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """Address and credentials of a running API server."""

    url: str
    folder: Path

    @property
    def kubeconfig(self) -> Path:
        return self.folder / "kubeconfig"

    def ask(self, method: str, path: str, body: Mapping[str, Any] | None = None, *, group: str = "") -> Json:
        """One request as admin, or as somebody of a group. Raises ApiError."""
        data = None if body is None else json.dumps(body).encode()
        kind = "application/strategic-merge-patch+json" if method == "PATCH" else "application/json"
        headers = {"authorization": f"Bearer {TOKEN}", "content-type": kind}
        if group:
            headers |= {"impersonate-user": "somebody", "impersonate-group": group}
        request = urllib.request.Request(f"{self.url}{path}", data=data, method=method, headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=30, context=_unverified()) as answer:
                found: Json = json.load(answer)
        except urllib.error.HTTPError as e:
            text = e.read().decode()
            with contextlib.suppress(ValueError, KeyError):
                text = json.loads(text)["message"]
            raise ApiError(e.code, text) from None
        return found

    def create(self, path: str, body: Mapping[str, Any]) -> Json:
        return self.ask("POST", path, body)

    def patch(self, path: str, body: Mapping[str, Any]) -> Json:
        return self.ask("PATCH", path, body)

    def namespace(self, name: str, *, level: str = "restricted") -> None:
        """A namespace whose pods have to meet a Pod Security level."""
        labels = {"pod-security.kubernetes.io/enforce": level}
        self.create("/api/v1/namespaces", {"metadata": {"name": name, "labels": labels}})

    def pod(self, namespace: str, body: Mapping[str, Any], *, dry: bool = True) -> Json:
        """The pod as the API server would store it, after all admission. Raises ApiError."""
        query = "?dryRun=All" if dry else ""
        return self.create(f"/api/v1/namespaces/{namespace}/pods{query}", body)

    def injects(self, namespace: str, pod: Mapping[str, Any]) -> bool:
        """Whether the pod comes out with init containers. Until injection is in force the guard refuses it."""
        with contextlib.suppress(ApiError):
            return bool(self.pod(namespace, pod)["spec"].get("initContainers"))
        return False

    def helm(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        environment = os.environ | {"KUBECONFIG": str(self.kubeconfig), "HOME": str(self.folder)}
        return subprocess.run(
            [tool("helm"), *arguments], env=environment, capture_output=True, text=True, timeout=120, check=False
        )


@cache
def tool(name: str) -> str:
    """The path of a pinned tool, which is built first where it is not there."""
    script = REPO / "deploy" / "tools.sh"
    found = subprocess.run(["bash", str(script), name], stdout=subprocess.PIPE, text=True, check=True)
    return found.stdout.strip()


def _unverified() -> ssl.SSLContext:
    # The server makes its own certificate at each start; it is asked on loopback only.
    return ssl._create_unverified_context()


@contextlib.contextmanager
def running(folder: Path) -> Iterator[Cluster]:
    """A cluster of one API server, empty. Everything of it lies in `folder`; both processes end with the block."""
    client, peer, secure = free_ports(3)
    key, tokens = folder / "sa.key", folder / "tokens.csv"
    subprocess.run(["openssl", "genrsa", "-out", str(key), "2048"], check=True, capture_output=True)
    tokens.write_text(f"{TOKEN},admin,admin,system:masters\n")
    store = f"http://127.0.0.1:{client}"
    etcd = [
        tool("etcd"),
        *("--data-dir", str(folder / "etcd"), "--unsafe-no-fsync", "--log-level", "error"),
        *("--listen-client-urls", store, "--advertise-client-urls", store),
        *(
            "--listen-peer-urls",
            f"http://127.0.0.1:{peer}",
            "--initial-advertise-peer-urls",
            f"http://127.0.0.1:{peer}",
        ),
        *("--initial-cluster", f"default=http://127.0.0.1:{peer}"),
    ]
    server = [
        tool("kube-apiserver"),
        *("--etcd-servers", store, "--secure-port", str(secure), "--bind-address", "127.0.0.1"),
        *("--cert-dir", str(folder / "certs"), "--service-account-key-file", str(key)),
        *("--service-account-signing-key-file", str(key), "--service-account-issuer", ISSUER),
        *("--token-auth-file", str(tokens), "--authorization-mode", "RBAC"),
        *("--service-cluster-ip-range", "10.0.0.0/24", "--disable-admission-plugins", "ServiceAccount"),
    ]
    cluster = Cluster(url=f"https://127.0.0.1:{secure}", folder=folder)
    _write_kubeconfig(cluster)
    with _process(etcd, folder / "etcd.log"), _process(server, folder / "apiserver.log") as process:
        _until_ready(cluster, process, folder / "apiserver.log")
        yield cluster


def _write_kubeconfig(cluster: Cluster) -> None:
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": {"server": cluster.url, "insecure-skip-tls-verify": True}}],
        "users": [{"name": "u", "user": {"token": TOKEN}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
    cluster.kubeconfig.write_text(json.dumps(document))
    cluster.kubeconfig.chmod(0o600)


@contextlib.contextmanager
def _process(command: list[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as out:
        # In a group of its own, and killed with its parent: a test run that is killed leaves nothing behind.
        process = subprocess.Popen(["setpriv", "--pdeathsig", "KILL", *command], stdout=out, stderr=out)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()


def _until_ready(cluster: Cluster, process: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        with contextlib.suppress(OSError, ApiError, ValueError):
            request = urllib.request.Request(f"{cluster.url}/readyz", headers={"authorization": f"Bearer {TOKEN}"})
            with urllib.request.urlopen(request, timeout=2, context=_unverified()):
                return
        threading.Event().wait(0.1)
    raise AssertionError(f"the API server did not become ready:\n{log.read_text()[-3000:]}")
