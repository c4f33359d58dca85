"""The charts on a real API server: Helm installs every example, and their pods are admitted."""

import base64
import copy
import io
import json
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.chart_pages import CHART, EXAMPLES, documents, example_agent
from tests.deploy.cluster import REPO, ApiError, Cluster
from tests.deploy.machine import wait_until
from tests.deploy.pods import agent

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120, func_only=True)]
VALUES = sorted(EXAMPLES.glob("*.values.yaml"))
Json = dict[str, Any]


def install(api_server: Cluster, namespace: str, chart: Path, *arguments: str) -> None:
    api_server.namespace(namespace)
    done = api_server.helm("install", "agents", str(chart), "--namespace", namespace, *arguments)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("path", VALUES, ids=lambda path: path.name)
def test_helm_installs_each_example_and_a_pod_that_asks_is_admitted(api_server: Cluster, path: Path) -> None:
    """In a namespace that enforces the level `restricted`, with the cluster policies that the example brings in force."""
    namespace = path.name.partition(".")[0]
    install(api_server, namespace, CHART, "--values", str(path))
    wait_until(lambda: api_server.injects(namespace, agent()), "the sidecar is injected")
    stored = api_server.pod(namespace, agent("kept"), dry=False)
    assert [c["name"] for c in stored["spec"]["initContainers"]][-1] == "sidegate"
    for name, spec in other_pods(path.with_name(f"{namespace}.yaml")):
        assert api_server.pod(namespace, {"metadata": {"name": name}, "spec": spec})


def other_pods(rendered: Path) -> Iterator[tuple[str, Json]]:
    """The pods that a release itself brings: a desk's, as its Deployment would make it, and that of `helm test`."""
    for document in documents(rendered.read_text()):
        name = document["metadata"]["name"]
        if document["kind"] == "Deployment":
            yield name, document["spec"]["template"]["spec"]
        elif document["kind"] == "Pod":
            yield name, document["spec"]


def test_helm_installs_the_example_agent_and_its_pods_are_admitted(api_server: Cluster, tmp_path: Path) -> None:
    """No controller makes them here: the Deployment's template is sent in as a pod."""
    install(api_server, "buying", example_agent(tmp_path))
    template = api_server.ask("GET", "/apis/apps/v1/namespaces/buying/deployments/agents")["spec"]["template"]
    pod = {"metadata": {"name": "first", "labels": template["metadata"]["labels"]}, "spec": template["spec"]}
    names = [c["name"] for c in api_server.pod("buying", pod)["spec"]["initContainers"]]
    assert names == ["sidegate-install", "sidegate-opa", "sidegate"]
    loose = copy.deepcopy(pod)
    del loose["spec"]["initContainers"][1]["securityContext"]
    with pytest.raises(ApiError, match="violates PodSecurity"):
        api_server.pod("buying", loose)


def test_helm_upgrades_and_rolls_back_the_policy(api_server: Cluster, tmp_path: Path) -> None:
    api_server.namespace("rolled")
    before, after = tmp_path / "before.yaml", tmp_path / "after.yaml"
    text = (EXAMPLES / "single.values.yaml").read_text()
    before.write_text(text)
    after.write_text(text.replace("read: {user: {}}", "read: {clerk: {}}"))
    common = ("agents", str(CHART), "--namespace", "rolled", "--values")
    assert api_server.helm("install", *common, str(before)).returncode == 0
    first = policy(api_server)
    assert api_server.helm("upgrade", *common, str(after)).returncode == 0
    assert "clerk" in policy(api_server)
    assert api_server.helm("rollback", "agents", "1", "--namespace", "rolled").returncode == 0
    assert policy(api_server) == first


def policy(api_server: Cluster) -> str:
    found: str = api_server.ask("GET", "/api/v1/namespaces/rolled/configmaps/agents-sidegate-policy")["data"][
        "policy.yaml"
    ]
    return found


def test_helm_rolls_back_to_the_bundle_before(api_server: Cluster, tmp_path: Path) -> None:
    """Each bundle in a ConfigMap of its own, named by the values: the next pods get the earlier one, and the guard lets them in."""
    api_server.namespace("bundled")
    given = yaml.safe_load((EXAMPLES / "injected.values.yaml").read_text())
    roles = {"platform-1": "user", "platform-2": "clerk"}
    for name, role in roles.items():
        policy_source = copy.deepcopy(given["policy"]["source"])
        policy_source["grants"]["systems"]["crm"]["read"] = {role: {}}
        content = base64.b64encode(
            bundle(tmp_path / name, given["catalog"]["files"]["crm.yaml"], policy_source)
        ).decode()
        body = {"metadata": {"name": name}, "immutable": True, "binaryData": {"policy.tar.gz": content}}
        api_server.create("/api/v1/namespaces/bundled/configmaps", body)
    for action, name in (("install", "platform-1"), ("upgrade", "platform-2"), ("rollback", "platform-1")):
        file = tmp_path / "values.json"
        file.write_text(json.dumps(given | {"policy": {"bundle": {"configMap": name}}}))
        more = ["1"] if action == "rollback" else [str(CHART), "--values", str(file)]
        done = api_server.helm(action, "agents", *more, "--namespace", "bundled")
        assert done.returncode == 0, done.stderr
        wait_until(lambda: mounted(api_server) == name, f"pods get {name} after {action}")  # noqa: B023 - waited for here
        assert roles[name] in grants(api_server, name)


def bundle(folder: Path, catalog: Json, policy_source: Json) -> bytes:
    """What a pipeline builds and delivers."""
    (folder / "catalog").mkdir(parents=True)
    (folder / "catalog" / "crm.yaml").write_text(yaml.safe_dump(catalog))
    (folder / "policy.yaml").write_text(yaml.safe_dump(policy_source))
    credentials = {"crm": {"env": "CRM_TOKEN"}}
    settings = {"state": "state", "catalog": "catalog", "policy": "policy.yaml", "credentials": credentials}
    (folder / "sidegate.yaml").write_text(yaml.safe_dump(settings))
    words = ["policy", "build", "--settings", str(folder / "sidegate.yaml"), "--output", str(folder / "out.tar.gz")]
    command = [sys.executable, "-m", "proxy.cli", *words]
    done = subprocess.run(command, cwd=REPO, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return (folder / "out.tar.gz").read_bytes()


def mounted(api_server: Cluster) -> str:
    """The ConfigMap that the policy of a new pod comes from; empty while none comes out."""
    try:
        volumes = api_server.pod("bundled", agent())["spec"].get("volumes", [])
    except ApiError:  # injection and guard do not take effect at the same moment
        return ""
    return next((str(v["configMap"]["name"]) for v in volumes if v["name"] == "sidegate-policy"), "")


def grants(api_server: Cluster, name: str) -> str:
    """The permission matrix in a bundle as the cluster keeps it."""
    data = api_server.ask("GET", f"/api/v1/namespaces/bundled/configmaps/{name}")["binaryData"]["policy.tar.gz"]
    with tarfile.open(fileobj=io.BytesIO(base64.b64decode(data))) as archive:
        found = archive.extractfile("sidegate/settings/data.json")
        assert found is not None
        return json.dumps(json.load(found)["grants"])
