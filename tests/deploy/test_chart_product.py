"""What the chart renders, in the hands of the product: `sidegate check` as `helm test` runs it, and what starts before it."""

import os
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from proxy.adapters.token_file import token_line
from tests.deploy.chart_pages import EXAMPLES, documents
from tests.deploy.cluster import REPO, tool
from tests.deploy.machine import wait_until
from tests.e2e.sidecar import free_ports

pytestmark = pytest.mark.slow
# Examples whose catalog and policy stand in their values; the others name ConfigMaps that somebody else makes.
WHOLE = [EXAMPLES / "injected.yaml", EXAMPLES / "single.yaml"]
Json = dict[str, Any]


def pod_of(path: Path) -> Json:
    """The pod of `helm test`, which mounts what the sidecar mounts."""
    found: Json = next(d for d in documents(path.read_text()) if d["kind"] == "Pod")["spec"]
    return found


def mounted(path: Path, root: Path, missing: str = "") -> Path:
    """The files that the pod would see, under `root` instead of `/`, with the mode that a kubelet gives them; `missing` is a volume
    whose object is not there. Returns the settings, with their paths made to fit."""
    pod = pod_of(path)
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    for mount in pod["containers"][0]["volumeMounts"]:
        assert mount.get("readOnly", False) is mount["mountPath"].startswith("/etc/")
        folder = root / mount["mountPath"].lstrip("/")
        folder.mkdir(parents=True)
        for name, text in content(path, volumes[mount["name"]], missing).items():
            (folder / name).write_text(text)
            (folder / name).chmod(0o644)
    file = root / "etc/sidegate/settings/sidegate.yaml"
    if file.exists():
        text = file.read_text()
        for place in ("/etc/sidegate", "/run/sidegate", "/var/lib/sidegate"):
            text = text.replace(place, f"{root}{place}")
        file.write_text(text)
    return file


def content(path: Path, volume: Json, missing: str) -> Json:
    """Of one volume. A missing ConfigMap or Secret that is optional is an empty folder; else the kubelet starts nothing."""
    source = volume.get("configMap") or volume.get("secret")
    if source is None:
        return {}
    if volume["name"] == f"sidegate-{missing}":
        assert source["optional"], f"the pod would stay in ContainerCreating for want of {missing}"
        return {}
    maps = {d["metadata"]["name"]: d["data"] for d in documents(path.read_text()) if d["kind"] == "ConfigMap"}
    users, reviewers = (token_line(subject=name, roles=("user",))[1] for name in ("ada", "rob"))
    secrets = {"sidegate-users": {"tokens.yaml": users}, "sidegate-reviewers": {"reviewers.yaml": reviewers}}
    secrets |= {"crm-token": {"token": "a-credential"}}
    found: Json = maps[source["name"]] if "configMap" in volume else secrets[source["secretName"]]
    return found


def sidegate(settings: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The product, with a read-only mount where the pod has some."""
    etc = str(settings.parents[2])
    only = 'mount --bind "$0" "$0" && mount -o remount,bind,ro "$0" && exec "$@"'
    apart = ["unshare", "--mount", *(() if os.geteuid() == 0 else ("--map-root-user",)), "sh", "-c", only, etc]
    path = f"{Path(tool('opa')).parent}:{os.environ['PATH']}"
    command = [*apart, sys.executable, "-m", "proxy.cli", *arguments, "--settings", str(settings)]
    environment = os.environ | {"PATH": path}
    return subprocess.run(command, cwd=REPO, env=environment, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("path", WHOLE, ids=lambda path: path.name)
def test_what_an_example_brings_is_in_order(path: Path, tmp_path: Path) -> None:
    """Settings, catalog, policy, token files and credentials fit together."""
    settings = mounted(path, tmp_path)
    done = sidegate(settings, *pod_of(path)["containers"][0]["args"][:1])
    assert done.returncode == 0, done.stdout + done.stderr


# A volume whose ConfigMap or Secret is missing, and the sentence that has to follow.
MISSING = {
    "settings": "there is no settings file",
    "catalog": "catalog: has no .yaml or .yml file",
    "policy": "policy.yaml: is not a file",
    "tokens": "tokens.yaml: cannot be read: No such file",
    "reviewers": "reviewers.yaml: cannot be read: No such file",
    "credential-crm": "token: cannot be read: No such file",
}


@pytest.mark.parametrize("missing", MISSING)
def test_what_is_missing_gets_a_sentence(missing: str, tmp_path: Path) -> None:
    """Of the product's own, in the log of the pod, which starts."""
    done = sidegate(mounted(EXAMPLES / "injected.yaml", tmp_path, missing), "check")
    assert done.returncode == 64
    assert MISSING[missing] in done.stderr


def test_every_volume_that_may_be_missing_is_tried() -> None:
    volumes = [v for v in pod_of(EXAMPLES / "injected.yaml")["volumes"] if "configMap" in v or "secret" in v]
    assert {volume["name"].removeprefix("sidegate-") for volume in volumes} == set(MISSING)


@pytest.mark.parametrize("path", [EXAMPLES / "shared.yaml", EXAMPLES / "delivered.yaml"], ids=lambda path: path.name)
def test_no_volume_keeps_a_pod_from_starting_its_containers(path: Path) -> None:
    """Whatever ConfigMap or Secret is missing: the sidecar's, the desk's and the test's volumes are optional."""
    found = documents(path.read_text())
    specs = [d.get("template") or d.get("spec", {}).get("template") or d for d in found]
    volumes = [volume for pod in specs for volume in pod.get("spec", {}).get("volumes", ())]
    named = [volume.get("configMap") or volume.get("secret") for volume in volumes]
    assert len([source for source in named if source]) > 8
    assert [source for source in named if source and not source.get("optional")] == []


def test_the_containers_before_the_sidecar_do_their_part(tmp_path: Path) -> None:
    """The first puts the policy where OPA reads it; OPA, started with the arguments of the second, serves it."""
    settings = mounted(EXAMPLES / "injected.yaml", tmp_path)
    install, opa = template_of(EXAMPLES / "injected.yaml")[:2]
    done = sidegate(settings, *install["args"][:2])
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run/sidegate/policy.tar.gz").stat().st_mode & 0o777 == 0o644
    (port,) = free_ports(1)
    arguments = [
        a.replace("/run/sidegate", f"{tmp_path}/run/sidegate").replace(":8903", f":{port}") for a in opa["args"]
    ]
    environment = {variable["name"]: variable["value"] for variable in opa["env"]}
    with subprocess.Popen([tool("opa"), *arguments], env=environment, stderr=subprocess.PIPE, text=True) as process:
        try:
            wait_until(lambda: process.poll() is not None or healthy(port, opa["startupProbe"]), "OPA is healthy")
            assert process.poll() is None, process.communicate()[1][-2000:]
            assert (tmp_path / "run/sidegate/opa.sock").stat().st_mode & 0o777 == 0o770
        finally:
            process.kill()


def template_of(path: Path) -> list[Json]:
    """The init containers of what is injected."""
    injected = next(
        d for d in documents(path.read_text()) if (d["kind"], d["metadata"]["name"]) == ("PodTemplate", "sidegate")
    )
    found: list[Json] = injected["template"]["spec"]["initContainers"]
    return found


def healthy(port: int, probe: Json) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{probe['httpGet']['path']}", timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def test_opa_takes_the_arguments_about_its_traces(tmp_path: Path) -> None:
    """It starts, and fails for want of the bundle only."""
    for name in ("delivered.yaml", "shared.yaml"):
        arguments = [a.replace("/run/sidegate", str(tmp_path)) for a in template_of(EXAMPLES / name)[1]["args"]]
        assert any("distributed_tracing.address=collector.observability.svc:" in a for a in arguments)
        command = [tool("opa"), *(a.replace(":8903", "127.0.0.1:0") for a in arguments)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
        assert "policy.tar.gz: no such file" in done.stderr + done.stdout
