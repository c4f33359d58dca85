"""The Roles that the chart brings where it is asked to, judged by a real API server: who may do what, and nothing more."""

import base64
import json
from typing import Any

import pytest

from tests.deploy.chart_pages import CHART, documents, template
from tests.deploy.cluster import ApiError, Cluster
from tests.deploy.machine import wait_until
from tests.deploy.pods import SECRET, values

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120, func_only=True)]
GROUP = {"kind": "Group", "apiGroup": "rbac.authorization.k8s.io"}
RBAC = {"platform": [GROUP | {"name": "platform"}], "deployers": [GROUP | {"name": "pipeline"}]}
SPACE = "governed"
Json = dict[str, Any]

PLATFORM = {
    ("patch", "configmaps", "agents-sidegate-policy"): True,
    ("update", "configmaps", "agents-sidegate-catalog"): True,
    ("get", "podtemplates", "sidegate"): True,
    ("patch", "secrets", SECRET): True,
    ("update", "secrets", "reviewers"): True,
    ("get", "secrets", SECRET): False,
    ("list", "secrets", ""): False,
    ("patch", "secrets", "somebody-elses"): False,
    ("patch", "configmaps", "agents-sidegate"): False,
    ("patch", "configmaps", "kube-root-ca.crt"): False,
    ("create", "configmaps", ""): False,
    ("delete", "configmaps", "agents-sidegate-policy"): False,
    ("patch", "podtemplates", "sidegate"): False,
    ("create", "pods", ""): False,
    ("create", "pods/exec", "agent"): False,
    ("create", "apps:deployments", ""): False,
}
PIPELINE = {
    ("create", "apps:deployments", ""): True,
    ("patch", "apps:deployments", "agent"): True,
    ("create", "batch:jobs", ""): True,
    ("get", "pods/log", "agent"): True,
    ("create", "pods", ""): False,
    ("patch", "pods", "agent"): False,
    ("create", "pods/exec", "agent"): False,
    ("create", "pods/attach", "agent"): False,
    ("create", "pods/portforward", "agent"): False,
    ("patch", "pods/ephemeralcontainers", "agent"): False,
    ("get", "secrets", SECRET): False,
    ("patch", "configmaps", "agents-sidegate-policy"): False,
    ("patch", "podtemplates", "sidegate"): False,
    ("create", "rbac.authorization.k8s.io:rolebindings", ""): False,
}


@pytest.fixture(scope="module")
def cluster(api_server: Cluster) -> Cluster:
    api_server.namespace(SPACE)
    file = api_server.folder / "governed.json"
    file.write_text(json.dumps(values(rbac=RBAC)))
    done = api_server.helm("install", "agents", str(CHART), "--namespace", SPACE, "--values", str(file))
    assert done.returncode == 0, done.stderr
    wait_until(lambda: may(api_server, "pipeline", "create", "apps:deployments", ""), "the Roles are in force")
    wait_until(lambda: may(api_server, "platform", "patch", "secrets", SECRET), "the Roles are in force")
    return api_server


def may(cluster: Cluster, group: str, verb: str, what: str, name: str, namespace: str = SPACE) -> bool:
    """Whether somebody of the group may do that (SubjectAccessReview). `what`: [API group:]resource[/subresource]."""
    api, _, path = what.rpartition(":")
    resource, _, subresource = path.partition("/")
    asked = {"namespace": namespace, "verb": verb, "group": api, "resource": resource, "name": name}
    spec = {"user": "somebody", "groups": [group], "resourceAttributes": asked | {"subresource": subresource}}
    answer = cluster.create("/apis/authorization.k8s.io/v1/subjectaccessreviews", {"spec": spec})
    return bool(answer["status"]["allowed"])


@pytest.mark.parametrize(("verb", "what", "name"), PLATFORM)
def test_the_platform_team_changes_policy_catalog_and_secrets_and_nothing_else(
    cluster: Cluster, verb: str, what: str, name: str
) -> None:
    assert may(cluster, "platform", verb, what, name) is PLATFORM[verb, what, name]
    assert not may(cluster, "platform", verb, what, name, namespace="default")


@pytest.mark.parametrize(("verb", "what", "name"), PIPELINE)
def test_the_pipeline_makes_workloads_and_reaches_into_none(cluster: Cluster, verb: str, what: str, name: str) -> None:
    assert may(cluster, "pipeline", verb, what, name) is PIPELINE[verb, what, name]
    assert not may(cluster, "pipeline", verb, what, name, namespace="default")


def test_somebody_else_may_nothing(cluster: Cluster) -> None:
    assert not [asked for asked in (*PLATFORM, *PIPELINE) if may(cluster, "others", *asked)]


def test_whoever_may_replace_a_secret_can_read_it_and_the_readme_says_so(cluster: Cluster) -> None:
    """The API server answers an update with the whole object, so a Role without `get` hides nothing."""
    path = f"/api/v1/namespaces/{SPACE}/secrets"
    cluster.create(path, {"metadata": {"name": SECRET}, "stringData": {"token": "of-the-upstream"}})
    with pytest.raises(ApiError, match="cannot get resource"):
        cluster.ask("GET", f"{path}/{SECRET}", group="platform")
    answer = cluster.ask("PATCH", f"{path}/{SECRET}", {"metadata": {"labels": {"a": "b"}}}, group="platform")
    assert base64.b64decode(answer["data"]["token"]) == b"of-the-upstream"
    page = " ".join((CHART / "README.md").read_text().split())
    assert "whoever has this Role can read these Secrets" in page
    assert "without being read" not in page


@pytest.mark.parametrize("kind", ["configMap", "secret"])
def test_the_key_that_bundles_are_checked_with_is_not_the_platform_teams(cluster: Cluster, kind: str) -> None:
    """Else whoever may replace a bundle replaces what it is checked with, too."""
    file = cluster.folder / f"key-{kind}.json"
    bundle = {"configMap": "platform-policy", "publicKey": {kind: "policy-key", "key": "policy.pem"}}
    file.write_text(json.dumps(values(rbac=RBAC, policy={"bundle": bundle})))
    roles = [d for d in documents(template(CHART, "--values", str(file))) if d["kind"] == "Role"]
    names = [name for role in roles for rule in role["rules"] for name in rule.get("resourceNames", ())]
    assert "platform-policy" in names
    assert "policy-key" not in names


def test_unasked_there_is_no_role_and_no_rule_without_names(cluster: Cluster) -> None:
    """A rule about ConfigMaps or Secrets that names none would be one for all of them: then it is not there."""
    file = cluster.folder / "none.json"
    bare = {"tokens": {"issuers": [{"issuer": "https://i"}]}, "reviewers": {}, "credentials": {}}
    for given, kinds in (({}, 0), ({"rbac": RBAC, **bare}, 2)):
        file.write_text(json.dumps(values(**given)))
        roles = [d for d in documents(template(CHART, "--values", str(file))) if d["kind"] == "Role"]
        assert len(roles) == kinds
        rules = [rule for role in roles for rule in role["rules"] if {"configmaps", "secrets"} & {*rule["resources"]}]
        assert all(rule["resourceNames"] for rule in rules)
        assert len(rules) == kinds // 2
