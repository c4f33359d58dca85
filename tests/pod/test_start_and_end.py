"""Start and end of the pod as the chart renders it, in a kubelet's order and within its grace."""

import asyncio
import signal

import pytest

from tests.e2e.gates import Gate
from tests.e2e.holds import held_price, resume, review_of
from tests.pod.conftest import Pods
from tests.pod.kubelet import Container, StuckError
from tests.pod.outside import TOKEN
from tests.pod.probes import http_get
from tests.pod.rig import PORTS, PodRig, Wanted

FORMS = ["example-agent", "single"]


def ended(one: Container) -> float:
    """When it ended, the one time that it did."""
    ((when, code),) = one.ends
    assert code == 0, (one.spec.name, code, one.said()[-1000:])
    return when


@pytest.mark.parametrize("form", FORMS)
async def test_an_agent_that_calls_in_its_first_moment_is_answered(pods: Pods, form: str) -> None:
    """C086: the startup probe holds the agent back until a call can be decided, and nothing waits for the agent."""
    pod = await pods(Wanted(example=form, agent=("eager",)))
    await pod.start()
    await pod.until_true(lambda: len(pod.agent_said()) == 2, "the agent has called")
    registered, called = pod.agent_said()
    assert (registered["registered"], called["status"]) == (200, 200)
    await pod.until(pod.ready, "the pod is ready")
    (request,) = pod.upstream.received
    assert dict(request.headers)["authorization"] == f"Bearer {TOKEN}"
    assert [one.ends for one in pod.kubelet.containers.values()] == [[]] * len(pod.kubelet.containers)


async def test_the_order_of_the_start_is_install_opa_proxy_agent(pods: Pods) -> None:
    """Each container begins when the one before it is through or has passed its startup probe."""
    pod = await pods()
    await pod.start()
    names = list(pod.kubelet.containers)
    assert names == ["sidegate-install", "sidegate-opa", "sidegate", "agent"]
    begun = [pod.kubelet.containers[name].pid_file.stat().st_mtime_ns for name in names]
    assert begun == sorted(begun)
    assert pod.kubelet.containers["sidegate-install"].said().startswith("/run/sidegate/policy.tar.gz")


async def test_an_end_with_calls_in_flight_and_held(pod: PodRig) -> None:
    """The sidecar is told to end while one call is at its upstream and one is held: the first is answered with its result, the
    second with a definite `review_pending`; readiness falls at once; the journal is whole. Then OPA ends, last."""
    gate = Gate()
    handle, other = await pod.register("c1"), await pod.register("c2")
    for name in ("get_stock", "get_terms"):
        assert (await pod.send(handle, name)).status == 200
    pod.upstream.answer = gate
    held = asyncio.create_task(pod.send(handle, "get_price"))
    working = asyncio.create_task(pod.send(other, "create_order", {"sku": "S", "quantity": 1}))
    await pod.until(gate.has_one, "the order is at the upstream")
    await pod.until_true(lambda: bool(pod.records(kind="review_requested")), "the price is held")
    await pod.until(pod.ready, "the pod is ready")
    stopping = asyncio.create_task(pod.kubelet.stop())
    assert (await held).code == "review_pending"
    shown = await http_get(pod.cable.node, pod.cable.pod_address, PORTS["probe"], "/healthz/ready")
    assert not shown.good
    assert not working.done()
    gate.open.set()
    assert (await working).status == 200
    assert await stopping < 20
    order = [ended(pod.kubelet.containers[name]) for name in ("agent", "sidegate", "sidegate-opa")]
    assert order == sorted(order)
    assert pod.verify() == 0
    (intent,) = [record for record in pod.records(kind="intent") if record["tool"] == "create_order"]
    assert (await pod.ended(intent["call"]))["outcome"] == "done"


async def test_a_call_that_the_agent_makes_while_it_ends_is_served(pods: Pods) -> None:
    """C083: a native sidecar ends after the app; the app's own way to its end may need a tool."""
    pod = await pods(Wanted(agent=("late",)))
    await pod.start()
    await pod.until_true(lambda: bool(pod.agent_said()), "the agent is at work")
    await pod.kubelet.stop()
    _, late = pod.agent_said()
    assert late["status"] == 200
    assert ended(pod.kubelet.containers["agent"]) < ended(pod.kubelet.containers["sidegate"])


async def test_an_app_that_uses_up_the_grace_leaves_the_sidecar_two_seconds(pod: PodRig) -> None:
    """A call at its upstream is cut off then, as far as anybody knows: its intent is on disk, and the next start of the same
    state gives it its terminal record `outcome_unknown`. Nothing acknowledged is lost."""
    handle = await pod.register("c1")
    assert (await pod.send(handle, "get_stock")).status == 200
    gate = Gate()
    pod.upstream.answer = gate
    working = asyncio.create_task(pod.send(handle, "create_order", {"sku": "S", "quantity": 1}))
    await pod.until(gate.has_one, "the order is at the upstream")
    pod.kubelet.containers["agent"].kill(signal.SIGSTOP)  # it does not end
    taken = await pod.kubelet.stop(grace=1.0)
    await asyncio.gather(working, return_exceptions=True)
    assert taken < 1 + 3 * 2 + 3
    assert pod.verify() == 0
    done = [r for r in pod.records(kind="terminal") if r["tool"] == "get_stock"]
    assert [r["outcome"] for r in done] == ["done"]
    await again(pod)
    (cut,) = [r for r in pod.records(kind="terminal") if r["tool"] == "create_order"]
    assert (cut["outcome"], cut["recovered"]) == ("unknown", True)
    assert len(pod.records(kind="terminal")) == len(pod.records(kind="intent")) == 2
    assert pod.verify() == 0


async def again(pod: PodRig) -> None:
    """The pod once more on the same volumes, as after a node's restart."""
    pod.kubelet.stopping = False
    pod.upstream.answer = None
    await pod.start()
    await pod.until(pod.ready, "the pod is ready again")


@pytest.mark.parametrize("form", FORMS)
async def test_a_job_ends_when_its_agent_does(pods: Pods, form: str) -> None:
    """C082, F13: two calls, exit code 0, the sidecars are stopped and their records are on disk."""
    pod = await pods(Wanted(example=form, agent=("job", "2"), job=True))
    await pod.start()
    assert await pod.kubelet.finished() == 0
    assert all(one.ends[0][1] == 0 for one in pod.kubelet.containers.values() if one.spec.sidecar)
    assert [r["outcome"] for r in pod.records(kind="terminal")] == ["done", "done"]
    assert pod.verify() == 0


async def test_a_held_call_does_not_keep_a_job_from_ending(pods: Pods) -> None:
    """The hold stays on record; nobody there, nothing runs."""
    pod = await pods(Wanted(agent=("serve",), job=True))
    await pod.start()
    await pod.until_true(lambda: bool(pod.agent_said()), "the agent is at work")
    held = await held_price(pod, await pod.register("c1"), x_sidegate_patience="0.2")
    pod.kubelet.containers["agent"].kill(signal.SIGTERM)
    assert await pod.kubelet.finished() == 0
    assert pod.records(kind="review_requested", review=review_of(held)) or pod.records(kind="review_requested")
    assert not [request for request in pod.upstream.received if request.target.startswith("/prices/")]
    assert pod.verify() == 0


async def test_kill_9_of_the_proxy_loses_nothing_that_was_acknowledged(pod: PodRig) -> None:
    """The kubelet starts it again on the same volume: results stand, the held call is still held and runs after its yes, the
    call at the upstream is `outcome_unknown`, `sidegate audit verify` in the container passes."""
    handle = await pod.register("c1")
    done = [(await pod.send(await pod.register(f"d{n}"), "get_stock")).call_id for n in range(10)]
    held = await held_price(pod, handle, x_sidegate_patience="0.2")
    gate = Gate()
    pod.upstream.answer = gate
    working = asyncio.create_task(pod.send(await pod.register("c2"), "create_order", {"sku": "S", "quantity": 1}))
    await pod.until(gate.has_one, "the order is at the upstream")
    pod.sidegate.kill(signal.SIGKILL)
    await asyncio.gather(working, return_exceptions=True)
    await pod.until_true(lambda: len(pod.sidegate.ends) == 1, "the proxy is gone")
    await pod.until(pod.ready, "the pod is ready again")
    gate.open.set()
    pod.upstream.answer = None
    for call in done:
        assert (await pod.ended(call))["outcome"] == "done"
    (cut,) = [r for r in pod.records(kind="terminal") if r["tool"] == "create_order"]
    assert cut["outcome"] == "unknown"
    assert (await pod.approve(review_of(held)))[0] == 200
    assert await resume(pod, held, handle) == (200, "")
    shown = pod.kubelet.execute("sidegate", ["sidegate", "audit", "verify", "--dir", "/var/lib/sidegate/state/journal"])
    assert shown.returncode == 0, shown.stderr
    assert pod.kubelet.containers["sidegate-opa"].ends == []


async def test_calls_are_refused_while_opa_is_away(pod: PodRig) -> None:
    """C085: OPA's end is no end of the proxy: live stays, ready falls, every call is refused and none reaches its upstream;
    when OPA is back so are the calls."""
    handle = await pod.register("c1")
    assert (await pod.send(handle, "get_stock")).status == 200
    await pod.until(pod.ready, "the pod is ready")
    back = pod.kubelet.held_back["sidegate-opa"] = asyncio.Event()
    pod.kubelet.containers["sidegate-opa"].kill(signal.SIGKILL)
    await pod.until_true(lambda: not pod.kubelet.containers["sidegate-opa"].alive, "OPA is gone")
    pod.upstream.received.clear()
    for number in range(5):
        refused = await pod.send(handle, "get_stock", {"sku": f"S{number}"})
        assert (refused.status, refused.code) == (503, "policy_unavailable")

    async def unready() -> bool:
        return not (await http_get(pod.cable.node, pod.cable.pod_address, PORTS["probe"], "/healthz/ready")).good

    await pod.until(unready, "the proxy says that it is not ready")
    assert (await http_get(pod.cable.node, pod.cable.pod_address, PORTS["probe"], "/healthz/live")).good
    assert pod.upstream.received == []
    back.set()
    await pod.until(pod.ready, "the pod is ready again")
    assert (await pod.send(handle, "get_stock", {"sku": "S9"})).status == 200
    assert pod.sidegate.ends == []
    assert pod.verify() == 0


async def test_an_upstream_that_is_away_changes_no_probe(pod: PodRig) -> None:
    """C085: what the sidecar cannot mend by a restart is no reason for one."""
    handle = await pod.register("c1")
    await pod.until(pod.ready, "the pod is ready")
    await pod.upstream.stop()
    assert (await pod.send(handle, "get_stock")).status == 502
    for path in ("/healthz/live", "/healthz/ready"):
        assert (await http_get(pod.cable.node, pod.cable.pod_address, PORTS["probe"], path)).good


async def test_a_wrong_configuration_ends_with_its_sentence_and_never_looks_healthy(pods: Pods) -> None:
    """C086: exit 64 from the install container, the sentence in its log, and neither OPA nor the agent are started."""
    pod = await pods()
    pod.settings["patiense"] = "2s"
    pod.put_settings()
    with pytest.raises(StuckError, match=r"ended with 64:\n.*patiense"):
        await pod.start()
    assert list(pod.kubelet.containers) == ["sidegate-install"]
