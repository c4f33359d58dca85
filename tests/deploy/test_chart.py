"""The charts: pages have not drifted, every published schema accepts them, mistakes get a sentence, settings are the product's."""

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
    ("size", "volume"), [("1Gi", 1024**3 // 10 * 9), ("500M", 450000000), ("1000", 900), ("2Ti", 2 * 1024**4 // 10 * 9)]
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


# What somebody may get wrong, and a part of the sentence that has to follow.
MISTAKES: dict[str, tuple[Json, str]] = {
    "a typo": ({"imag": {}}, "'imag' not allowed"),
    "a typo below": ({"tokens": {"secrte": "x"}}, "'secrte' not allowed"),
    "no repository": ({"image": {"tag": "1"}}, "image.repository: say where the image is"),
    "an image without tag or digest": ({"image": {"repository": "r"}}, "image: set digest (better) or tag"),
    "a digest that is none": ({"image": {"repository": "r", "digest": "sha256:1"}}, "/image/digest"),
    "no catalog": ({"catalog": {}}, "catalog: set files or configMap"),
    "two catalogs": ({"catalog": {"files": {"a.yaml": "x"}, "configMap": "c"}}, "not both"),
    "no policy": ({"policy": {}}, "without a policy nothing is allowed"),
    "two policies": ({"policy": {"source": "x", "bundle": {"configMap": "c"}}}, "set source or bundle, not both"),
    "two bundles": (
        {"policy": {"bundle": {"configMap": "c", "url": "https://h/b"}}},
        "policy.bundle: set configMap or url, not both",
    ),
    "a bundle from a server without key": ({"policy": {"bundle": {"url": "https://h/b"}}}, "has to be signed"),
    "a bundle in clear text": ({"policy": {"bundle": {"url": "http://h/b"}}}, "/policy/bundle/url"),
    "a bundle in a registry without key": ({"policy": {"bundle": {"url": "oci://h/p:1"}}}, "has to be signed"),
    "a bundle in a registry without tag": ({"policy": {"bundle": {"url": "oci://h/p"}}}, "/policy/bundle/url"),
    "a team's bundle without key": (
        {"policy": {"bundle": {"configMap": "c", "teams": {"payments": {"url": "oci://h/p:1"}}}}},
        "the bundle of team payments comes from a server and has to be signed",
    ),
    "nobody's tokens": ({"tokens": {}}, "otherwise every conversation is anonymous"),
    "users are reviewers": ({"reviewers": {"secret": "users"}}, "users approve their own calls"),
    "a credential without Secret": ({"credentials": {"crm": {"key": "t", "as": "bearer"}}}, "secret"),
    "a credential of another kind": (
        {"credentials": {"c": {"secret": "s", "key": "t", "as": "x"}}},
        "/credentials/c/as",
    ),
    "a header without name": (
        {"credentials": {"crm": {"secret": "s", "key": "t", "as": "header"}}},
        "credentials.crm.header: name the header",
    ),
    "another mode": ({"mode": "both"}, "/mode"),
    "settings that are the chart's": (
        {"settings": {"opa": {"mode": "supervised"}}},
        "settings.opa: the chart sets this",
    ),
    "the root user": ({"security": {"uid": 0}}, "/security/uid"),
    "a typo in the settings": ({"settings": {"patiense": "2s"}}, "'patiense' not allowed"),
    "a setting of the wrong kind": ({"settings": {"patience": 2}}, "/settings/patience"),
    "one user for OPA and sidecar": ({"security": {"opaUid": 26500}}, "security.opaUid: must be another"),
    "one port twice": ({"ports": {"agent": 8901}}, "ports: two of them are the same"),
    "a privileged port": ({"ports": {"agent": 80}}, "/ports/agent"),
    "a store without Secret": ({"store": {"url": "rediss://v:6379/0"}}, "store.secret: name the Secret"),
    "a store in clear text": ({"store": {"url": "redis://v:6379/0", "secret": "s"}}, "/store/url"),
    "keys of no issuer": ({"identity": {"audience": "sidegate", "jwks": "{}"}}, "identity.issuer: say which issuer"),
    "tokens for nobody": ({"identity": {"issuer": "https://k", "jwks": "{}"}}, "identity.audience: say for whom"),
    "a desk without store": ({"desk": {"enabled": True}}, "desk.enabled: a desk answers the holds of a shared store"),
    "a guard of nothing": ({"injection": {"enabled": False, "guard": True}}, "injection.guard:"),
    "a variable that is not OpenTelemetry's": ({"telemetry": {"PATH": "x"}}, "telemetry.PATH: only variables whose"),
    "a credential whose name is no volume's": (
        {"credentials": {"CRM": {"secret": "s", "key": "t", "as": "bearer"}}},
        "credentials.CRM: a volume has this name, so take lower-case letters",
    ),
    "a team whose name is no package's": (
        {"policy": {"bundle": {"configMap": "c", "teams": {"Pay-EU": {"configMap": "p"}}}}},
        "policy.bundle.teams.Pay-EU: a Rego package has this name",
    ),
    "a catalog in JSON": ({"catalog": {"files": {"crm.json": "{}"}}}, "catalog.files: crm.json is not the name of"),
    "a size that is none": ({"state": {"sizeLimit": "lots"}}, "state.sizeLimit: lots is not a size"),
    "no size": ({"state": {"sizeLimit": "0Gi"}}, "state.sizeLimit: 0Gi is not a size"),
    "runbooks at no URL": ({"metrics": {"runbooks": "deploy/runbooks"}}, "/metrics/runbooks"),
    "a Role for nobody": ({"rbac": {"platform": [{"kind": "Team", "name": "x"}]}}, "/rbac/platform/0/kind"),
    "a monitor where there is no operator": (
        {"metrics": {"podMonitor": True}},
        "metrics.podMonitor: this cluster has no",
    ),
    "rules where there is no operator": ({"metrics": {"prometheusRule": True}}, "metrics.prometheusRule: this cluster"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_gets_a_sentence_that_says_what_to_set(tmp_path: Path, mistake: str) -> None:
    changes, sentence = MISTAKES[mistake]
    file = tmp_path / "values.yaml"
    file.write_text(json.dumps(values(**changes)))
    done = helm("template", "agents", str(CHART), "--kube-version", VERSIONS[-1], "--values", str(file))
    assert done.returncode != 0
    assert sentence in done.stderr


def test_without_mistakes_the_same_values_render(tmp_path: Path) -> None:
    file = tmp_path / "values.yaml"
    file.write_text(json.dumps(values()))
    assert template(CHART, "--values", str(file))


def test_an_old_cluster_is_told_what_to_do_instead(tmp_path: Path) -> None:
    file = tmp_path / "values.yaml"
    file.write_text(json.dumps(values()))
    done = helm("template", "agents", str(CHART), "--kube-version", "1.35.0", "--values", str(file))
    assert "include the named templates in the agent's chart" in done.stderr


def test_nothing_is_injected_into_the_clusters_own_namespace(tmp_path: Path) -> None:
    file = tmp_path / "values.yaml"
    file.write_text(json.dumps(values()))
    done = helm("template", "agents", str(CHART), "--kube-version", "1.37.0", "-n", "kube-system", "-f", str(file))
    assert "install into the agents' namespace" in done.stderr


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
