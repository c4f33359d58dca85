"""The charts: pages have not drifted, every published schema accepts them, settings are the product's."""

import json
import re
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from proxy.settings import read
from tests.deploy.chart_pages import (
    CHART,
    EXAMPLES,
    HELM,
    VERSIONS,
    documents,
    example_agent,
    helm,
    readme,
    rendered,
    rules,
    template,
    values_schema,
    values_table,
)
from tests.deploy.pods import values

pytestmark = pytest.mark.slow
VALUES = sorted(EXAMPLES.glob("*.values.yaml"))
RENDERED = sorted(path for path in EXAMPLES.glob("*.yaml") if not path.name.endswith(".values.yaml"))
Json = dict[str, Any]


def by_name(paths: list[Path]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("path", paths, ids=lambda path: path.name)


def test_the_rendered_examples_have_not_drifted(tmp_path: Path) -> None:
    """Else: python -m tests.deploy.chart_pages."""
    found = rendered(tmp_path)
    assert sorted(found) == [path.name for path in RENDERED]
    assert found == {path.name: path.read_text() for path in RENDERED}


def test_the_readme_has_every_value_with_its_comment() -> None:
    assert (CHART / "README.md").read_text() == readme()
    documented = set(re.findall(r"^\| `([A-Za-z.]+)`", values_table(), re.MULTILINE))
    schema = json.loads((CHART / "values.schema.json").read_text())
    assert {name.partition(".")[0] for name in documented} == set(schema["properties"]) - {"global"}


def test_the_settings_among_the_values_have_the_products_own_schema() -> None:
    assert json.loads((CHART / "values.schema.json").read_text()) == values_schema()


def test_the_chart_carries_the_alert_rules_of_deploy_monitoring() -> None:
    assert (CHART / "files" / "rules.yaml").read_text() == rules()


@pytest.mark.parametrize("version", ["1.33", "1.34", "1.35", "1.36", "1.37"])
@by_name(RENDERED)
def test_every_object_meets_the_published_schema(path: Path, version: str) -> None:
    """Strict: a misspelt field fails. A kind that a version does not have yet is what the chart refuses to render there."""
    for document in documents(path.read_text()):
        if document["kind"].startswith("MutatingAdmission") and version < "1.36":
            continue
        kubernetes_validate.validate(document, version, strict=True)


@pytest.mark.parametrize("version", VERSIONS)
@by_name(VALUES)
def test_lint_finds_nothing(path: Path, version: str) -> None:
    done = helm("lint", "--strict", "--quiet", "--kube-version", version, "--values", str(path), str(CHART))
    assert done.returncode == 0, done.stdout + done.stderr


def test_lint_finds_nothing_in_the_example_agent(tmp_path: Path) -> None:
    done = helm("lint", "--strict", "--quiet", str(example_agent(tmp_path)))
    assert done.returncode == 0, done.stdout + done.stderr


@by_name(RENDERED)
def test_the_settings_that_are_rendered_are_the_products(path: Path, tmp_path: Path) -> None:
    """By the reader that the sidecar itself uses, with the variables of its container."""
    for document in documents(path.read_text()):
        if document["kind"] == "ConfigMap" and "sidegate.yaml" in document["data"]:
            file = tmp_path / "sidegate.yaml"
            file.write_text(document["data"]["sidegate.yaml"])
            settings = read(file, variables(path))
            assert settings.probe_port.host == "10.0.0.7"
            assert settings.agent["service_account"] == "buyer"
            return
    pytest.fail("there are no settings")


def variables(path: Path) -> dict[str, str]:
    """The sidecar's environment, with what the downward API would say."""
    facts = {"metadata.name": "p", "metadata.namespace": "agents", "spec.serviceAccountName": "buyer"}
    facts["status.podIP"] = "10.0.0.7"
    found = dict[str, str]()
    for entry in sidecar(path)["env"]:
        given = entry.get("value") or facts[entry["valueFrom"]["fieldRef"]["fieldPath"]]
        found[entry["name"]] = re.sub(r"\$\((\w+)\)", lambda match: found[match[1]], given)
    return found


def sidecar(path: Path) -> Json:
    for document in documents(path.read_text()):
        pod = document.get("template") or document.get("spec", {}).get("template") or {}
        for container in pod.get("spec", {}).get("initContainers", []):
            if container["name"] == "sidegate":
                found: Json = container
                return found
    raise AssertionError(f"there is no sidecar in {path.name}")


@pytest.mark.parametrize(
    ("size", "volume"),
    [
        ("1Gi", 1024**3 // 10 * 9),
        ("500M", 450000000),
        ("40000000", 36000000),
        ("32Mi", 32 * 1024**2 // 10 * 9),
        ("2Ti", 2 * 1024**4 // 10 * 9),
    ],
)
def test_the_journal_knows_the_bound_of_an_emptydir(tmp_path: Path, size: str, volume: int) -> None:
    """Which its file system does not tell: nine tenths, since at the whole the kubelet evicts the pod. A claim tells its own,
    and so does who sets it."""
    for claim, own, expected in (("", {}, volume), ("journal", {}, 0), ("", {"limits": {"state_bytes": 7}}, 0)):
        file = tmp_path / "values.json"
        file.write_text(json.dumps(values(state={"claim": claim, "sizeLimit": size}, settings=own, extraEnv=[])))
        rendered = tmp_path / "rendered.yaml"
        rendered.write_text(template(CHART, "--values", str(file)))
        assert int(variables(rendered).get("SIDEGATE_LIMITS__STATE_BYTES", 0)) == expected


@by_name(RENDERED)
def test_the_sidecar_never_runs_with_more_than_it_needs(path: Path) -> None:
    rights = sidecar(path)["securityContext"]
    assert rights["readOnlyRootFilesystem"]
    assert not rights["allowPrivilegeEscalation"]
    assert (rights["runAsUser"], rights["capabilities"]) == (26500, {"drop": ["ALL"]})
    assert sidecar(path)["resources"]["requests"]["memory"] == sidecar(path)["resources"]["limits"]["memory"]
    assert "cpu" not in sidecar(path)["resources"]["limits"]


@pytest.mark.parametrize("number", [999000, 1000000, 10**7, 1234567890])
def test_a_big_number_stays_the_number_that_was_written(tmp_path: Path, number: int) -> None:
    """Helm reads numbers as floats, and prints those from a million on as 1e+06."""
    file = tmp_path / "values.json"
    given: Json = {
        "telemetry": {"OTEL_BSP_MAX_QUEUE_SIZE": number, "OTEL_TRACES_SAMPLER_ARG": 0.25, "OTEL_SDK_DISABLED": False},
        "security": {"uid": number, "opaUid": number + 1, "gid": number + 2},
        "identity": {"audience": "sidegate", "expirationSeconds": number},
        "settings": {"limits": {"state_bytes": number}},
    }
    file.write_text(json.dumps(values(**given)))
    text = template(CHART, "--values", str(file))
    assert "e+0" not in text
    rendered = {document["metadata"]["name"]: document for document in documents(text)}
    pod = rendered["sidegate"]["template"]["spec"]
    by_name = {container["name"]: container for container in pod["initContainers"]}
    env = {entry["name"]: entry.get("value") for entry in by_name["sidegate"]["env"]}
    assert [env[name] for name in given["telemetry"]] == [str(number), "0.25", "false"]
    users = [by_name[name]["securityContext"]["runAsUser"] for name in ("sidegate", "sidegate-opa")]
    assert [*users, by_name["sidegate"]["securityContext"]["runAsGroup"]] == [number, number + 1, number + 2]
    identity = next(volume for volume in pod["volumes"] if volume["name"] == "sidegate-identity")
    assert identity["projected"]["sources"][0]["serviceAccountToken"]["expirationSeconds"] == number
    settings = yaml.safe_load(rendered["agents-sidegate"]["data"]["sidegate.yaml"])
    assert settings["limits"] == {"state_bytes": number}


def test_an_operator_gets_its_objects(tmp_path: Path) -> None:
    file = tmp_path / "values.yaml"
    file.write_text(
        json.dumps(values(metrics={"podMonitor": True, "prometheusRule": True, "labels": {"release": "p"}}))
    )
    kinds = [f"monitoring.coreos.com/v1/{kind}" for kind in ("PodMonitor", "PrometheusRule")]
    text = template(CHART, "--values", str(file), "--api-versions", ",".join(kinds))
    found = {d["kind"]: d for d in documents(text) if d["kind"] in {"PodMonitor", "PrometheusRule"}}
    assert found["PodMonitor"]["spec"]["podMetricsEndpoints"] == [{"port": "sidegate-probe", "path": "/metrics"}]
    assert found["PodMonitor"]["spec"]["selector"]["matchExpressions"][0]["values"] == ["true", "included"]
    assert found["PrometheusRule"]["spec"] == yaml.safe_load(rules())
    assert found["PodMonitor"]["metadata"]["labels"]["release"] == "p"
    assert found["PrometheusRule"]["metadata"]["labels"]["release"] == "p"


def test_no_chart_asks_the_cluster_or_names_a_registry_of_packages() -> None:
    for path in HELM.rglob("*"):
        if path.is_file():
            assert "lookup" not in path.read_text()
