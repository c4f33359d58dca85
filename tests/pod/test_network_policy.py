"""The NetworkPolicy that the chart renders, in force around a running pod: what gets out of it, and what gets in."""

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.deploy.chart_pages import CHART, EXAMPLES, documents, template
from tests.pod.kernel import Network
from tests.pod.networks import STRANGER
from tests.pod.outside import UPSTREAM_PORT
from tests.pod.policies import rules
from tests.pod.rig import PORTS, PodRig

OWN_PORT = 7000  # of something that the agent itself serves
CONNECT = """
import socket
try:
    socket.create_connection(("{host}", {port}), 2).close()
    print("in")
except OSError:
    print("out")
"""
Json = dict[str, Any]


def policy_of(text: str) -> Json:
    """The one about the pods with the sidecar."""
    found: Json = next(d["spec"] for d in documents(text) if d["kind"] == "NetworkPolicy")
    return found


def put_in_force(pod: PodRig, policy: Json) -> None:
    """The upstreams of namespace `crm` are on the node's address; nobody else that a policy names is there."""
    pod.cable.filter(rules(policy, {"crm": pod.cable.node_address}, pod.cable.node_address))


def gets_out(pod: PodRig, port: int, host: str = "") -> bool:
    """Whether the agent's container can connect to a port outside."""
    return pod.as_agent(CONNECT.format(host=host or pod.cable.node_address, port=port)).stdout == "in\n"


def gets_in(pod: PodRig, source: str, port: int) -> bool:
    """Whether somebody outside can connect to a port of the pod's."""
    with pod.cable.node.inside(), contextlib.suppress(OSError):
        socket.create_connection((pod.cable.pod_address, port), 2, (source, 0)).close()
        return True
    return False


@contextlib.contextmanager
def listening(network: Network, host: str, port: int) -> Iterator[None]:
    with network.inside():
        server = socket.create_server((host, port))
    with server:
        yield


async def test_nothing_gets_out_but_to_the_upstream_that_the_values_name(pod: PodRig) -> None:
    """It binds the whole pod: nothing but the declared upstream is reached, by anybody in it."""
    pod.cable.add_stranger()
    with listening(pod.cable.node, "0.0.0.0", 9999), listening(pod.cable.node, STRANGER, UPSTREAM_PORT):
        places = [(9999, ""), (9999, STRANGER), (UPSTREAM_PORT, STRANGER)]  # another port, another host, both
        assert [await asyncio.to_thread(gets_out, pod, *place) for place in places] == [True] * 3
        await asyncio.to_thread(put_in_force, pod, policy_of((EXAMPLES / "injected.yaml").read_text()))
        assert [await asyncio.to_thread(gets_out, pod, *place) for place in places] == [False] * 3
        assert await asyncio.to_thread(gets_out, pod, UPSTREAM_PORT)
    assert (await pod.send(await pod.register("c1"), "get_stock")).status == 200


async def test_from_elsewhere_the_probe_port_alone_is_reached(pod: PodRig, tmp_path: Path) -> None:
    """By whoever scrapes; the kubelet reaches its probes as ever. What the agent serves is closed until a value opens it."""
    pod.cable.add_stranger()
    await pod.until(pod.ready, "the pod is ready")
    with listening(pod.cable.pod, pod.cable.pod_address, OWN_PORT):
        reached = [(STRANGER, OWN_PORT), (STRANGER, PORTS["probe"]), (pod.cable.node_address, 8903)]
        assert [await asyncio.to_thread(gets_in, pod, *one) for one in reached] == [True] * 3
        await asyncio.to_thread(put_in_force, pod, policy_of((EXAMPLES / "injected.yaml").read_text()))
        assert [await asyncio.to_thread(gets_in, pod, *one) for one in reached] == [False, True, True]
        opened = tmp_path / "opened.yaml"
        opened.write_text(f"networkPolicy: {{ingress: [{{ports: [{{port: {OWN_PORT}, protocol: TCP}}]}}]}}")
        values = ("--values", str(EXAMPLES / "injected.values.yaml"), "--values", str(opened))
        text = await asyncio.to_thread(template, CHART, *values)
        await asyncio.to_thread(pod.cable.filter, "flush ruleset")
        await asyncio.to_thread(put_in_force, pod, policy_of(text))
        assert [await asyncio.to_thread(gets_in, pod, *one) for one in reached] == [True] * 3
    assert pod.kubelet.ready
