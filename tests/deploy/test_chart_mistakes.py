"""Mistakes in the chart's values: each gets a sentence that says what to set."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.deploy.chart_pages import CHART, VERSIONS, helm, template
from tests.deploy.pods import values

pytestmark = pytest.mark.slow
Json = dict[str, Any]
PLATFORM = {"platform": [{"kind": "Group", "name": "platform", "apiGroup": "rbac.authorization.k8s.io"}]}
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
    "a size that no journal fits in": (
        {"state": {"sizeLimit": "1Ki"}},
        "state.sizeLimit: 1Ki is so little that the journal would not start; write 32Mi or more",
    ),
    "a size a byte too small": ({"state": {"sizeLimit": "33554431"}}, "write 32Mi or more"),
    "a desk's size, where pods have a claim": (
        {
            "state": {"claim": "journal", "sizeLimit": "1Mi"},
            "store": {"url": "rediss://v:6379/0", "secret": "s"},
            "review": {"tlsSecret": "t"},
            "desk": {"enabled": True},
        },
        "write 32Mi or more",
    ),
    "a key that whoever changes bundles may change, too": (
        {"policy": {"bundle": {"configMap": "c", "publicKey": {"configMap": "c", "key": "k"}}}, "rbac": PLATFORM},
        "policy.bundle.publicKey: rbac.platform may replace the object that it is in",
    ),
    "a key among Secrets that are changed": (
        {"policy": {"bundle": {"configMap": "c", "publicKey": {"secret": "users", "key": "k"}}}, "rbac": PLATFORM},
        "put the key into one of its own",
    ),
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


def test_with_a_claim_nothing_depends_on_the_size(tmp_path: Path) -> None:
    file = tmp_path / "values.yaml"
    file.write_text(json.dumps(values(state={"claim": "journal", "sizeLimit": "1Mi"})))
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
