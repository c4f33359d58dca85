"""A pod with the desk's labels has the desk's ways out and its Service: a real API server lets in the desk and nobody else."""

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.deploy.chart_pages import CHART
from tests.deploy.cluster import ApiError, Cluster
from tests.deploy.machine import wait_until
from tests.deploy.pods import agent, values

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120, func_only=True)]
SPACE = "desked"
DEPLOYMENT = f"/apis/apps/v1/namespaces/{SPACE}/deployments/agents-sidegate-desk"
TEMPLATE = f"/api/v1/namespaces/{SPACE}/podtemplates/sidegate-desk"
SENTENCE = "carries the labels of Sidegate's desk and is not the desk"
GIVEN = {
    "store": {"url": "rediss://valkey.shop.svc:6379/0", "secret": "sidegate-store"},
    "review": {"tlsSecret": "review-tls"},
    "desk": {"enabled": True},
    "imagePullSecrets": ["registry"],
}
Json = dict[str, Any]


@pytest.fixture(scope="module")
def cluster(api_server: Cluster) -> Cluster:
    api_server.namespace(SPACE, level="privileged")
    file = api_server.folder / "desked.json"
    file.write_text(json.dumps(values(**GIVEN)))
    done = api_server.helm("install", "agents", str(CHART), "--namespace", SPACE, "--values", str(file))
    assert done.returncode == 0, done.stderr
    wait_until(lambda: SENTENCE in refusal(api_server, impostor(api_server)), "the guard is in force")
    return api_server


def desk(cluster: Cluster, name: str = "desk") -> Json:
    """The pod that the ReplicaSet of the release's Deployment makes."""
    template = cluster.ask("GET", DEPLOYMENT)["spec"]["template"]
    labels = template["metadata"]["labels"] | {"pod-template-hash": "5d59d67564"}
    return {"metadata": {"name": name, "labels": labels}, "spec": template["spec"]}


def impostor(cluster: Cluster) -> Json:
    """A deployer's pod with the desk's labels and nothing else of it."""
    labels = desk(cluster)["metadata"]["labels"]
    return {"metadata": {"name": "impostor", "labels": labels}, "spec": agent()["spec"]}


def refusal(cluster: Cluster, pod: Json) -> str:
    try:
        cluster.pod(SPACE, pod)
    except ApiError as e:
        return e.message
    return ""


def test_the_desk_itself_is_let_in_and_may_be_let_go(cluster: Cluster) -> None:
    """With what the scheduler, quotas and the ServiceAccount controller add; its labels and finalizers can be changed."""
    pod = desk(cluster, "let-go")
    pod["metadata"]["finalizers"] = ["example.com/held"]
    pod["spec"] |= {
        "nodeName": "node-1",
        "serviceAccountName": "default",
        "nodeSelector": {"kubernetes.io/os": "linux"},
    }
    pod["spec"]["containers"][0]["resources"]["limits"]["cpu"] = "1"
    cluster.pod(SPACE, pod, dry=False)
    path = f"/api/v1/namespaces/{SPACE}/pods/let-go"
    assert cluster.patch(path, {"metadata": {"labels": {"team": "platform"}}})
    assert "finalizers" not in cluster.patch(path, {"metadata": {"finalizers": None}})["metadata"]


def _container(pod: Json) -> Json:
    found: Json = pod["spec"]["containers"][0]
    return found


def _append(pod: Json, kind: str, name: str) -> None:
    guest = {**copy.deepcopy(_container(pod)), "name": name, "ports": []}
    guest.pop("readinessProbe"), guest.pop("livenessProbe")
    pod["spec"].setdefault(kind, []).append(guest)


FORGED: dict[str, Callable[[Json], None]] = {
    "another image": lambda p: _container(p).update(image="registry.example/agent:1"),
    "another command": lambda p: _container(p).update(command=["sh"]),
    "other arguments": lambda p: _container(p).update(args=["serve"]),
    "a variable more": lambda p: _container(p)["env"].append({"name": "SIDEGATE_STORE", "value": "x"}),
    "a hook": lambda p: _container(p).update(lifecycle={"postStart": {"exec": {"command": ["true"]}}}),
    "another user": lambda p: _container(p)["securityContext"].update(runAsUser=10001),
    "no mounts": lambda p: _container(p).update(volumeMounts=[]),
    "another container": lambda p: _append(p, "containers", "more"),
    "an init container": lambda p: _append(p, "initContainers", "before"),
    "other volumes": lambda p: p["spec"]["volumes"][0].update(configMap={"name": "mine"}),
    "a token of the cluster": lambda p: p["spec"].update(automountServiceAccountToken=True),
    "the node's network": lambda p: p["spec"].update(hostNetwork=True),
    "names that are other hosts": lambda p: p["spec"].update(hostAliases=[{"ip": "10.9.9.9", "hostnames": ["v"]}]),
}


@pytest.mark.parametrize("how", FORGED)
def test_a_pod_that_is_nearly_the_desk_is_refused(cluster: Cluster, how: str) -> None:
    pod = desk(cluster)
    FORGED[how](pod)
    assert SENTENCE in refusal(cluster, pod)


def test_the_desks_labels_are_not_put_on_a_pod_later(cluster: Cluster) -> None:
    pod = agent("later")
    pod["metadata"]["labels"] = {}
    cluster.pod(SPACE, pod, dry=False)
    labels = desk(cluster)["metadata"]["labels"]
    with pytest.raises(ApiError, match=SENTENCE):
        cluster.patch(f"/api/v1/namespaces/{SPACE}/pods/later?dryRun=All", {"metadata": {"labels": labels}})


def test_a_desk_that_runs_is_not_changed_nor_debugged(cluster: Cluster) -> None:
    cluster.pod(SPACE, desk(cluster, "changed"), dry=False)
    path = f"/api/v1/namespaces/{SPACE}/pods/changed"
    with pytest.raises(ApiError, match=SENTENCE):
        cluster.patch(f"{path}?dryRun=All", {"spec": {"containers": [{"name": "desk", "image": "other:1"}]}})
    pod = cluster.ask("GET", path)
    pod["spec"]["ephemeralContainers"] = [{"name": "debug", "image": "x"}]
    with pytest.raises(ApiError, match=SENTENCE):
        cluster.ask("PUT", f"{path}/ephemeralcontainers?dryRun=All", pod)


def test_labels_of_another_component_or_release_are_nothing_to_it(cluster: Cluster) -> None:
    for changes in ({"app.kubernetes.io/component": "shop"}, {"app.kubernetes.io/instance": "shop"}):
        pod = impostor(cluster)
        pod["metadata"]["labels"] |= changes
        assert refusal(cluster, pod) == ""


def test_a_desk_of_an_earlier_release_can_still_be_let_go(cluster: Cluster) -> None:
    pod = desk(cluster, "earlier")
    pod["metadata"]["finalizers"] = ["example.com/held"]
    cluster.pod(SPACE, pod, dry=False)
    template = cluster.ask("GET", TEMPLATE)
    change = {"template": {"spec": {"containers": [{"name": "desk", "image": "registry.example/sidegate:2"}]}}}
    cluster.patch(TEMPLATE, change)
    try:
        wait_until(
            lambda: SENTENCE in refusal(cluster, desk(cluster)), "the new template is what pods are compared with"
        )
        path = f"/api/v1/namespaces/{SPACE}/pods/earlier"
        assert "finalizers" not in cluster.patch(path, {"metadata": {"finalizers": None}})["metadata"]
    finally:
        del template["metadata"]["resourceVersion"]
        cluster.ask("PUT", TEMPLATE, template)
        wait_until(lambda: refusal(cluster, desk(cluster)) == "", "the desk is admitted again")
