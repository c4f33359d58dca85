"""Injection and guard on a real API server: what goes in, what comes out, what is refused with which sentence."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from tests.deploy.cluster import REPO, ApiError, Cluster
from tests.deploy.machine import wait_until
from tests.deploy.pods import LABEL, SECRET, WEAKENED, agent, values

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120, func_only=True)]
CHART = REPO / "helm" / "sidegate"
TEMPLATE = "/api/v1/namespaces/guarded/podtemplates/sidegate"
ORDER = ["sidegate-install", "sidegate-opa", "sidegate"]
Json = dict[str, Any]


@pytest.fixture(scope="module")
def cluster(api_server: Cluster) -> Cluster:
    """`guarded` injects and guards; the level is `privileged`, so that it is our guard that refuses. `small` injects only."""
    for name, level, given in (
        ("guarded", "privileged", values()),
        ("small", "restricted", values(mode="single", injection={"enabled": True})),
    ):
        api_server.namespace(name, level=level)
        if name == "guarded":
            api_server.pod(name, elder(), dry=False)
        install(api_server, name, given)
    # Policies take effect about two seconds after they were made.
    wait_until(
        lambda: api_server.injects("guarded", agent()) and api_server.injects("small", agent()), "pods are injected"
    )
    wait_until(lambda: not admitted(api_server, unlabelled_sidecar()), "the guard is in force")
    return api_server


def elder() -> Json:
    """A pod with the label, of a time without guard, that runs as root and has a finalizer."""
    pod = agent("elder")
    pod["metadata"]["finalizers"] = ["batch.kubernetes.io/job-tracking"]
    pod["spec"]["securityContext"] = {"runAsUser": 0}
    return pod


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
    assert spec["enableServiceLinks"] is False
    template = cluster.ask("GET", TEMPLATE)["template"]["spec"]
    assert spec["initContainers"][:3] == template["initContainers"]
    assert spec["volumes"][1:] == template["volumes"]


def test_a_second_pass_adds_nothing_and_the_guard_lets_it_pass(cluster: Cluster) -> None:
    once = whole(cluster)
    again = cluster.pod("guarded", once)["spec"]
    assert again["initContainers"] == once["spec"]["initContainers"]
    assert again["volumes"] == once["spec"]["volumes"]


def test_in_a_small_pod_the_sidecar_alone_is_added(cluster: Cluster) -> None:
    spec = cluster.pod("small", agent())["spec"]
    assert [c["name"] for c in spec["initContainers"]] == ["sidegate"]
    assert "sidegate-run" not in {v["name"] for v in spec["volumes"]}


def test_what_is_injected_meets_the_level_restricted(cluster: Cluster) -> None:
    """`small` enforces it; for the other form the namespace's level is raised for one request."""
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
    rights = {"runAsUser": 4242, "allowPrivilegeEscalation": False}
    good = {"name": "debug", "image": "x", "securityContext": rights, "targetContainerName": "agent"}
    secret = {"name": "T", "valueFrom": {"secretKeyRef": {"name": SECRET, "key": "token"}}}
    for bad, word in (
        ({"volumeMounts": [{"name": "sidegate-state", "mountPath": "/x"}]}, "mounts a volume of Sidegate's"),
        ({"env": [secret]}, "Secret or claim of Sidegate's"),
        ({"securityContext": rights | {"runAsUser": 26500}}, "runAsUser of its own"),
        ({"securityContext": {"runAsUser": 4242}}, "allowPrivilegeEscalation: false"),
        ({"securityContext": rights | {"capabilities": {"add": ["SYS_PTRACE"]}}}, "capabilities"),
        ({"targetContainerName": "sidegate"}, "debug container"),
    ):
        pod["spec"]["ephemeralContainers"] = [{**good, **bad}]
        with pytest.raises(ApiError) as refused:
            cluster.ask("PUT", f"{path}/ephemeralcontainers?dryRun=All", pod)
        assert word in refused.value.message
    pod["spec"]["ephemeralContainers"] = [good]
    assert cluster.ask("PUT", f"{path}/ephemeralcontainers?dryRun=All", pod)["spec"]["ephemeralContainers"]


def test_what_was_admitted_stays_as_it_is(cluster: Cluster) -> None:
    """Neither is the label taken off or put on later, nor the sidecar's image changed; the agent's own may be."""
    path = "/api/v1/namespaces/guarded/pods"
    cluster.pod("guarded", agent("stays"), dry=False)
    bare = agent("bare")
    del bare["metadata"]["labels"]
    cluster.pod("guarded", bare, dry=False)
    for name, changes, word in (
        ("stays", {"metadata": {"labels": {LABEL: None}}}, "neither put on a running pod nor taken off"),
        ("bare", {"metadata": {"labels": {LABEL: "true"}}}, "neither put on a running pod nor taken off"),
        ("stays", {"spec": {"initContainers": [{"name": "sidegate", "image": "other:1"}]}}, "differs"),
        ("stays", {"spec": {"containers": [{"name": "agent", "image": "other:1"}]}}, ""),
    ):
        if not word:
            assert cluster.patch(f"{path}/{name}?dryRun=All", changes)
            continue
        with pytest.raises(ApiError) as refused:
            cluster.patch(f"{path}/{name}?dryRun=All", changes)
        assert word in refused.value.message


def test_a_pod_from_before_the_guard_can_still_be_let_go(cluster: Cluster) -> None:
    path = "/api/v1/namespaces/guarded/pods/elder"
    with pytest.raises(ApiError, match="runAsUser of its own"):
        cluster.patch(f"{path}?dryRun=All", {"spec": {"containers": [{"name": "agent", "image": "other:1"}]}})
    assert "finalizers" not in cluster.patch(path, {"metadata": {"finalizers": None}})["metadata"]


def test_a_pod_of_an_earlier_release_can_still_be_let_go(cluster: Cluster) -> None:
    """After an upgrade its sidecar is not the template's any more; a controller takes its finalizer off all the same."""
    pod = agent("earlier")
    pod["metadata"]["finalizers"] = ["batch.kubernetes.io/job-tracking"]
    cluster.pod("guarded", pod, dry=False)
    template = cluster.ask("GET", TEMPLATE)
    change = {"template": {"spec": {"initContainers": [{"name": "sidegate", "image": "registry.example/sidegate:2"}]}}}
    cluster.patch(TEMPLATE, change)
    try:
        once = {"metadata": {"name": "again", "labels": {LABEL: "true"}}, "spec": whole_spec(cluster, "earlier")}
        wait_until(lambda: not admitted(cluster, once), "the new template is what pods are compared with")
        pods = "/api/v1/namespaces/guarded/pods/earlier"
        assert "finalizers" not in cluster.patch(pods, {"metadata": {"finalizers": None}})["metadata"]
        assert cluster.patch(f"{pods}?dryRun=All", {"spec": {"containers": [{"name": "agent", "image": "other:1"}]}})
    finally:
        del template["metadata"]["resourceVersion"]
        cluster.ask("PUT", TEMPLATE, template)
        wait_until(lambda: admitted(cluster, agent()), "pods are admitted again")


def test_a_secret_that_the_template_gives_as_environment_is_the_sidecars_alone(cluster: Cluster) -> None:
    """Whoever writes it into the template: `envFrom`, for which the chart has no value."""
    given = [{"secretRef": {"name": "given"}}]
    pod = whole(cluster)
    pod["spec"]["initContainers"][-1]["envFrom"] = given
    template = cluster.ask("GET", TEMPLATE)
    cluster.patch(TEMPLATE, {"template": {"spec": {"initContainers": [{"name": "sidegate", "envFrom": given}]}}})
    try:
        wait_until(lambda: admitted(cluster, pod), "the new template is what pods are compared with")
        pod["spec"]["containers"][0]["envFrom"] = given
        with pytest.raises(ApiError, match="Secret or claim of Sidegate's"):
            cluster.pod("guarded", pod)
    finally:
        del template["metadata"]["resourceVersion"]
        cluster.ask("PUT", TEMPLATE, template)
        wait_until(lambda: admitted(cluster, agent()), "pods are admitted again")


def whole_spec(cluster: Cluster, name: str) -> Json:
    found: Json = cluster.ask("GET", f"/api/v1/namespaces/guarded/pods/{name}")["spec"]
    return found


def test_without_its_template_nothing_is_admitted(cluster: Cluster) -> None:
    """The guard has nothing to compare with: fail closed."""
    template = cluster.ask("GET", TEMPLATE)
    cluster.ask("DELETE", TEMPLATE)
    wait_until(lambda: not admitted(cluster, agent()), "pods are refused")
    template["metadata"] = {key: template["metadata"][key] for key in ("name", "labels", "annotations")}
    cluster.create(TEMPLATE.removesuffix("/sidegate"), template)
    wait_until(lambda: admitted(cluster, agent()), "pods are admitted again")


def test_helm_takes_all_of_it_away_again(cluster: Cluster, tmp_path: Path) -> None:
    cluster.namespace("gone", level="privileged")
    install(cluster, "gone", values())
    assert cluster.helm("uninstall", "agents", "--namespace", "gone").returncode == 0
    wait_until(lambda: not cluster.injects("gone", agent()), "nothing is injected any more")
