"""ConfigMaps change under the running pod as a kubelet swaps them: taken whole, or not at all with a sentence (C089)."""

import asyncio
from typing import Any

import pytest

from tests.e2e.world import tool
from tests.pod.conftest import Pods
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


async def refused(pod: PodRig, *words: str) -> str:
    """Bring the ConfigMaps as they are into the pod; the next failed reload, which says all of the words."""
    before, count = await in_force(pod), len(pod.records(kind="reload", failed=True))
    pod.kubelet.volumes.sync()
    await pod.until_true(lambda: len(pod.records(kind="reload", failed=True)) > count, "a failed reload is on record")
    record = str(pod.records(kind="reload", failed=True)[-1])
    assert all(word in record for word in words), record
    assert (await in_force(pod))["revision"] == before["revision"]
    return record


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
    worse: list[tuple[str, dict[str, bytes] | None]] = [
        ("policy", {"policy.tar.gz": bundle[: len(bundle) // 2]}),
        ("policy", {"policy.tar.gz": b""}),
        ("policy", {"policy.tar.gz": bundle + b"\0" * (9 * MIB)}),
        ("policy", None),
        ("catalog", {"tools.yaml": catalog[: len(catalog) // 2] + b"\n  - ["}),
        ("catalog", {"tools.yaml": b"systems: {inventory: {audience: internal}"}),
        ("catalog", {"tools.yaml": catalog + b"# " + b"x" * (17 * MIB)}),
        ("catalog", None),
    ]
    said = []
    for part, content in worse:
        if content is None:
            del pod.configs[names[part]]
        else:
            pod.configs[names[part]] = content
        said.append(await refused(pod))
        assert (await pod.send(handle, "get_stock", {"sku": f"S{len(said)}"})).status == 200
        assert pod.sidegate.ends == []
        pod.configs[names[part]] = dict(good[names[part]])
    assert len(set(said)) == len(worse), said
    pod.catalog["tools"].append(tool("get_shelf", "inventory", "read", {"method": "GET", "path": "/shelf/{sku}"}))
    pod.put_catalog()
    pod.kubelet.volumes.sync()
    await taken(pod, first)
    assert (await pod.send(handle, "get_shelf")).status == 200
    assert '"level":"error"' in pod.sidegate.said()
    assert pod.verify() == 0


@pytest.mark.parametrize("part", ["settings", "catalog", "policy"])
async def test_a_configmap_that_is_missing_at_the_start_is_a_sentence(pods: Pods, part: str) -> None:
    """Exit 64 with the path, instead of a pod that stays in ContainerCreating and says nothing."""
    pod = await pods()
    del pod.configs[pod._names[part]]
    with pytest.raises(Exception, match=f"ended with 64:\n(?s:.)*/etc/sidegate/{part}"):
        await pod.start()
