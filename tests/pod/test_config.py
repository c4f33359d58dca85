"""ConfigMaps change under the running pod as a kubelet swaps them: taken whole, or not at all with a sentence (C089)."""

import asyncio
from typing import Any

import pytest

from tests.e2e.world import tool
from tests.pod.conftest import Pods
from tests.pod.kubelet import StuckError
from tests.pod.rig import PodRig, Wanted

FORMS = ["example-agent", "single"]
MIB = 1 << 20


async def in_force(pod: PodRig) -> dict[str, Any]:
    """The review port's figures."""
    return dict((await pod.review("GET", "/v1/status"))[1])


async def taken(pod: PodRig, before: dict[str, Any]) -> dict[str, Any]:
    """The next revision in force."""
    now = before

    async def changed() -> bool:
        nonlocal now
        now = await in_force(pod)
        return bool(now["revision"] != before["revision"])

    await pod.until(changed, "a new revision is in force")
    return now


async def refused(pod: PodRig) -> str:
    """Bring the ConfigMaps as they are into the pod; what the next failed reload says."""
    before, count = await in_force(pod), len(pod.records(kind="reload", failed=True))
    pod.kubelet.volumes.sync()
    await pod.until_true(lambda: len(pod.records(kind="reload", failed=True)) > count, "a failed reload is on record")
    assert (await in_force(pod))["revision"] == before["revision"]
    return " ".join(pod.records(kind="reload", failed=True)[-1]["problems"])


@pytest.mark.parametrize("form", FORMS)
async def test_a_change_of_catalog_and_of_policy_is_taken_over_between_two_calls(pods: Pods, form: str) -> None:
    """Calls go on all the while; each is decided by the old or by the new, none fails."""
    pod = await pods(Wanted(example=form))
    await pod.start()
    handle, stop = await pod.register("c1"), asyncio.Event()

    async def calls() -> set[tuple[int, str]]:
        seen, number = set(), 0
        while not stop.is_set():
            number += 1
            answer = await pod.send(handle, "create_order", {"sku": f"S{number}", "quantity": 1})
            seen.add((answer.status, answer.code))
        return seen

    working = asyncio.create_task(calls())
    first = await in_force(pod)
    pod.catalog["tools"].append(tool("get_shelf", "inventory", "read", {"method": "GET", "path": "/shelf/{sku}"}))
    pod.put_catalog()
    pod.kubelet.volumes.sync("sidegate-catalog")
    second = await taken(pod, first)
    assert (await pod.send(handle, "get_shelf")).status == 200
    pod.policy["grants"]["systems"]["suppliers"].pop("write")
    await asyncio.to_thread(pod.put_policy)
    pod.kubelet.volumes.sync("sidegate-policy")
    third = await taken(pod, second)
    assert third["policy"] != second["policy"]
    assert (await pod.send(handle, "create_order", {"sku": "S", "quantity": 1})).code == "denied"
    stop.set()
    assert await working <= {(200, ""), (403, "denied")}
    assert pod.sidegate.ends == []


async def test_what_cannot_be_used_changes_nothing_and_says_why(pod: PodRig) -> None:
    """Half of a bundle, half of a catalog, a syntax error, both far too large, a ConfigMap that is gone: the old pair stays in
    force, each has its sentence in the journal and in the log; then a good one is taken over."""
    handle = await pod.register("c1")
    first = await in_force(pod)
    names = {key: pod._names[key] for key in ("policy", "catalog")}
    good = {name: dict(pod.configs[name]) for name in names.values()}
    bundle, catalog = good[names["policy"]]["policy.tar.gz"], good[names["catalog"]]["tools.yaml"]
    worse: list[tuple[str, dict[str, bytes] | None, str]] = [
        ("policy", {"policy.tar.gz": bundle[: len(bundle) // 2]}, "cut short"),
        ("policy", {"policy.tar.gz": b""}, "no tar archive"),
        ("policy", {"policy.tar.gz": bundle + b"\0" * (9 * MIB)}, "larger than 8388608"),
        ("policy", None, "is not there"),
        ("catalog", {"tools.yaml": catalog[: len(catalog) // 2] + b"\n  - ["}, "91:1"),
        ("catalog", {"tools.yaml": b"systems: {inventory: {audience: internal}"}, "2:1"),
        ("catalog", {"tools.yaml": catalog + b"# " + b"x" * (17 * MIB)}, "larger than 4194304"),
        ("catalog", None, "has no .yaml"),
    ]
    for number, (part, content, sentence) in enumerate(worse):
        if content is None:
            del pod.configs[names[part]]
        else:
            pod.configs[names[part]] = content
        assert sentence in await refused(pod)
        assert (await pod.send(handle, "get_stock", {"sku": f"S{number}"})).status == 200
        assert pod.sidegate.ends == []
        pod.configs[names[part]] = dict(good[names[part]])
    pod.catalog["tools"].append(tool("get_shelf", "inventory", "read", {"method": "GET", "path": "/shelf/{sku}"}))
    pod.put_catalog()
    pod.kubelet.volumes.sync()
    await taken(pod, first)
    assert (await pod.send(handle, "get_shelf")).status == 200
    assert '"level":"error"' in pod.sidegate.said()
    assert pod.verify() == 0


@pytest.mark.parametrize("part", ["settings", "catalog", "policy", "tokens", "reviewers"])
async def test_a_configmap_or_secret_that_is_missing_at_the_start_is_a_sentence(pods: Pods, part: str) -> None:
    """Exit 64 with the path, instead of a pod that stays in ContainerCreating and says nothing. The agent is not started."""
    pod = await pods()
    objects = pod.configs if pod._names[part] in pod.configs else pod.kubelet.volumes.secrets
    del objects[pod._names[part]]
    with pytest.raises(StuckError, match=f"(?s)/etc/sidegate/{part}"):
        await pod.start()
    assert "agent" not in pod.kubelet.containers
    (code,) = {code for one in pod.kubelet.containers.values() for _, code in one.ends} or {64}
    assert code == 64


async def test_a_credential_that_is_missing_at_the_start_refuses_the_calls_that_need_it(pods: Pods) -> None:
    """With its sentence; the record names the file; nothing is sent without it. Once the Secret is there they run."""
    pod = await pods()
    secrets = pod.kubelet.volumes.secrets
    held_back = {pod._names["credential-crm"]: secrets.pop(pod._names["credential-crm"])}
    await pod.start()
    handle = await pod.register("c1")
    refused = await pod.send(handle, "get_stock")
    assert (refused.status, refused.code) == (502, "tool_unreachable")
    assert "credential is not available" in str(refused.body)
    assert "/etc/sidegate/credentials/crm/token: cannot be read" in str(await pod.ended(refused.call_id))
    assert pod.upstream.received == []
    secrets |= held_back
    pod.kubelet.volumes.sync()

    async def runs() -> bool:
        return (await pod.send(handle, "get_stock")).status == 200

    await pod.until(runs, "the call runs")


@pytest.mark.parametrize("form", FORMS)
async def test_what_helm_test_asks_is_in_order_in_the_pod(pods: Pods, form: str) -> None:
    """Where Secrets are mounted as a kubelet mounts them; and nobody is warned of their mode."""
    pod = await pods(Wanted(example=form))
    await pod.start()
    assert (pod.kubelet.volumes.folder / "sidegate-credential-crm" / "token").stat().st_mode & 0o777 == 0o644
    done = await asyncio.to_thread(pod.kubelet.execute, "sidegate", ["sidegate", "check", *pod.sidegate.spec.argv[-2:]])
    assert done.returncode == 0, done.stderr
    assert "can read its file" not in pod.sidegate.said()
