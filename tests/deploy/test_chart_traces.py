"""What the chart makes of the `OTEL_*` variables: where OPA's own spans go, and of which pod a trace says that it is."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from proxy.adapters.clock import SystemClock
from proxy.adapters.opa_process import OtlpTarget
from proxy.telemetry.setup import instruments
from proxy.telemetry.variables import read_resource
from tests.deploy.chart_pages import CHART, documents, template
from tests.deploy.pods import values

pytestmark = pytest.mark.slow
ANY, TRACES = "OTEL_EXPORTER_OTLP_", "OTEL_EXPORTER_OTLP_TRACES_"
HTTP, GRPC = {f"{ANY}ENDPOINT": "http://c:4318"}, {f"{ANY}ENDPOINT": "http://c:4317", f"{ANY}PROTOCOL": "grpc"}
# Variables, and whether OPA can send its spans there at all.
ASKED: list[tuple[dict[str, str], bool]] = [
    ({}, False),
    (HTTP, True),
    (GRPC, True),
    ({f"{ANY}ENDPOINT": " http://c.ns.svc:4318/ "}, True),
    ({f"{ANY}ENDPOINT": "HTTP://u:p@[fd00::7]:4318"}, True),
    ({f"{ANY}ENDPOINT": "http://c"}, True),
    ({f"{ANY}ENDPOINT": "http://c", f"{ANY}PROTOCOL": "grpc"}, True),
    ({f"{ANY}ENDPOINT": "http://c:4317/path", f"{ANY}PROTOCOL": "grpc"}, True),
    ({f"{ANY}ENDPOINT": "c:4317", f"{ANY}PROTOCOL": "grpc", f"{ANY}INSECURE": "True"}, True),
    ({f"{ANY}ENDPOINT": "c:4317", f"{ANY}PROTOCOL": "grpc"}, False),
    ({f"{ANY}ENDPOINT": "https://c:4318"}, False),
    ({f"{ANY}ENDPOINT": "http://c:4318/otlp"}, False),
    ({f"{ANY}ENDPOINT": "http://c:4318?tenant=a"}, False),
    ({f"{ANY}ENDPOINT": "c:4318"}, False),
    ({f"{TRACES}ENDPOINT": "http://c:4318/v1/traces"}, True),
    ({f"{TRACES}ENDPOINT": "http://c:4318"}, False),
    ({f"{TRACES}ENDPOINT": "http://t:4318/v1/traces", **HTTP}, True),
    ({f"{TRACES}ENDPOINT": "http://t:4317", f"{TRACES}PROTOCOL": "grpc"}, True),
    (HTTP | {f"{TRACES}PROTOCOL": "grpc"}, True),
    (GRPC | {f"{TRACES}PROTOCOL": "http/protobuf"}, True),
    (HTTP | {f"{ANY}PROTOCOL": "http/json"}, True),
    (HTTP | {f"{ANY}HEADERS": "x-tenant=a"}, False),
    (HTTP | {f"{TRACES}HEADERS": "x-tenant=a"}, False),
    (HTTP | {f"{ANY}HEADERS": " "}, True),
    (HTTP | {f"{ANY}HEADERS": "nothing"}, True),
    (HTTP | {"OTEL_SDK_DISABLED": "TRUE"}, False),
    (HTTP | {"OTEL_SDK_DISABLED": "yes"}, True),
    (HTTP | {"OTEL_TRACES_EXPORTER": "none"}, False),
    (HTTP | {"OTEL_TRACES_EXPORTER": "console"}, False),
    (HTTP | {"OTEL_TRACES_EXPORTER": "none, OTLP"}, True),
    ({"OTEL_TRACES_EXPORTER": "otlp"}, True),
    ({"OTEL_TRACES_EXPORTER": "otlp", f"{ANY}PROTOCOL": "grpc"}, True),
    ({"OTEL_TRACES_EXPORTER": ""}, False),
]
Json = dict[str, Any]


def containers(folder: Path, **changes: Any) -> dict[str, Json]:
    """The containers that are injected under these values, by name."""
    file = folder / "values.json"
    file.write_text(json.dumps(values(**changes)))
    rendered = documents(template(CHART, "--values", str(file)))
    (pod,) = [document["template"]["spec"] for document in rendered if document["kind"] == "PodTemplate"]
    return {container["name"]: container for container in pod["initContainers"]}


def opa_target(folder: Path, **changes: Any) -> OtlpTarget | None:
    """Where OPA's arguments send its spans."""
    given = [
        word.partition("=")[2] for word in containers(folder, **changes)["sidegate-opa"]["args"] if "tracing" in word
    ]
    found = dict(word.removeprefix("distributed_tracing.").split("=", 1) for word in given)
    if not found:
        return None
    assert (found["service_name"], found["sample_percentage"]) == ("opa", "0")
    return OtlpTarget(type=found["type"], address=found["address"])


@pytest.mark.parametrize(("variables", "sends"), ASKED, ids=json.dumps)
async def test_opa_sends_its_spans_where_the_product_would_have_it_send_them(
    tmp_path: Path, variables: dict[str, str], sends: bool
) -> None:
    """As `telemetry` and as `extraEnv`, the same as where the sidecar starts OPA itself."""
    made = instruments(variables, SystemClock())
    await made.close()
    assert (made.opa_target is not None) is sends
    assert opa_target(tmp_path, telemetry=variables) == made.opa_target
    listed = [{"name": name, "value": value} for name, value in variables.items()]
    assert opa_target(tmp_path, extraEnv=listed) == made.opa_target


def test_what_only_the_cluster_knows_keeps_opa_from_sending(tmp_path: Path) -> None:
    """Headers in a Secret, an endpoint on the node: OPA's arguments cannot follow them. Its answer to the call does not suffer."""
    secret = {"name": f"{ANY}HEADERS", "valueFrom": {"secretKeyRef": {"name": "otel", "key": "headers"}}}
    node = {"name": f"{ANY}ENDPOINT", "value": "http://$(NODE):4318"}
    for entry in (secret, node):
        assert opa_target(tmp_path, telemetry=HTTP | GRPC, extraEnv=[entry]) is None
    assert opa_target(tmp_path, telemetry=HTTP, extraEnv=[{"name": "OTEL_SERVICE_NAME", "value": "x"}]) is not None


def attributes(container: Json) -> Json:
    """The resource that the product makes of the container's variables, in pod `p` of namespace `agents`."""
    facts = {"metadata.name": "p", "metadata.namespace": "agents"}
    known = dict[str, str]()
    for entry in container["env"]:
        field = entry.get("valueFrom", {}).get("fieldRef", {}).get("fieldPath")
        text = entry["value"] if "value" in entry else facts.get(field, "")
        known[entry["name"]] = re.sub(r"\$\((\w+)\)", lambda match: known[match[1]], text)
    return dict(read_resource(known).attributes)


def test_a_trace_says_of_which_pod_it_is(tmp_path: Path) -> None:
    """By the names of OpenTelemetry's conventions, beside what the values add."""
    given = {"OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=prod", "OTEL_SERVICE_NAME": "buyer-sidegate"}
    for telemetry, more in (({}, {"service.name": "sidegate"}), (given, {"deployment.environment.name": "prod"})):
        found = attributes(containers(tmp_path, telemetry=telemetry)["sidegate"])
        assert found.items() >= more.items()
        kinds = ("k8s.pod.name", "k8s.namespace.name", "k8s.container.name")
        assert [found[kind] for kind in kinds] == ["p", "agents", "sidegate"]


def test_only_a_variable_of_that_name_takes_the_place_of_ours(tmp_path: Path) -> None:
    """Not one whose value speaks of it. Where `extraEnv` has a name, it is the one that counts, and nothing is there twice."""
    telemetry = {"OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=prod", "OTEL_SERVICE_NAME": "buyer-sidegate"}
    speaks = [{"name": "NOTE", "value": "see OTEL_RESOURCE_ATTRIBUTES"}]
    found = attributes(containers(tmp_path, telemetry=telemetry, extraEnv=speaks)["sidegate"])
    assert (found["k8s.pod.name"], found["deployment.environment.name"]) == ("p", "prod")
    own = [{"name": "OTEL_RESOURCE_ATTRIBUTES", "value": "k8s.pod.name=other"}]
    own.append({"name": "OTEL_SERVICE_NAME", "value": "own"})
    for given in ({}, telemetry):
        container = containers(tmp_path, telemetry=given, extraEnv=own)["sidegate"]
        names = [entry["name"] for entry in container["env"]]
        assert sorted(set(names)) == sorted(names)
        found = attributes(container)
        assert (found["k8s.pod.name"], found["service.name"]) == ("other", "own")
        assert "deployment.environment.name" not in found
