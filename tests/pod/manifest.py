"""A pod's manifest as a kubelet reads it: containers in the order of their start, and what each is run with."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Tree = Mapping[str, Any]
_PATH = "PATH=/usr/local/bin:/usr/bin:/bin"


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """An image as a runtime has it: its root and what its configuration says (OCI: Entrypoint, Cmd, Env)."""

    root: Path
    config: Tree


@dataclass(frozen=True, slots=True, kw_only=True)
class Contained:
    """One container of a pod. `sidecar`: an init container that stays; `init`: one that ends before the next begins."""

    name: str
    image: str
    argv: list[str]
    env: dict[str, str]
    uid: int
    gid: int
    mounts: list[Tree]
    memory: str  # its limit, as a quantity; empty if it has none
    init: bool
    sidecar: bool
    probes: dict[str, Tree]
    pre_stop: Tree = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What the platform knows of a pod and tells by the downward API, and the pod's Secrets."""

    name: str = "pod-1"
    namespace: str = "test"
    ip: str
    secrets: Mapping[str, Mapping[str, bytes]] = field(default_factory=dict)
    configs: Mapping[str, Mapping[str, bytes]] = field(default_factory=dict)


def pod_of(manifest: Tree) -> Tree:
    """The pod in a Pod, a Deployment or a Job: {metadata, spec}."""
    pod: Tree = manifest if manifest["kind"] == "Pod" else manifest["spec"]["template"]
    return pod


def containers(pod: Tree, images: Mapping[str, Picture], facts: Facts) -> list[Contained]:
    """All of them in the order of their start. Raises AssertionError for what the level `restricted` would refuse."""
    spec = pod["spec"]
    first = [(entry, True) for entry in spec.get("initContainers", [])]
    return [
        _contained(entry, pod, images[entry["image"]], facts, init)
        for entry, init in [*first, *((entry, False) for entry in spec["containers"])]
    ]


def downward(field_path: str, pod: Tree, facts: Facts) -> str:
    """A field of the downward API."""
    metadata = pod.get("metadata", {})
    if match := re.fullmatch(r"metadata\.(labels|annotations)\['(.+)'\]", field_path):
        return str(metadata.get(match[1], {}).get(match[2], ""))
    known: dict[str, str] = {
        "metadata.name": facts.name,
        "metadata.namespace": facts.namespace,
        "metadata.uid": "11111111-2222-3333-4444-555555555555",
        "spec.serviceAccountName": pod["spec"].get("serviceAccountName", "default"),
        "spec.nodeName": "node-1",
        "status.podIP": facts.ip,
        "status.podIPs": facts.ip,
        "status.hostIP": facts.ip,
    }
    return known[field_path]


def _contained(entry: Tree, pod: Tree, image: Picture, facts: Facts, init: bool) -> Contained:
    security = {**pod["spec"].get("securityContext", {}), **entry.get("securityContext", {})}
    _restricted(entry["name"], security)
    env = _environment(entry, pod, image, facts)
    command = entry.get("command", image.config.get("Entrypoint") or [])
    more = entry.get("args", [] if "command" in entry else image.config.get("Cmd") or [])
    return Contained(
        name=entry["name"],
        image=entry["image"],
        argv=[_expanded(word, env) for word in [*command, *more]],
        env=env,
        uid=security["runAsUser"],
        gid=security.get("runAsGroup", 0),  # as a runtime does for a user that the image does not know
        mounts=list(entry.get("volumeMounts", [])),
        memory=entry.get("resources", {}).get("limits", {}).get("memory", ""),
        init=init,
        sidecar=init and entry.get("restartPolicy") == "Always",
        probes={
            kind: entry[f"{kind}Probe"] for kind in ("startup", "liveness", "readiness") if f"{kind}Probe" in entry
        },
        pre_stop=entry.get("lifecycle", {}).get("preStop", {}),
    )


def _restricted(name: str, security: Tree) -> None:
    wanted = (
        security.get("runAsNonRoot") is True
        and security.get("runAsUser", 0) > 0
        and security.get("allowPrivilegeEscalation") is False
        and "ALL" in security.get("capabilities", {}).get("drop", [])
        and not security.get("capabilities", {}).get("add")
        and security.get("seccompProfile", {}).get("type") == "RuntimeDefault"
        and security.get("readOnlyRootFilesystem") is True
    )
    assert wanted, (
        f"container {name} is run with {security}: not what the level `restricted` and a read-only root ask for"
    )


def _environment(entry: Tree, pod: Tree, image: Picture, facts: Facts) -> dict[str, str]:
    env = dict(pair.split("=", 1) for pair in [_PATH, "HOME=/", *(image.config.get("Env") or [])])
    for variable in entry.get("env", []):
        source = variable.get("valueFrom", {})
        if "fieldRef" in source:
            value = downward(source["fieldRef"]["fieldPath"], pod, facts)
        elif "secretKeyRef" in source:
            value = facts.secrets[source["secretKeyRef"]["name"]][source["secretKeyRef"]["key"]].decode()
        elif "configMapKeyRef" in source:
            value = facts.configs[source["configMapKeyRef"]["name"]][source["configMapKeyRef"]["key"]].decode()
        elif "resourceFieldRef" in source:
            continue
        else:
            value = _expanded(str(variable.get("value", "")), env)
        env[variable["name"]] = value
    return env


def _expanded(word: str, env: Mapping[str, str]) -> str:
    """$(NAME) becomes its value; an unknown name stays as it is, $$ is one $."""
    return re.sub(r"\$\$|\$\(([A-Za-z_][\w.-]*)\)", lambda m: "$" if m[0] == "$$" else env.get(m[1], m[0]), word)
