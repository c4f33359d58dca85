"""A pod on one machine: the agent's, the proxy's and OPA's containers as the chart renders them, and upstreams outside.

The image is the real one (`image.py`), the manifest one of helm/examples, the kubelet ours (`kubelet.py`). Tests speak to the
sidecar from inside the pod's network with the clients of tests/e2e/rig.py.
"""

import asyncio
import contextlib
import copy
import json
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tests.e2e.rig import Rig
from tests.pod import image
from tests.pod.debian import cache
from tests.pod.kubelet import Container, Kubelet
from tests.pod.manifest import Facts, Picture
from tests.pod.networks import Cable
from tests.pod.outside import TOKEN, UPSTREAM_PORT, Outside, bracketed, session_in
from tests.pod.volumes import Volumes

REPO = Path(__file__).parents[2]
EXAMPLES = REPO / "helm" / "examples"
PORTS = {"agent": 8900, "review": 8902, "probe": 8901}
AGENT_IMAGE = "registry.example/buyer-agent:1"
_BUNDLES: dict[tuple[str, str], bytes] = {}  # by catalog and policy: a build takes seconds, and most pods have the same


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What a test wants of its pod: the example, how the agent runs, changed settings, address families, kind of workload."""

    example: str = "example-agent"
    agent: tuple[str, ...] = ("serve",)
    settings: dict[str, Any] = field(default_factory=dict)
    families: str = "46"
    job: bool = False


class PodRig(Rig):
    """Use `pod_rig()`. `kubelet` runs the pod, `cable` its networks; calls, reviews and records as in tests/e2e/rig.py."""

    wanted: Wanted
    cable: Cable
    kubelet: Kubelet
    upstream: Outside
    pod: dict[str, Any]

    def url(self, port: str) -> str:
        """The sidecar as it is seen from inside the pod; the probe port stands on the pod's address."""
        host = self.cable.pod_address if port == "probe" else ("::1" if self.cable.families == "6" else "127.0.0.1")
        return f"http://{bracketed(host)}:{PORTS[port]}"

    @property
    def configs(self) -> dict[str, dict[str, bytes]]:
        """The cluster's ConfigMaps; `kubelet.volumes.sync()` brings a change into the pod."""
        return self.kubelet.volumes.configs

    @property
    def sidegate(self) -> Container:
        """The proxy's container."""
        return self.kubelet.containers["sidegate"]

    async def start(self) -> None:
        """The pod, until its last container has started."""
        await self.kubelet.start()

    async def ready(self) -> bool:
        """Whether the kubelet calls the pod ready."""
        return self.kubelet.ready

    @property
    def pid(self) -> int:
        """Of the proxy."""
        return self.sidegate.pid

    def log(self) -> str:
        """What all containers have said."""
        if not hasattr(self, "kubelet"):
            return ""
        return "".join(f"--- {name}\n{one.said()[-1500:]}" for name, one in self.kubelet.containers.items())

    def agent_said(self) -> list[dict[str, Any]]:
        """The lines of the agent in its container."""
        lines = self.kubelet.containers["agent"].said().splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    def as_agent(self, text: str) -> "subprocess.CompletedProcess[str]":
        """A Python program run by the agent's user in the agent's container."""
        return self.kubelet.execute("agent", ["/opt/sidegate/bin/python", "-c", text])

    def put_catalog(self) -> None:
        """The catalog as it stands, into its ConfigMap."""
        self.configs[self._names["catalog"]] = {"tools.yaml": self._catalog_text().encode()}

    def put_policy(self) -> None:
        """The policy as it stands, built if the example takes a bundle, into its ConfigMap."""
        text = yaml.safe_dump(self.policy, sort_keys=False).encode()
        delivered = "bundle" in self.settings
        self.configs[self._names["policy"]] = {"policy.tar.gz": self.bundle()} if delivered else {"policy.yaml": text}

    def bundle(self) -> bytes:
        """The policy as `sidegate policy build` delivers it; the same of many pods is built once."""
        catalog, policy = self._catalog_text(), yaml.safe_dump(self.policy, sort_keys=False)
        if (catalog, policy) not in _BUNDLES:
            _BUNDLES[catalog, policy] = bundle_of(self.folder / "delivery", catalog, policy)
        return _BUNDLES[catalog, policy]

    def _catalog_text(self) -> str:
        text = yaml.safe_dump(self.catalog, sort_keys=False)
        host = bracketed(self.cable.node_address)
        return text.replace("127.0.0.1:{upstream}", f"{host}:{UPSTREAM_PORT}").replace(
            "credential: api\n", "credential: crm\n"
        )

    @property
    def _names(self) -> dict[str, str]:
        """ConfigMaps and Secrets by the volume that they are mounted from."""
        named = {}
        for volume in self.pod["spec"]["volumes"]:
            source = volume.get("configMap") or volume.get("secret") or {}
            named[volume["name"].removeprefix("sidegate-")] = source.get("name") or source.get("secretName", "")
        return named

    def prepare_pod(self, wanted: Wanted) -> None:
        """Manifest, images, objects, kubelet."""
        self.wanted = wanted
        self.pod, self.settings = manifest_of(wanted)
        self.settings["opa"] = {**self.settings.get("opa", {}), "deadline": "10s"}  # the machine may be busy
        self.settings |= wanted.settings
        built = image.build()
        images = pictures(built, self.folder, wanted)
        self.catalog["upstreams"].pop("in-agent")
        self.catalog["tools"] = [entry for entry in self.catalog["tools"] if entry["upstream"] != "in-agent"]
        self.catalog["systems"].pop("desktop")
        self.policy["grants"]["systems"].pop("desktop")
        facts = Facts(ip=self.cable.pod_address, secrets={}, configs={})
        volumes = Volumes(folder=self.folder / "volumes", pod=self.pod, facts=facts)
        self.kubelet = Kubelet(
            pod=self.pod,
            images=images,
            facts=facts,
            volumes=volumes,
            network=self.cable.pod,
            node=self.cable.node,
            folder=self.folder,
            restarts=not wanted.job,
        )
        self._agent_environment()
        names = self._names
        volumes.secrets[names["tokens"]] = {"tokens.yaml": (self.folder / "tokens.yaml").read_bytes()}
        volumes.secrets[names["reviewers"]] = {"reviewers.yaml": (self.folder / "reviewers.yaml").read_bytes()}
        volumes.secrets[names["credential-crm"]] = {"token": TOKEN.encode()}
        self.put_settings()
        self.put_catalog()
        self.put_policy()
        # From here on `settings["state"]` says where the tests find the journal.
        self.settings["state"] = str(self.folder / "volumes" / "sidegate-state" / "state")

    def put_settings(self) -> None:
        """The settings as they stand, into their ConfigMap."""
        self.configs[self._names["settings"]] = {"sidegate.yaml": yaml.safe_dump(self.settings).encode()}

    def _agent_environment(self) -> None:
        (agent,) = self.pod["spec"]["containers"]
        ours = [{"name": "USER_TOKEN", "value": self.users["ada"]}]
        if self.cable.families == "6":
            ours.append({"name": "SIDEGATE_URL", "value": self.url("agent")})
        elif not agent.get("env"):
            ours.append({"name": "SIDEGATE_URL", "value": "http://127.0.0.1:8900"})
        agent["env"] = [*agent.get("env", []), *ours]


def bundle_of(folder: Path, catalog: str, policy: str) -> bytes:
    """A bundle, built as a pipeline builds it: by the command, in a folder of its own."""
    (folder / "catalog").mkdir(parents=True, exist_ok=True)
    (folder / "catalog" / "tools.yaml").write_text(catalog)
    (folder / "policy.yaml").write_text(policy)
    (folder / "token").write_text("for the build only")
    (folder / "token").chmod(0o600)
    own: dict[str, Any] = {"state": "state", "catalog": "catalog", "policy": "policy.yaml"}
    own["credentials"] = {"crm": {"bearer_file": "token"}}
    (folder / "sidegate.yaml").write_text(yaml.safe_dump(own))
    words = ["policy", "build", "--settings", str(folder / "sidegate.yaml"), "--output", str(folder / "out.tar.gz")]
    done = subprocess.run(
        [sys.executable, "-m", "proxy.cli", *words], cwd=REPO, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return (folder / "out.tar.gz").read_bytes()


def manifest_of(wanted: Wanted) -> tuple[dict[str, Any], dict[str, Any]]:
    """The pod of an example of the chart, with the tests' agent in it, and its settings."""
    documents = [d for d in yaml.safe_load_all((EXAMPLES / f"{wanted.example}.yaml").read_text()) if d]
    by_kind = {document["kind"]: document for document in documents}
    pod = by_kind["Deployment"]["spec"]["template"] if "Deployment" in by_kind else by_kind["PodTemplate"]["template"]
    pod = copy.deepcopy(pod)
    (agent,) = pod["spec"]["containers"]
    agent["image"] = AGENT_IMAGE
    settings = next(d["data"]["sidegate.yaml"] for d in documents if "sidegate.yaml" in d.get("data", {}))
    return pod, yaml.safe_load(settings)


def pictures(built: image.Image, folder: Path, wanted: Wanted) -> dict[str, Picture]:
    """Image names of the examples -> what they stand for here: ours, OPA's with its one program, and the agent's."""
    opa = cache() / "opa"
    for place in ("proc", "dev", "tmp", "etc"):
        (opa / place).mkdir(parents=True, exist_ok=True)
    binary = subprocess.run(["bash", "deploy/tools.sh", "opa"], cwd=REPO, capture_output=True, text=True, check=True)
    if not (opa / "opa").exists():
        shutil.copy(binary.stdout.strip(), opa / "opa.draft")
        (opa / "opa.draft").rename(opa / "opa")
    program = built.root / "usr" / "local" / "share" / "agent.py"
    shutil.copy(Path(__file__).parent / "agent.py", program)
    argv = ["/opt/sidegate/bin/python", "/usr/local/share/agent.py", *wanted.agent]
    return {
        "registry.example/sidegate:0.1.0": Picture(root=built.root, config=built.config),
        "openpolicyagent/opa:1.22.2-static": Picture(root=opa, config={"Entrypoint": ["/opa"]}),
        AGENT_IMAGE: Picture(root=built.root, config={"Entrypoint": argv}),
    }


@contextlib.asynccontextmanager
async def pod_rig(folder: Path, wanted: Wanted | None = None) -> AsyncIterator[PodRig]:
    """A prepared pod with its upstream; the test starts it. Every process, namespace and mount is gone afterwards."""
    wanted = wanted or Wanted()
    cable, upstream = Cable(families=wanted.families), Outside()
    async with contextlib.AsyncExitStack() as stack:
        stack.callback(cable.close)
        cable.lay()
        await upstream.listen(cable.node, cable.node_address)
        stack.push_async_callback(upstream.stop)
        session = await stack.enter_async_context(session_in(cable.pod))
        made = PodRig(folder, upstream, session)
        made.cable = cable
        made.prepare()
        await asyncio.to_thread(made.prepare_pod, wanted)
        stack.push_async_callback(made.kubelet.close)
        yield made
