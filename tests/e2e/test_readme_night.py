"""What README and the runbooks say to do at night, done in the pod that the chart renders (tests/pod), and on the SRE's machine."""

import asyncio
import base64
import json
import os
import re
import shlex
import socket
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio

from proxy.adapters.token_file import token_line
from tests.e2e.readme_page import REPO, Shell, shell, until
from tests.e2e.rig import Reply, free_ports
from tests.pod.outside import TOKEN
from tests.pod.rig import PodRig, Wanted, pod_rig

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1200),
    pytest.mark.skipif(os.geteuid() != 0, reason="making namespaces and mounts needs root"),
]
PAGES = sorted((REPO / "deploy" / "monitoring").rglob("*.md"))
COMMAND = re.compile(r"kubectl exec POD -c (\S+) -- ([^`]+)`")
INSIDE = sorted({(page.stem, *found) for page in PAGES for found in COMMAND.findall(page.read_text())})
FILLED = {"CODE": "denied", "TOOL": "create_order", "TIME": "2026-01-01"}
OVER = {"sku": "S", "quantity": 101}


@dataclass(frozen=True, slots=True, kw_only=True)
class Night:
    """A pod that refused one call, and the shell of whoever was woken."""

    pod: PodRig
    shell: Shell
    handle: str
    refused: Reply
    forwarded: int

    def reached(self) -> bool:
        """Whether the review port is there on this machine."""
        socket.create_connection(("127.0.0.1", self.forwarded), 1).close()
        return True


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def night(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Night]:
    """The example agent's pod with the journal on standard output, as README's values have it."""
    folder = tmp_path_factory.mktemp("night")
    for place in (folder, *folder.parents[:2]):
        place.chmod(0o755)  # containers run as other users
    (folder / "pod").mkdir(mode=0o755)
    async with pod_rig(folder / "pod", Wanted(settings={"audit_copy": True})) as pod:
        await pod.start()
        handle = await pod.register("buying-bearings")
        refused = await pod.send(handle, "create_order", OVER)
        assert refused.code == "denied"
        (port,) = free_ports(1)
        (folder / "reviewer.token").write_text(pod.reviewers["rob"])
        commands = {"kubectl": kubectl(pod, folder / "state.json")}
        with shell(folder, {"8902": str(port)}, commands=commands) as opened:
            yield Night(pod=pod, shell=opened, handle=handle, refused=refused, forwarded=port)


def kubectl(pod: PodRig, state: Path) -> str:
    """The program of that name, for this pod."""
    sidegate = pod.sidegate
    container = json.loads(pod.kubelet._spec(sidegate, [], pid_file="").text())
    bundle = base64.b64encode(pod.configs[pod._names["policy"]]["policy.tar.gz"]).decode()
    state.write_text(json.dumps({"container": container, "log": str(sidegate.log), "bundle": bundle}))
    program = shlex.join([sys.executable, "-m", "tests.e2e.readme_kubectl", str(state)])
    return f'#!/bin/sh\nPYTHONPATH={shlex.quote(str(REPO))} exec {program} "$@"\n'


async def test_the_refused_call_is_found_in_the_pod_and_in_the_log(night: Night) -> None:
    """By both commands, the same one."""
    said = await asyncio.to_thread(night.shell.copy, "night-find")
    assert said.count(f"call {night.refused.call_id}: create_order v1 refused: denied") == 2, said


async def test_why_is_told_without_the_pod_by_the_bundle_of_the_configmap(night: Night) -> None:
    await asyncio.to_thread(night.shell.type, f"call={night.refused.call_id}")
    said = await asyncio.to_thread(night.shell.copy, "night-explain")
    assert "denied by the same revision: as recorded" in said
    assert "arguments.over_limit" in said


async def test_policy_goes_back_to_the_one_before(night: Night) -> None:
    """A policy that refuses what was allowed comes in; after README's rollback the same call runs."""
    pod = night.pod
    few = {"sku": "S", "quantity": 1}
    before = (await pod.review("GET", "/v1/status"))[1]["policy"]
    pod.policy["grants"]["systems"]["suppliers"].pop("write")
    await asyncio.to_thread(pod.put_policy)
    pod.kubelet.volumes.sync("sidegate-policy")

    async def changed() -> bool:
        return bool((await pod.review("GET", "/v1/status"))[1]["policy"] != before)

    await pod.until(changed, "the new policy is in force")
    assert (await pod.send(night.handle, "create_order", few)).code == "denied"
    said = await asyncio.to_thread(night.shell.copy, "night-policy")
    assert f"in force: back to {before[:12]}" in said
    assert (await pod.send(night.handle, "create_order", few)).status == 200
    await asyncio.to_thread(night.shell.type, "in_pod policy rollback --end")
    assert (await pod.send(night.handle, "create_order", few)).code == "denied"


async def test_a_conversation_is_stopped_from_ones_own_machine(night: Night) -> None:
    """By a port-forward to the pod's loopback; stopped, listed, and running again."""
    await asyncio.to_thread(night.shell.copy, "night-reach")
    await asyncio.to_thread(until, night.reached, "the port is forwarded")
    said = await asyncio.to_thread(night.shell.copy, "night-stop")
    assert "conversation buying-bearings is stopped" in said
    assert re.search(r"^STOPPED .*\nconversation buying-bearings ", said, re.MULTILINE)
    assert "conversation buying-bearings is running again" in said
    assert [record["scope"] for record in night.pod.records(kind="stop")][:1] == ["conversation"]


async def test_a_port_forward_does_not_reach_the_probe_port(night: Night) -> None:
    """It stands on the pod's address, where Prometheus and the API server's proxy find it; a port-forward dials the loopback."""
    dial = "import socket; print(socket.socket().connect_ex(({host!r}, 8901)))"
    there = {
        host: night.pod.as_agent(dial.format(host=host)).stdout.strip()
        for host in ("127.0.0.1", night.pod.cable.pod_address)
    }
    assert there == {"127.0.0.1": "111", night.pod.cable.pod_address: "0"}


@pytest.mark.parametrize(("page", "container", "command"), INSIDE, ids=[f"{e[0]}-{e[2][:40]}" for e in INSIDE])
async def test_what_a_runbook_runs_in_the_pod_can_be_run_there(
    night: Night, page: str, container: str, command: str
) -> None:
    """With its answer, or with "nothing found" or "nothing before": never as a command that is wrong."""
    for word, here in {**FILLED, "CALL_ID": night.refused.call_id}.items():
        command = command.replace(word, here)
    done = await asyncio.to_thread(night.pod.kubelet.execute, container, shlex.split(command))
    assert done.returncode in (0, 1), (page, done.stdout, done.stderr)
    assert "Traceback" not in done.stderr


async def test_a_changed_secret_is_taken_over_without_a_restart(night: Night) -> None:
    """README, "Change": a new user's token is accepted, and an upstream's credential is the newest; no container has ended."""
    pod, names = night.pod, night.pod._names
    secrets = pod.kubelet.volumes.secrets
    token, line = token_line(subject="eve", name="Eve New", tenant="acme", roles=("buyer",))
    secrets[names["tokens"]] = {"tokens.yaml": secrets[names["tokens"]]["tokens.yaml"] + line.encode()}
    secrets[names["credential-crm"]] = {"token": b"not-the-one-that-is-demanded"}
    pod.kubelet.volumes.sync()

    async def accepted() -> bool:
        return (await pod.put("eves", token))[0] == 200

    async def shown() -> bool:
        return (await pod.send(night.handle, "get_stock", {"sku": str(time.monotonic_ns())})).code == "tool_failed"

    await pod.until(accepted, "the new token is accepted")
    await pod.until(shown, "the upstream is shown the new credential, which it does not take")
    secrets[names["credential-crm"]] = {"token": TOKEN.encode()}
    pod.kubelet.volumes.sync()

    async def works() -> bool:
        return (await pod.send(night.handle, "get_stock", {"sku": str(time.monotonic_ns())})).status == 200

    await pod.until(works, "the first credential again")
    assert pod.sidegate.ends == []


def test_runbooks_run_commands_in_the_pod_at_all() -> None:
    """Else the tests above prove nothing."""
    assert len(INSIDE) >= 12
