"""The charts on a real API server: Helm installs every example, their pods are admitted, a service account's token is verified."""

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest

from proxy.adapters.clock import SystemClock
from proxy.adapters.verifiers import verifier
from proxy.errors import Code, Refusal
from proxy.settings import Issuer, Tokens
from tests.deploy.chart_pages import CHART, EXAMPLES, example_agent
from tests.deploy.cluster import ISSUER, Cluster, running
from tests.deploy.machine import wait_until
from tests.deploy.pods import agent

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
VALUES = sorted(EXAMPLES.glob("*.values.yaml"))
Json = dict[str, Any]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with running(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster


def install(cluster: Cluster, namespace: str, chart: Path, *arguments: str) -> None:
    cluster.namespace(namespace)
    done = cluster.helm("install", "agents", str(chart), "--namespace", namespace, *arguments)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("path", VALUES, ids=lambda path: path.name)
def test_helm_installs_each_example_and_a_pod_that_asks_is_admitted(cluster: Cluster, path: Path) -> None:
    """In a namespace that enforces the level `restricted`, with the cluster policies that the example brings in force."""
    namespace = path.name.partition(".")[0]
    install(cluster, namespace, CHART, "--values", str(path))
    wait_until(lambda: cluster.injects(namespace, agent()), "the sidecar is injected")
    stored = cluster.pod(namespace, agent("kept"), dry=False)
    assert [c["name"] for c in stored["spec"]["initContainers"]][-1] == "sidegate"


def test_helm_installs_the_example_agent_and_its_pods_are_admitted(cluster: Cluster, tmp_path: Path) -> None:
    """No controller makes them here: the Deployment's template is sent in as a pod."""
    install(cluster, "buying", example_agent(tmp_path))
    template = cluster.ask("GET", "/apis/apps/v1/namespaces/buying/deployments/agents")["spec"]["template"]
    pod = {"metadata": {"name": "first", "labels": template["metadata"]["labels"]}, "spec": template["spec"]}
    names = [c["name"] for c in cluster.pod("buying", pod)["spec"]["initContainers"]]
    assert names == ["sidegate-install", "sidegate-opa", "sidegate"]
    loose = copy.deepcopy(pod)
    del loose["spec"]["initContainers"][1]["securityContext"]
    with pytest.raises(Exception, match="violates PodSecurity"):
        cluster.pod("buying", loose)


def test_helm_upgrades_and_rolls_back_the_policy(cluster: Cluster, tmp_path: Path) -> None:
    cluster.namespace("rolled")
    before, after = tmp_path / "before.yaml", tmp_path / "after.yaml"
    text = (EXAMPLES / "single.values.yaml").read_text()
    before.write_text(text)
    after.write_text(text.replace("read: {user: {}}", "read: {clerk: {}}"))
    common = ("agents", str(CHART), "--namespace", "rolled", "--values")
    assert cluster.helm("install", *common, str(before)).returncode == 0
    first = policy(cluster)
    assert cluster.helm("upgrade", *common, str(after)).returncode == 0
    assert "clerk" in policy(cluster)
    assert cluster.helm("rollback", "agents", "1", "--namespace", "rolled").returncode == 0
    assert policy(cluster) == first


def policy(cluster: Cluster) -> str:
    found: str = cluster.ask("GET", "/api/v1/namespaces/rolled/configmaps/agents-sidegate-policy")["data"][
        "policy.yaml"
    ]
    return found


async def test_a_service_accounts_token_is_verified_by_the_api_servers_keys(cluster: Cluster, tmp_path: Path) -> None:
    """As the kubelet projects it into a pod (TokenRequest), for our audience only."""
    cluster.namespace("workloads")
    accounts = "/api/v1/namespaces/workloads/serviceaccounts"
    cluster.create(accounts, {"metadata": {"name": "buyer"}})
    jwks = tmp_path / "jwks.json"
    jwks.write_bytes(orjson.dumps(cluster.ask("GET", "/openid/v1/jwks")))
    issuer = Issuer(issuer=ISSUER, audience="sidegate", jwks_file=jwks, algorithms=("RS256",))
    async with aiohttp.ClientSession() as session:
        verify = verifier(Tokens(issuers=(issuer,)), session, SystemClock()).verify
        principal = await verify(token(cluster, accounts, "sidegate"))
        assert (principal.issuer, principal.subject) == (ISSUER, "system:serviceaccount:workloads:buyer")
        for wrong in (token(cluster, accounts, "elsewhere"), token(cluster, accounts, "sidegate")[:-6] + "AAAAAA"):
            with pytest.raises(Refusal) as refused:
                await verify(wrong)
            assert refused.value.code is Code.UNAUTHENTICATED


def token(cluster: Cluster, accounts: str, audience: str) -> str:
    asked = {"spec": {"audiences": [audience], "expirationSeconds": 600}}
    found: str = cluster.create(f"{accounts}/buyer/token", asked)["status"]["token"]
    return found
