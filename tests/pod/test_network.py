"""Addresses and probes of the pod: IPv6 only, and a kubelet that probes while the sidecar is busy."""

import asyncio
import statistics

import pytest

from tests.pod.conftest import Pods
from tests.pod.probes import http_get
from tests.pod.rig import PORTS, PodRig, Wanted

ENDS = {(200, ""), (429, "overloaded"), (503, "policy_unavailable")}  # decided, or refused because too much is asked
FORMS = ["example-agent", "single"]
PATIENCE = 5.0  # seconds for one probe, as the chart gives liveness: the machine itself may stand still for a moment


@pytest.mark.parametrize("form", FORMS)
async def test_a_pod_with_ipv6_only(pods: Pods, form: str) -> None:
    """C091: every address is set, none needs IPv4: ports, probes, upstream, the drain."""
    settings = {"agent_port": "[::1]:8900", "review_port": "[::1]:8902"}
    pod = await pods(Wanted(example=form, families="6", agent=("eager",), settings=settings))
    await pod.start()
    await pod.until_true(lambda: len(pod.agent_said()) == 2, "the agent has called")
    assert pod.agent_said()[1]["status"] == 200
    await pod.until(pod.ready, "the pod is ready")
    _, status = await pod.review("GET", "/v1/status")
    assert status["ports"] == {"agent": "[::1]:8900", "review": "[::1]:8902", "probe": "[fd77::2]:8901"}
    answer = await pod.send(await pod.register("c1"), "get_stock")
    assert answer.status == 200
    await pod.kubelet.stop()
    assert pod.sidegate.ends[0][1] == 0
    assert pod.verify() == 0


async def test_ports_of_the_chart_serve_an_ipv6_only_pod_as_they_are(pods: Pods) -> None:
    """127.0.0.1 is there in any pod; only the probe port stands on the pod's own address."""
    pod = await pods(Wanted(families="6"))
    pod.put_settings()
    await pod.start()
    assert (await http_get(pod.cable.pod, "127.0.0.1", PORTS["agent"], "/v1/tools")).status == 200
    await pod.until(pod.ready, "the pod is ready")


async def test_probes_are_answered_while_the_sidecar_is_busy(pod: PodRig) -> None:
    """C085: with 64 callers at once every probe is answered, most within a second, and the container is not ended."""
    await pod.until(pod.ready, "the pod is ready")
    handles = [await pod.register(f"c{n}") for n in range(16)]
    stop = asyncio.Event()

    async def calls(number: int) -> int:
        answered = 0
        while not stop.is_set():
            answered += 1
            answer = await pod.send(handles[number % 16], "get_stock", {"sku": f"S{number}-{answered}"})
            assert (answer.status, answer.code) in ENDS, answer
        return answered

    working = [asyncio.create_task(calls(number)) for number in range(64)]
    took: list[float] = []
    for _ in range(40):
        for path in ("/healthz/live", "/healthz/ready"):
            probed = await http_get(pod.cable.node, pod.cable.pod_address, PORTS["probe"], path, PATIENCE)
            assert probed.good, (path, probed)
            took.append(probed.seconds)
    stop.set()
    answered = sum(await asyncio.gather(*working))
    print(f"{answered} calls; probes {statistics.median(took) * 1000:.0f} ms, the slowest {max(took) * 1000:.0f} ms")
    assert answered > 64
    assert statistics.median(took) < 1.0, took
    assert pod.sidegate.ends == []
    await pod.until(pod.ready, "the pod is ready")
