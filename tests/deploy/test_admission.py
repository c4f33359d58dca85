"""Injection and guard on a real API server: what goes in, what comes out, what is refused with which sentence."""

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.deploy.cluster import REPO, ApiError, Cluster, running
from tests.deploy.machine import wait_until
from tests.deploy.pods import LABEL, WEAKENED, agent, values

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
CHART = REPO / "helm" / "sidegate"
ORDER = ["sidegate-install", "sidegate-opa", "sidegate"]
Json = dict[str, Any]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """`guarded` injects and guards; the level is `privileged`, so that it is our guard that refuses. `single` injects only."""
    with running(tmp_path_factory.mktemp("cluster")) as cluster:
        for name, level, given in (
            ("guarded", "privileged", values()),
            ("single", "restricted", values(mode="single", injection={"enabled": True})),
        ):
            cluster.namespace(name, level=level)
            install(cluster, name, given)
        # Policies take effect about two seconds after they were made.
        wait_until(
            lambda: cluster.injects("guarded", agent()) and cluster.injects("single", agent()), "pods are injected"
        )
        wait_until(lambda: not admitted(cluster, unlabelled_sidecar()), "the guard is in force")
        yield cluster


def install(cluster: Cluster, namespace: str, given: Json) -> None:
    file = cluster.folder / f"{namespace}.json"
    file.write_text(json.dumps(given))
    done = cluster.helm("install", "agents", str(CHART), "--namespace", namespace, "--values", str(file))
    assert done.returncode == 0, done.stderr


def unlabelled_sidecar() -> Json:
    """A pod with a container by the sidecar's name, so that nothing is injected: it has nothing else of it."""
    pod = agent()
    pod["spec"]["initContainers"] = [{**copy.deepcopy(pod["spec"]["containers"][0]), "name": "sidegate"}]
    return pod


def admitted(cluster: Cluster, pod: Json) -> bool:
    try:
        cluster.pod("guarded", pod)
    except ApiError:
        return False
    return True


def whole(cluster: Cluster) -> Json:
    """A pod as it came out of injection, to be sent in again."""
    pod = cluster.pod("guarded", agent())
    return {"metadata": {"name": "agent", "labels": pod["metadata"]["labels"]}, "spec": pod["spec"]}


def test_a_pod_that_asks_comes_out_with_the_sidecars_first_and_in_order(cluster: Cluster) -> None:
    pod = agent()
    pod["spec"]["initContainers"] = [{**copy.deepcopy(pod["spec"]["containers"][0]), "name": "own"}]
    pod["spec"]["volumes"] = [{"name": "own", "emptyDir": {}}]
    spec = cluster.pod("guarded", pod)["spec"]
    assert [c["name"] for c in spec["initContainers"]] == [*ORDER, "own"]
    assert [c.get("restartPolicy") for c in spec["initContainers"]] == [None, "Always", "Always", None]
    assert spec["volumes"][0]["name"] == "own"
    template = cluster.ask("GET", "/api/v1/namespaces/guarded/podtemplates/sidegate")["template"]["spec"]
    assert spec["initContainers"][:3] == template["initContainers"]
    assert spec["volumes"][1:] == template["volumes"]


def test_a_second_pass_adds_nothing_and_the_guard_lets_it_pass(cluster: Cluster) -> None:
    once = whole(cluster)
    again = cluster.pod("guarded", once)["spec"]
    assert again["initContainers"] == once["spec"]["initContainers"]
    assert again["volumes"] == once["spec"]["volumes"]


def test_in_a_small_pod_the_sidecar_alone_is_added(cluster: Cluster) -> None:
    spec = cluster.pod("single", agent())["spec"]
    assert [c["name"] for c in spec["initContainers"]] == ["sidegate"]
    assert "sidegate-run" not in {v["name"] for v in spec["volumes"]}


def test_what_is_injected_meets_the_level_restricted(cluster: Cluster) -> None:
    """`single` enforces it; for the other form the namespace's level is raised for one request."""
    labels = {"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}}
    namespace = cluster.ask("GET", "/api/v1/namespaces/guarded")
    before = copy.deepcopy(namespace)
    namespace["metadata"]["labels"] |= labels["metadata"]["labels"]
    changed = cluster.ask("PUT", "/api/v1/namespaces/guarded", namespace)
    try:
        wait_until(lambda: not bare_is_admitted(cluster), "the level is enforced")
        assert cluster.pod("guarded", agent())["spec"]["initContainers"]
    finally:
        before["metadata"]["resourceVersion"] = changed["metadata"]["resourceVersion"]
        cluster.ask("PUT", "/api/v1/namespaces/guarded", before)
        wait_until(lambda: bare_is_admitted(cluster), "the level is back")


def bare_is_admitted(cluster: Cluster) -> bool:
    bare = {"metadata": {"name": "bare"}, "spec": {"containers": [{"name": "c", "image": "x"}]}}
    return admitted(cluster, bare)


def test_a_pod_that_does_not_ask_is_left_alone(cluster: Cluster) -> None:
    pod = agent()
    pod["metadata"]["labels"] = {LABEL: "false"}
    assert "initContainers" not in cluster.pod("guarded", pod)["spec"]


@pytest.mark.parametrize("how", WEAKENED)
def test_a_weakened_pod_is_refused_with_a_sentence(cluster: Cluster, how: str) -> None:
    weaken, word = WEAKENED[how]
    pod = whole(cluster)
    weaken(pod)
    with pytest.raises(ApiError) as refused:
        cluster.pod("guarded", pod)
    assert word in refused.value.message


def test_a_debug_container_that_mounts_what_is_the_sidecars_is_refused(cluster: Cluster) -> None:
    name = cluster.pod("guarded", agent("debugged"), dry=False)["metadata"]["name"]
    path = f"/api/v1/namespaces/guarded/pods/{name}"
    pod = cluster.ask("GET", path)
    good = {"name": "debug", "image": "x", "securityContext": {"runAsUser": 4242}, "targetContainerName": "agent"}
    for bad, word in (
        ({"volumeMounts": [{"name": "sidegate-state", "mountPath": "/x"}]}, "mounts a volume of Sidegate's"),
        ({"securityContext": {"runAsUser": 26500}}, "runAsUser of its own"),
        ({"securityContext": {"runAsUser": 4242, "capabilities": {"add": ["SYS_PTRACE"]}}}, "capabilities"),
        ({"targetContainerName": "sidegate"}, "debug container"),
    ):
        pod["spec"]["ephemeralContainers"] = [{**good, **bad}]
        with pytest.raises(ApiError) as refused:
            cluster.ask("PUT", f"{path}/ephemeralcontainers?dryRun=All", pod)
        assert word in refused.value.message
    pod["spec"]["ephemeralContainers"] = [good]
    assert cluster.ask("PUT", f"{path}/ephemeralcontainers?dryRun=All", pod)["spec"]["ephemeralContainers"]


def test_without_its_template_nothing_is_admitted(cluster: Cluster) -> None:
    """The guard has nothing to compare with: fail closed."""
    path = "/api/v1/namespaces/guarded/podtemplates"
    template = cluster.ask("GET", f"{path}/sidegate")
    cluster.ask("DELETE", f"{path}/sidegate")
    wait_until(lambda: not admitted(cluster, agent()), "pods are refused")
    template["metadata"] = {key: template["metadata"][key] for key in ("name", "labels", "annotations")}
    cluster.create(path, template)
    wait_until(lambda: admitted(cluster, agent()), "pods are admitted again")


def test_helm_takes_all_of_it_away_again(cluster: Cluster, tmp_path: Path) -> None:
    cluster.namespace("gone", level="privileged")
    install(cluster, "gone", values())
    assert cluster.helm("uninstall", "agents", "--namespace", "gone").returncode == 0
    wait_until(lambda: not cluster.injects("gone", agent()), "nothing is injected any more")
