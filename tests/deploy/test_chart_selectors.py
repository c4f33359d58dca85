"""What the chart's objects select, against the pods that there are: monitors, NetworkPolicies, Services, and the alerts' links."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.chart_pages import CHART, EXAMPLES, documents, example_agent, template
from tests.deploy.cluster import REPO
from tests.deploy.pods import agent, values

pytestmark = pytest.mark.slow
OPERATOR = ",".join(f"monitoring.coreos.com/v1/{kind}" for kind in ("PodMonitor", "PrometheusRule"))
RUNBOOKS = "https://git.example/sidegate/runbooks"
Json = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pod:
    """A pod as it would run: its labels, and its named ports."""

    labels: Json
    ports: dict[str, int]


def pod(labels: Json, spec: Json) -> Pod:
    containers = [*spec.get("initContainers", ()), *spec["containers"]]
    ports = [port for container in containers for port in container.get("ports", ())]
    return Pod(labels=labels, ports={port["name"]: port["containerPort"] for port in ports})


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> list[Json]:
    """A release with everything: a shared store, a desk, monitors, NetworkPolicies."""
    file = tmp_path_factory.mktemp("values") / "more.json"
    file.write_text(json.dumps({"metrics": {"podMonitor": True, "prometheusRule": True, "runbooks": f"{RUNBOOKS}/"}}))
    shared = EXAMPLES / "shared.values.yaml"
    return documents(template(CHART, "--values", str(shared), "--values", str(file), "--api-versions", OPERATOR))


@pytest.fixture(scope="module")
def pods(rendered: list[Json], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Pod]:
    """An injected pod, one whose own chart includes the sidecar, the desk, and that of `helm test`."""
    by_kind = {document["kind"]: document for document in rendered}
    own = documents(template(example_agent(tmp_path_factory.mktemp("agent"))))
    included = next(document for document in own if document["kind"] == "Deployment")["spec"]["template"]
    injected = next(document for document in rendered if document["metadata"]["name"] == "sidegate")
    desk = by_kind["Deployment"]["spec"]["template"]
    return {
        "injected": pod(agent()["metadata"]["labels"], injected["template"]["spec"]),
        "included": pod(included["metadata"]["labels"], included["spec"]),
        "desk": pod(desk["metadata"]["labels"], desk["spec"]),
        "check": pod(by_kind["Pod"]["metadata"]["labels"], by_kind["Pod"]["spec"]),
    }


def selects(selector: Json, labels: Json) -> bool:
    """A label selector with `In`, the one operator that the chart uses."""
    expressions = selector.get("matchExpressions", [])
    assert {expression["operator"] for expression in expressions} <= {"In"}
    assert selector.get("matchLabels") or expressions
    return all(labels.get(key) == value for key, value in selector.get("matchLabels", {}).items()) and all(
        labels.get(expression["key"]) in expression["values"] for expression in expressions
    )


def chosen(pods: dict[str, Pod], selector: Json) -> set[str]:
    return {name for name, one in pods.items() if selects(selector, one.labels)}


def test_every_process_that_counts_is_scraped_once_on_its_probe_port(
    rendered: list[Json], pods: dict[str, Pod]
) -> None:
    """A review that the desk answered is counted by the desk."""
    scraped = list[tuple[str, int]]()
    for monitor in (document for document in rendered if document["kind"] == "PodMonitor"):
        (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
        assert endpoint["path"] == "/metrics"
        scraped += [(name, pods[name].ports[endpoint["port"]]) for name in chosen(pods, monitor["spec"]["selector"])]
    assert sorted(scraped) == [("desk", 8901), ("included", 8901), ("injected", 8901)]


def test_every_process_that_calls_has_its_network_policy(rendered: list[Json], pods: dict[str, Pod]) -> None:
    """Its own ports are open in it."""
    bound = list[str]()
    for policy in (document["spec"] for document in rendered if document["kind"] == "NetworkPolicy"):
        assert policy["policyTypes"] == ["Ingress", "Egress"]
        names = chosen(pods, policy["podSelector"])
        open_ports = {port["port"] for rule in policy["ingress"] for port in rule["ports"]}
        assert {number for name in names - {"included"} for number in pods[name].ports.values()} == open_ports
        bound += names
    assert sorted(bound) == ["desk", "included", "injected"]


def test_the_service_leads_to_the_desk(rendered: list[Json], pods: dict[str, Pod]) -> None:
    (service,) = (document["spec"] for document in rendered if document["kind"] == "Service")
    assert chosen(pods, {"matchLabels": service["selector"]}) == {"desk"}
    assert [pods["desk"].ports[port["targetPort"]] for port in service["ports"]] == [8902]


def test_alerts_link_to_pages_that_there_are(rendered: list[Json], tmp_path: Path) -> None:
    """A URL with `metrics.runbooks`, else the path in a checkout."""
    (rules,) = (document["spec"] for document in rendered if document["kind"] == "PrometheusRule")
    links = re.findall(r"runbook_url: (\S+)", yaml.safe_dump(rules, width=10**6))
    assert len(links) > 10
    folder = REPO / "deploy" / "monitoring" / "runbooks"
    assert [link for link in links if not (folder / link.removeprefix(f"{RUNBOOKS}/")).is_file()] == []
    file = tmp_path / "values.json"
    file.write_text(json.dumps(values(metrics={"prometheusRule": True})))
    text = template(CHART, "--values", str(file), "--api-versions", OPERATOR)
    assert {link.rpartition("/")[0] for link in re.findall(r"runbook_url: (\S+)", text)} == {
        "deploy/monitoring/runbooks"
    }
