"""README's page for platform teams, done on a real API server with the real Helm: installed, injected, and in order."""

import base64
import os
import shlex
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.cluster import Cluster, running, tool
from tests.e2e.readme_page import BLOCKS, REPO, Shell, shell, until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
DIGEST = f"sha256:{'a' * 64}"
# `kubectl create` as kubectl makes the objects: a file that is no UTF-8 goes into binaryData.
KUBECTL = """#!{python}
import base64, pathlib, sys
sys.path.insert(0, {repo!r})
from tests.deploy.cluster import Cluster
words = sys.argv[1:]
namespace = words[1] if words[0] == "-n" else ""
verb, kind, *rest = words[2:] if namespace else words
assert verb == "create", words
api = Cluster(url={url!r}, folder=pathlib.Path({folder!r})).create
if kind == "namespace":
    api("/api/v1/namespaces", {{"metadata": {{"name": rest[0]}}}})
    sys.exit()
assert kind == "configmap" or (kind, rest.pop(0)) == ("secret", "generic"), words
name, option = rest
key, _, place = option.removeprefix("--from-file=").rpartition("=")
path = pathlib.Path(place)
files = sorted(path.iterdir()) if path.is_dir() else [path]
body = {{"metadata": {{"name": name}}, "data": {{}}}}
for file in files:
    content, called = file.read_bytes(), key or file.name
    try:
        text = content.decode()
    except UnicodeDecodeError:
        text = None
    if kind == "secret" or text is None:
        place = body["data"] if kind == "secret" else body.setdefault("binaryData", {{}})
        place[called] = base64.b64encode(content).decode()
    else:
        body["data"][called] = text
api(f"/api/v1/namespaces/{{namespace}}/{{kind}}s", body)
"""
Json = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Platform:
    """A cluster that README's page was followed on."""

    cluster: Cluster
    shell: Shell

    def get(self, kind: str, name: str) -> Json:
        return self.cluster.ask("GET", f"/api/v1/namespaces/agents/{kind}/{name}")

    def pod(self) -> Json:
        """README's pod with what README leaves out of it: a name and an image."""
        pod: Json = yaml.safe_load(BLOCKS["inject"])
        pod["metadata"]["name"] = "agent"
        pod["spec"]["containers"][0]["image"] = "registry.example/agent:1"
        return pod


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """A folder that `sidegate init` made, with README's tools in its catalog; then the block."""
    folder = tmp_path_factory.mktemp("platform")
    with running(tmp_path_factory.mktemp("cluster")) as cluster:
        program = KUBECTL.format(python=sys.executable, repo=str(REPO), url=cluster.url, folder=str(cluster.folder))
        commands = {"kubectl": program, "helm": f'#!/bin/sh\nexec {shlex.quote(tool("helm"))} "$@"\n'}
        variables = {"KUBECONFIG": str(cluster.kubeconfig), "HOME": str(cluster.folder), **cached()}
        with shell(folder, {"sha256:...": DIGEST}, variables, commands) as opened:
            opened.type("mkdir my-sidecar && cd my-sidecar && sidegate init --preset guarded-writes")
            opened.copy("tool")
            opened.copy("install")
            yield Platform(cluster=cluster, shell=opened)


def cached() -> dict[str, str]:
    """The tools' cache, wherever HOME is."""
    caches = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return {"SIDEGATE_CACHE": os.environ.get("SIDEGATE_CACHE") or f"{caches}/sidegate"}


def test_what_readme_makes_is_in_the_cluster(platform: Platform) -> None:
    """The two ConfigMaps and Secrets that the values name; the bundle as binary data."""
    assert set(platform.get("configmaps", "catalog")["data"]) >= {"crm.yaml"}
    assert set(platform.get("configmaps", "platform-policy")["binaryData"]) == {"policy.tar.gz"}
    assert set(platform.get("secrets", "sidegate-users")["data"]) == {"tokens.yaml"}
    assert set(platform.get("secrets", "sidegate-reviewers")["data"]) == {"reviewers.yaml"}
    assert platform.get("podtemplates", "sidegate")["kind"] == "PodTemplate"
    assert "STATUS: deployed" in platform.shell.said["install"]


def test_a_pod_as_readme_writes_it_comes_out_with_the_sidecar(platform: Platform) -> None:
    """In the order that README names; traces and the journal's copy are on."""
    until(lambda: platform.cluster.injects("agents", platform.pod()), "the sidecar is injected")
    stored = platform.cluster.pod("agents", platform.pod())
    before = stored["spec"]["initContainers"]
    assert [one["name"] for one in before] == ["sidegate-install", "sidegate-opa", "sidegate"]
    variables = {each["name"]: each.get("value") for each in before[-1]["env"]}
    assert variables["OTEL_EXPORTER_OTLP_ENDPOINT"] == "http://collector.observability.svc:4318"
    assert "--set=distributed_tracing.address=collector.observability.svc:4318" in before[1]["args"]
    settings = yaml.safe_load(platform.get("configmaps", "agents-sidegate")["data"]["sidegate.yaml"])
    assert settings["audit_copy"] is True
    assert 0.89 * 2**30 < int(str(variables["SIDEGATE_LIMITS__STATE_BYTES"])) <= 0.9 * 2**30  # of the chart's 1Gi


def test_what_helm_test_runs_finds_it_in_order(platform: Platform, tmp_path: Path) -> None:
    """`sidegate check` with the files that its pod mounts, as the API server has them."""
    rendered = yaml.safe_load_all(platform.shell.type("helm get hooks agents --namespace agents"))
    (pod,) = [document["spec"] for document in rendered if document and document["kind"] == "Pod"]
    (check,) = pod["containers"]
    for mount in check["volumeMounts"]:
        (volume,) = [volume for volume in pod["volumes"] if volume["name"] == mount["name"]]
        mounted(platform, volume, tmp_path / mount["mountPath"].lstrip("/"))
    settings = tmp_path / check["args"][-1].lstrip("/")
    text = settings.read_text()
    for place in ("/etc/sidegate", "/run/sidegate", "/var/lib/sidegate"):
        text = text.replace(place, f"{tmp_path}{place}")
    settings.write_text(text)
    said = platform.shell.type(shlex.join(["sidegate", *check["args"][:-1], str(settings)]))
    assert "in order" in said


def mounted(platform: Platform, volume: Json, folder: Path) -> None:
    """What a kubelet would put there."""
    folder.mkdir(parents=True)
    if "configMap" in volume:
        found = platform.get("configmaps", volume["configMap"]["name"])
        for name, text in found.get("data", {}).items():
            (folder / name).write_text(text)
    elif "secret" in volume:
        found = {"binaryData": platform.get("secrets", volume["secret"]["secretName"])["data"]}
    else:
        return
    for name, content in found.get("binaryData", {}).items():
        (folder / name).write_bytes(base64.b64decode(content))


def test_credential_and_network_policy_come_in_by_the_second_block(platform: Platform) -> None:
    """Levels two and three: the Secret is mounted, the egress is what the block names and DNS."""
    (platform.shell.folder / "my-sidecar" / "crm.token").write_text("a-credential")
    assert "STATUS: deployed" in platform.shell.copy("enforce")
    settings = yaml.safe_load(platform.get("configmaps", "agents-sidegate")["data"]["sidegate.yaml"])
    assert settings["credentials"] == {"crm": {"bearer_file": "/etc/sidegate/credentials/crm/token"}}
    assert base64.b64decode(platform.get("secrets", "crm-token")["data"]["token"]) == b"a-credential"
    path = "/apis/networking.k8s.io/v1/namespaces/agents/networkpolicies/agents-sidegate"
    ports = [port["port"] for rule in platform.cluster.ask("GET", path)["spec"]["egress"] for port in rule["ports"]]
    assert ports == [53, 53, 8080, 4318]


@pytest.mark.parametrize(
    ("values", "reached"),
    [("review: {tlsSecret: certificate}", "[$(POD_IP)]:8902"), ("mode: single", None)],
    ids=["by the pod's address", "by a port-forward"],
)
def test_the_review_port_stands_where_readme_says(platform: Platform, values: str, reached: str | None) -> None:
    """On the pod's address with a certificate, else on its loopback."""
    (platform.shell.folder / "my-sidecar" / "more.yaml").write_text(values)
    command = 'helm template agents "$REPO/helm/sidegate" --namespace agents --values values.yaml --values more.yaml'
    documents = [d for d in yaml.safe_load_all(platform.shell.type(command)) if d]
    template = next(d["template"]["spec"] for d in documents if d["kind"] == "PodTemplate")
    variables = {each["name"]: each.get("value") for each in template["initContainers"][-1]["env"]}
    assert variables.get("SIDEGATE_REVIEW_PORT__LISTEN") == reached
    settings = next(d["data"]["sidegate.yaml"] for d in documents if "sidegate.yaml" in d.get("data", {}))
    assert (yaml.safe_load(settings)["review_port"] == "127.0.0.1:8902") is (reached is None)
