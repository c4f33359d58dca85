"""What an agent that does not want to be guarded can reach from its own container, as real processes of its user."""

import asyncio
import json
import subprocess
import sys

import pytest

from tests.e2e.holds import held_price, review_of
from tests.pod.container import Spec
from tests.pod.outside import TOKEN, UPSTREAM_PORT
from tests.pod.probes import http_get
from tests.pod.rig import PORTS, REPO, PodRig

DIAL = """
import json, socket, urllib.error, urllib.request
def ask(url, method="GET", headers={}, body=None):
    request = urllib.request.Request(url, body, headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=3) as answer:
            return answer.status
    except urllib.error.HTTPError as refusal:
        return refusal.code
    except (OSError, TimeoutError) as fault:
        return type(getattr(fault, "reason", fault)).__name__
"""
LOOK = """
import json, os, pathlib
found = {}
for place in %r:
    try:
        found[place] = sorted(os.listdir(place)) if os.path.isdir(place) else len(pathlib.Path(place).read_bytes())
    except OSError as no:
        found[place] = type(no).__name__
print(json.dumps(found))
"""
ONLY_THE_SIDECAR = """
table inet guard {
  chain out {
    type filter hook output priority 0; policy accept;
    oifname "lo" accept
    ct state established,related accept
    meta skuid 26500 accept
    reject
  }
}
"""


def dialled(pod: PodRig, expression: str) -> object:
    """What `ask` of DIAL gives in the agent's container."""
    done = pod.as_agent(f"{DIAL}\nprint(json.dumps({expression}))")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def upstream(pod: PodRig, path: str = "/stock/S", port: int = UPSTREAM_PORT) -> str:
    return f"http://{pod.cable.node_address}:{port}{path}"


async def test_a_direct_dial_lacks_the_credential(pod: PodRig) -> None:
    """Level 2: the upstream can be reached, and says 401; the same call through the sidecar is answered."""
    assert (await pod.send(await pod.register("c1"), "get_stock")).status == 200
    assert await asyncio.to_thread(dialled, pod, f"ask({upstream(pod)!r})") == 401
    assert TOKEN not in json.dumps(dict(pod.kubelet.containers["agent"].spec.env))


async def test_rules_by_user_let_only_the_sidecar_out(pod: PodRig) -> None:
    """Level 3, network-enforced, as a CNI plugin or an init container with rights sets it up: the agent cannot connect."""
    await asyncio.to_thread(pod.cable.filter, ONLY_THE_SIDECAR)
    assert await asyncio.to_thread(dialled, pod, f"ask({upstream(pod)!r})") == "ConnectionRefusedError"
    assert (await pod.send(await pod.register("c1"), "get_stock")).status == 200


async def test_nothing_of_the_sidecar_is_in_the_agents_container(pod: PodRig) -> None:
    """State and key, OPA's socket and bundle, tokens, credentials, settings, other containers' processes: not there."""
    await pod.send(await pod.register("c1"), "get_stock")
    places = sorted({wanted["mountPath"] for wanted in pod.sidegate.spec.mounts} - {"/tmp"})
    mounted = f"\nprint(json.dumps([place for place in {places!r} if os.path.ismount(place)]))"
    look = LOOK % [*places, "/proc/1/root/var/lib/sidegate", "/proc"] + mounted
    done = await asyncio.to_thread(pod.as_agent, look)
    found, mounts = map(json.loads, done.stdout.splitlines())
    # The mount points exist, since agent and sidecar share an image here, some for its user only; nothing is mounted there.
    assert mounts == []
    assert {str(found[place]) for place in places} <= {"[]", "FileNotFoundError", "PermissionError"}
    assert [name for name in found["/proc"] if name.isdigit()] == ["1"]


async def test_even_with_our_volumes_another_user_gets_neither_state_nor_socket(pod: PodRig) -> None:
    """A container that mounts them is refused at admission; were it not, file modes still hold state, key, journal and OPA."""
    await pod.send(await pod.register("c1"), "get_stock")
    spec = pod.kubelet._spec(pod.sidegate, [], pod_file := "")
    places = ["/var/lib/sidegate/state", "/var/lib/sidegate/state/key", "/var/lib/sidegate/state/journal"]
    program = LOOK % places + (
        "import socket\ns = socket.socket(socket.AF_UNIX)\n"
        "try:\n  s.connect('/run/sidegate/opa.sock'); print('in')\nexcept PermissionError:\n  print('out')\n"
    )
    intruder = Spec(
        root=spec.root,
        network=spec.network,
        argv=["/opt/sidegate/bin/python", "-c", program],
        env=spec.env,
        uid=10001,
        gid=10001,
        groups=[],
        mounts=spec.mounts,
        pid_file=pod_file,
    )
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "tests.pod.container", intruder.text()],
        cwd=REPO,
        capture_output=True,
        text=True,
        check=True,
    )
    shown, socket_says = done.stdout.splitlines()
    assert set(json.loads(shown).values()) == {"PermissionError"}
    assert socket_says == "out"


async def test_the_review_port_is_reached_and_useless_without_a_reviewers_token(pod: PodRig) -> None:
    """The agent sees the port (one network); neither no token nor its user's token opens it, and the hold stays held."""
    held = await held_price(pod, await pod.register("c1"), x_sidegate_patience="0.2")
    base = f"http://127.0.0.1:{PORTS['review']}/v1"
    user = {"authorization": f"Bearer {pod.users['ada']}", "content-type": "application/json"}
    for headers in ({}, user, {"authorization": "Bearer x"}):
        for path, method in (("/reviews", "GET"), (f"/reviews/{review_of(held)}/approve", "POST"), ("/stops", "POST")):
            answer = await asyncio.to_thread(
                dialled, pod, f"ask({base + path!r}, {method!r}, {headers!r}, {b'{}' if method == 'POST' else None!r})"
            )
            assert answer == 401, (path, headers)
    _, shown = await pod.review("GET", f"/v1/reviews/{review_of(held)}")
    assert shown["status"] == "pending"


async def test_from_outside_the_pod_only_probes_and_opas_health_answer(pod: PodRig) -> None:
    """C091, F10: no agent port, no review port, no policy API on the pod's address."""
    await pod.until(pod.ready, "the pod is ready")
    address = pod.cable.pod_address
    for name in ("agent", "review"):
        assert (await http_get(pod.cable.node, address, PORTS[name], "/")).status == 0
    for path in ("/v1/policies", "/v1/data", "/v1/config", "/v1/data/sidegate/decision/decision"):
        assert (await http_get(pod.cable.node, address, 8903, path)).status == 404
    assert (await http_get(pod.cable.node, address, 8903, "/health")).status == 200
    assert (await http_get(pod.cable.node, address, 8181, "/")).status == 0


@pytest.mark.parametrize("path", ["/healthz/live", "/healthz/ready"])
async def test_probes_need_no_token_and_tell_nothing(pod: PodRig, path: str) -> None:
    """C085: one word."""
    await pod.until(pod.ready, "the pod is ready")
    shown = await http_get(pod.cable.node, pod.cable.pod_address, PORTS["probe"], path)
    assert shown.body in ("live\n", "ready\n")
