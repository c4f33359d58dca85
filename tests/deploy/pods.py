"""Pods that ask for the sidecar, and every way of weakening them."""

import copy
from collections.abc import Callable
from typing import Any

Json = dict[str, Any]
UID = 26500
SECRET = "crm-token"  # holds an upstream's credential
HEADERS, CLIENT = (
    "collector-headers",
    "client-certificate",
)  # Secrets that the sidecar gets by extraEnv and extraVolumes
CLAIM = "agents-journal"
LABEL = "sidegate.dev/inject"


def agent(name: str = "agent", **container: Any) -> Json:
    """A pod that meets the level `restricted` and asks for the sidecar."""
    rights = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    return {
        "metadata": {"name": name, "labels": {LABEL: "true"}},
        "spec": {
            "serviceAccountName": "buyer",
            "automountServiceAccountToken": False,
            "securityContext": {"runAsNonRoot": True, "runAsUser": 10001, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [
                {"name": "agent", "image": "registry.example/agent:1", "securityContext": rights, **container}
            ],
        },
    }


def values(**changes: Any) -> Json:
    """Values of a release that injects and guards."""
    return {
        "image": {"repository": "registry.example/sidegate", "digest": f"sha256:{'a' * 64}"},
        "catalog": {"files": {"crm.yaml": "systems: {crm: {audience: internal}}\n"}},
        "policy": {"source": "schema: 1\n"},
        "tokens": {"secret": "users"},
        "reviewers": {"secret": "reviewers"},
        "credentials": {"crm": {"secret": SECRET, "key": "token", "as": "bearer"}},
        "state": {"claim": CLAIM},
        "extraEnv": [{"name": "COLLECTOR_HEADERS", "valueFrom": _key_of(HEADERS)}],
        "extraVolumes": [{"name": "client", "projected": {"sources": [{"secret": {"name": CLIENT}}]}}],
        "extraVolumeMounts": [{"name": "client", "mountPath": "/etc/client", "readOnly": True}],
        "injection": {"enabled": True, "guard": True},
        **changes,
    }


def _key_of(secret: str) -> Json:
    return {"secretKeyRef": {"name": secret, "key": "token"}}


Weaken = Callable[[Json], None]


def _inits(pod: Json) -> list[Json]:
    found: list[Json] = pod["spec"]["initContainers"]
    return found


def _ours(pod: Json, name: str = "sidegate") -> Json:
    return next(c for c in _inits(pod) if c["name"] == name)


def _agent(pod: Json) -> Json:
    found: Json = pod["spec"]["containers"][0]
    return found


def _set(holder: Json, path: str, value: Any) -> None:
    *parents, leaf = path.split(".")
    for parent in parents:
        holder = holder.setdefault(parent, {})
    holder[leaf] = value


def _drop(pod: Json, name: str) -> None:
    pod["spec"]["initContainers"] = [c for c in _inits(pod) if c["name"] != name]


def _volume(pod: Json, source: Json) -> None:
    pod["spec"]["volumes"].append({"name": "extra", **source})


def _second(pod: Json, **fields: Any) -> None:
    pod["spec"]["containers"].append({**copy.deepcopy(_agent(pod)), "name": "second", **fields})


def _swap_volume(pod: Json, name: str, source: Json) -> None:
    pod["spec"]["volumes"] = [{"name": name, **source} if v["name"] == name else v for v in pod["spec"]["volumes"]]


def _volume_of(pod: Json, name: str) -> Json:
    return next(v for v in pod["spec"]["volumes"] if v["name"] == name)


def _hide_program(pod: Json) -> None:
    _volume(pod, {"configMap": {"name": "mine"}})
    _ours(pod)["volumeMounts"].append({"name": "extra", "mountPath": "/opt/sidegate/lib"})


def _user_in_one_container_only(pod: Json) -> None:
    pod["spec"]["securityContext"].pop("runAsUser")
    _second(pod)
    _set(_agent(pod), "securityContext.runAsUser", 7)


def _privileged(pod: Json) -> None:
    _agent(pod)["securityContext"].pop("allowPrivilegeEscalation")
    _set(_agent(pod), "securityContext.privileged", True)


# What is done to a pod that came out of injection whole, and a word of the sentence that has to follow.
WEAKENED: dict[str, tuple[Weaken, str]] = {
    "no OPA": (lambda p: _drop(p, "sidegate-opa"), "does not have it"),
    "no verification of the bundle": (lambda p: _drop(p, "sidegate-install"), "does not have it"),
    "something runs before it": (
        lambda p: _inits(p).insert(0, {**copy.deepcopy(_agent(p)), "name": "before"}),
        "must come first",
    ),
    "another image": (lambda p: _set(_ours(p), "image", "registry.example/other:1"), "differs"),
    "another OPA": (lambda p: _set(_ours(p, "sidegate-opa"), "image", "registry.example/other:1"), "differs"),
    "another command": (lambda p: _set(_ours(p), "command", ["sleep", "infinity"]), "differs"),
    "other arguments": (lambda p: _set(_ours(p), "args", ["serve", "--settings", "/tmp/x"]), "differs"),
    "another setting by environment": (
        lambda p: _ours(p)["env"].append({"name": "SIDEGATE_REGISTRATION", "value": "claimed"}),
        "differs",
    ),
    "settings from a ConfigMap": (
        lambda p: _set(_ours(p), "envFrom", [{"configMapRef": {"name": "mine"}}]),
        "differs",
    ),
    "a hook": (lambda p: _set(_ours(p), "lifecycle", {"postStart": {"exec": {"command": ["true"]}}}), "differs"),
    "it ends after its start": (lambda p: _ours(p).pop("restartPolicy"), ""),
    "it runs as the agent": (lambda p: _set(_ours(p), "securityContext.runAsUser", 10001), "another user"),
    "it may write its root": (lambda p: _set(_ours(p), "securityContext.readOnlyRootFilesystem", False), "more rights"),
    "its probe runs a command": (
        lambda p: _set(
            _ours(p), "livenessProbe", {"exec": {"command": ["cat", "/etc/sidegate/credentials/crm/token"]}}
        ),
        "differs",
    ),
    "it has another working directory": (lambda p: _set(_ours(p), "workingDir", "/tmp"), "differs"),
    "it may gain privileges": (
        lambda p: _set(_ours(p), "securityContext.allowPrivilegeEscalation", True),
        "more rights",
    ),
    "it may reroute": (lambda p: _set(_ours(p), "securityContext.capabilities.add", ["NET_ADMIN"]), "more rights"),
    "a mount is missing": (lambda p: _ours(p)["volumeMounts"].pop(1), "other mounts"),
    "a mount hides its program": (_hide_program, "other mounts"),
    "a mount shows another folder of its volume": (
        lambda p: _set(_ours(p)["volumeMounts"][1], "subPath", "other"),
        "other mounts",
    ),
    "its tokens are another key of the Secret": (
        lambda p: _volume_of(p, "sidegate-tokens")["secret"].update(items=[{"key": "mine", "path": "tokens.yaml"}]),
        "something else",
    ),
    "its settings come from elsewhere": (
        lambda p: _swap_volume(p, "sidegate-settings", {"configMap": {"name": "mine"}}),
        "something else",
    ),
    "its tokens come from elsewhere": (
        lambda p: _swap_volume(p, "sidegate-tokens", {"secret": {"secretName": "mine"}}),
        "something else",
    ),
    "the agent mounts the state": (
        lambda p: _set(_agent(p), "volumeMounts", [{"name": "sidegate-state", "mountPath": "/x"}]),
        "mounts a volume of Sidegate's",
    ),
    "the agent takes a variable from a file of our volumes": (
        lambda p: _set(
            _agent(p),
            "env",
            [{"name": "T", "valueFrom": {"fileKeyRef": {"volumeName": "sidegate-run", "path": "f", "key": "T"}}}],
        ),
        "mounts a volume of Sidegate's",
    ),
    "an init container mounts OPA's socket": (
        lambda p: _inits(p).append(
            {**copy.deepcopy(_agent(p)), "name": "late", "volumeMounts": [{"name": "sidegate-run", "mountPath": "/x"}]}
        ),
        "mounts a volume of Sidegate's",
    ),
    "the credential's Secret in a volume": (
        lambda p: _volume(p, {"secret": {"secretName": SECRET}}),
        "Secret or claim of Sidegate's",
    ),
    "the credential's Secret in a projected volume": (
        lambda p: _volume(p, {"projected": {"sources": [{"secret": {"name": SECRET}}]}}),
        "Secret or claim of Sidegate's",
    ),
    "the credential's Secret in the environment": (
        lambda p: _set(_agent(p), "env", [{"name": "T", "valueFrom": _key_of(SECRET)}]),
        "Secret or claim of Sidegate's",
    ),
    "a Secret of the sidecar's environment": (
        lambda p: _set(_agent(p), "env", [{"name": "T", "valueFrom": _key_of(HEADERS)}]),
        "Secret or claim of Sidegate's",
    ),
    "a Secret of the sidecar's projected volume": (
        lambda p: _volume(p, {"secret": {"secretName": CLIENT}}),
        "Secret or claim of Sidegate's",
    ),
    "the credential's Secret as environment": (
        lambda p: _set(_agent(p), "envFrom", [{"secretRef": {"name": SECRET}}]),
        "Secret or claim of Sidegate's",
    ),
    "the journal's claim once more": (
        lambda p: _volume(p, {"persistentVolumeClaim": {"claimName": CLAIM}}),
        "Secret or claim of Sidegate's",
    ),
    "the agent has the sidecar's user": (
        lambda p: _set(_agent(p), "securityContext.runAsUser", UID),
        "runAsUser of its own",
    ),
    "the agent has OPA's user": (
        lambda p: _set(_agent(p), "securityContext.runAsUser", UID + 1),
        "runAsUser of its own",
    ),
    "the pod has the sidecar's user": (
        lambda p: _set(p, "spec.securityContext.runAsUser", UID),
        "runAsUser of its own",
    ),
    "no user is set": (lambda p: p["spec"]["securityContext"].pop("runAsUser"), "runAsUser of its own"),
    "a second container without a user": (_user_in_one_container_only, "runAsUser of its own"),
    "shared processes": (lambda p: _set(p, "spec.shareProcessNamespace", True), "shareProcessNamespace"),
    "the node's processes": (lambda p: _set(p, "spec.hostPID", True), "hostPID"),
    "the node's network": (lambda p: _set(p, "spec.hostNetwork", True), "hostNetwork"),
    "the agent may reroute": (
        lambda p: _set(_agent(p), "securityContext.capabilities.add", ["NET_ADMIN"]),
        "capabilities",
    ),
    "the agent may become another user": (
        lambda p: _set(_agent(p), "securityContext.capabilities.add", ["SETUID"]),
        "capabilities",
    ),
    "the agent may trace": (
        lambda p: _set(_agent(p), "securityContext.capabilities.add", ["SYS_PTRACE"]),
        "capabilities",
    ),
    "the agent is privileged": (_privileged, "privileged"),
    "a setuid program may make it root": (
        lambda p: _agent(p)["securityContext"].pop("allowPrivilegeEscalation"),
        "allowPrivilegeEscalation: false",
    ),
    "the node's interprocess communication": (lambda p: _set(p, "spec.hostIPC", True), "hostIPC"),
    "the probe port on the node": (
        lambda p: _set(_ours(p), "ports", [{"containerPort": 8901, "hostPort": 8901}]),
        "differs",
    ),
    "the agent offers a port of the sidecar's on the node": (
        lambda p: _set(_agent(p), "ports", [{"containerPort": 80, "hostPort": 8902}]),
        "in the pod or as hostPort",
    ),
    "the agent takes the sidecar's port": (
        lambda p: _set(_agent(p), "ports", [{"containerPort": 8900}]),
        "ports 8900, 8901, 8902, 8903",
    ),
    "the upstream's name is another host": (
        lambda p: _set(p, "spec.hostAliases", [{"ip": "10.9.9.9", "hostnames": ["crm.crm.svc"]}]),
        "hostAliases",
    ),
    "names are asked of somebody else": (
        lambda p: _set(p, "spec.dnsConfig", {"nameservers": ["10.9.9.9"]}),
        "dnsConfig",
    ),
    "names are looked for elsewhere": (
        lambda p: _set(p, "spec.dnsConfig", {"searches": ["evil.example"]}),
        "dnsConfig",
    ),
    "Services become settings": (lambda p: _set(p, "spec.enableServiceLinks", True), "enableServiceLinks"),
    "the node's files": (lambda p: _volume(p, {"hostPath": {"path": "/"}}), "hostPath"),
}
