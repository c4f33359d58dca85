"""What `startup` measures, in containers (P11): the image of deploy/Dockerfile, run as the chart's example has it, and the bare
forward in the same image under the same limits.

The containers are those of tests/pod: read-only root, user and memory limit of the manifest, OPA in a container of its own. Time
is counted from process 1 of the proxy's container. Root is needed; the first run builds the image, which takes minutes.
Run: python -m tests.benchmarks.container [--rounds 5] [--json FILE] [--write]
"""

import argparse
import asyncio
import contextlib
import json
import shutil
import signal
import socket
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from tests.benchmarks import bare_forward
from tests.benchmarks.load import STATUS, Client, cpu_seconds, rss_mib
from tests.benchmarks.report import Report, Verdict, command, spread
from tests.benchmarks.targets import tmpfs
from tests.benchmarks.world import ARGUMENTS, request
from tests.e2e.rig import echo, native
from tests.e2e.world import tool
from tests.pod.kernel import Network
from tests.pod.kubelet import Container
from tests.pod.outside import UPSTREAM_PORT, bracketed
from tests.pod.probes import http_get
from tests.pod.rig import PORTS, PodRig, Wanted, pod_rig

TOOLS, GRANTS = 200, 10_000
BARE, FRESH, AGAIN = "bare forward", "OPA in its own container, empty state", "OPA in its own container, second start"
LARGE, SINGLE = (
    f"the first with {TOOLS} tools and {GRANTS:,} grants",
    "supervised OPA in the same container, empty state",
)
COLUMNS = {
    "target": "target",
    "first_s": "process 1 to first served call, s",
    "ready_s": "process 1 to ready, s",
    "cpu_s": "its CPU until then, s",
    "rss_mib": "idle RSS MiB",
    "opa_rss_mib": "OPA's RSS MiB",
}
BARE_PORT = 8899
IDLE = 1.0  # seconds after the first call
POLL = 0.002  # seconds
PATIENCE = 60.0  # seconds for a start
Figures = dict[str, float]


async def run(args: argparse.Namespace) -> Report:
    """Every kind once a round; the bare forward first and last in turns."""
    found: dict[str, list[Figures]] = {}
    for number in range(args.rounds):
        async for name, taken in _round(bare_first=number % 2 == 1):
            found.setdefault(name, []).append(taken)
        print(f"  round {number + 1} of {args.rounds}", flush=True)
    rows: list[dict[str, Any]] = [
        {"target": name, **{key: spread(one[key] for one in found[name]) for key in found[name][0]}}
        for name in (BARE, FRESH, AGAIN, LARGE, SINGLE)
    ]
    pairs = zip(found[FRESH], found[BARE], strict=True)
    weight = spread(ours["rss_mib"] / bare["rss_mib"] for ours, bare in pairs)["median"]
    own = {key: spread(one[key] for one in found[FRESH])["median"] for key in ("first_s", "ready_s")}
    return Report(
        name="container",
        columns=COLUMNS,
        rows=rows,
        verdicts=[
            Verdict(budget="P11", what="container to first served call", value=own["first_s"], limit=0.6, unit="s"),
            Verdict(budget="issue 5", what="container to ready", value=own["ready_s"], limit=2.0, unit="s"),
            Verdict(budget="P11", what="idle RSS in the container, to the bare forward's", value=weight, limit=1.35),
        ],
        options={"rounds": args.rounds},
    )


async def _round(*, bare_first: bool) -> AsyncIterator[tuple[str, Figures]]:
    async with _pod() as pod:
        if bare_first:
            yield BARE, await bare(pod)
        yield FRESH, await first_start(pod)
        yield AGAIN, await next_start(pod)
        if not bare_first:
            yield BARE, await bare(pod)
    async with _pod() as pod:
        large(pod)
        pod.put_catalog()
        await asyncio.to_thread(pod.put_policy)
        yield LARGE, await first_start(pod)
    async with _pod(Wanted(example="single")) as pod:
        yield SINGLE, await first_start(pod)


@contextlib.asynccontextmanager
async def _pod(wanted: Wanted | None = None) -> AsyncIterator[PodRig]:
    folder = Path(tempfile.mkdtemp(prefix="sidegate-bench-", dir=tmpfs()))
    folder.chmod(0o755)  # noqa: ASYNC240 - it returns at once. Containers run as other users
    try:
        async with pod_rig(folder, wanted) as pod:
            yield pod
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def large(pod: PodRig) -> None:
    """200 tools, 50 roles for each."""
    schema = {"method": "GET", "path": "/stock/{sku}"}
    pod.catalog["tools"] += [
        tool(f"get_{n}", "inventory", "read", schema) for n in range(TOOLS - len(pod.catalog["tools"]))
    ]
    roles: dict[str, object] = {name: {} for name in ("buyer", *(f"role-{n}" for n in range(GRANTS // TOOLS - 1)))}
    pod.policy["grants"]["tools"] = {entry["name"]: roles for entry in pod.catalog["tools"]}


async def first_start(pod: PodRig) -> Figures:
    """Start the pod; its proxy has an empty state."""
    async with asyncio.TaskGroup() as group:
        group.create_task(pod.start())
        measured = group.create_task(_measured(pod, since=0.0))
    return measured.result()


async def next_start(pod: PodRig) -> Figures:
    """End the proxy; the kubelet starts it again, and it finds journal, checkpoint and bundle."""
    since = time.time()
    pod.sidegate.kill(signal.SIGTERM)
    return await _measured(pod, since=since)


async def bare(pod: PodRig) -> Figures:
    """The yardstick in a container like the proxy's, gone again afterwards."""
    pod.upstream.answer = echo  # it brings no credential
    folder = pod.kubelet.volumes.folder / "bench"
    folder.mkdir(parents=True, exist_ok=True)  # perhaps before the pod has volumes
    shutil.copy(bare_forward.__file__, folder / "bare_forward.py")
    url = f"http://{bracketed(pod.cable.node_address)}:{UPSTREAM_PORT}/stock"
    argv = ["/opt/sidegate/bin/python", "/bench/bare_forward.py", str(BARE_PORT), url]
    one = pod.kubelet.beside("sidegate", "bare", argv, [{"name": "bench", "mountPath": "/bench", "readOnly": True}])
    async with asyncio.timeout(PATIENCE):
        began = await _begun(one, since=0.0)
        client = await _connected(pod.cable.pod, BARE_PORT)
        await _answered(client, request("/", json.dumps(ARGUMENTS).encode()))
    taken = {"first_s": time.time() - began, "cpu_s": cpu_seconds(one.pid)}
    await asyncio.sleep(IDLE)
    taken["rss_mib"] = rss_mib(one.pid)
    one.kill(signal.SIGKILL)
    return taken


async def _measured(pod: PodRig, *, since: float) -> Figures:
    async with asyncio.timeout(PATIENCE):
        await pod.until_true(
            lambda: "sidegate" in pod.kubelet.containers, "OPA has started, and the proxy's turn has come"
        )
        began = await _begun(pod.sidegate, since=since)
        async with asyncio.TaskGroup() as group:
            ready = group.create_task(_ready(pod))
            first = group.create_task(_served(pod))
    taken = {"first_s": first.result() - began, "ready_s": ready.result() - began, "cpu_s": cpu_seconds(pod.pid)}
    await asyncio.sleep(IDLE)
    taken["rss_mib"] = rss_mib(pod.pid)
    taken["opa_rss_mib"] = rss_mib(_opa_pid(pod))
    return taken


async def _begun(one: Container, *, since: float) -> float:
    """When process 1 of a container that began after `since` was made, in seconds since the epoch."""
    while True:
        with contextlib.suppress(FileNotFoundError):
            if (began := one.pid_file.stat().st_mtime) > since:
                return began
        await asyncio.sleep(POLL)


async def _ready(pod: PodRig) -> float:
    """The moment of the first probe that says so, sent as a kubelet sends it."""
    while True:
        answer = await http_get(pod.cable.node, pod.cable.pod_address, PORTS["probe"], "/healthz/ready")
        if answer.good:
            return time.time()
        await asyncio.sleep(POLL)


async def _served(pod: PodRig) -> float:
    """The moment of the first result, asked for at the earliest: register a conversation, call a tool."""
    client = await _connected(pod.cable.pod, PORTS["agent"])
    token = f"authorization: Bearer {pod.users['ada']}"
    body = await _answered(client, request("/v1/conversations/c1", b'{"text":"hello"}', token, method="PUT"))
    handle = f"x-sidegate-conversation: {json.loads(body)['handle']}"
    await _answered(client, request("/v1/tool-calls", native("get_stock").encode(), handle))
    client.transport.close()
    return time.time()


async def _connected(network: Network, port: int) -> Client:
    """A connection inside the pod, as soon as somebody listens."""
    loop = asyncio.get_running_loop()
    while True:
        with network.inside():
            connection = socket.socket()
        connection.setblocking(False)
        try:
            await loop.sock_connect(connection, ("127.0.0.1", port))
        except ConnectionError:
            connection.close()
            await asyncio.sleep(POLL)
            continue
        _, client = await loop.create_connection(Client, sock=connection)
        return client


async def _answered(client: Client, asked: bytes) -> bytes:
    head, body = await client.ask(asked)
    if head[STATUS] != b"200":
        raise RuntimeError(f"not served: {head!r} {body!r}")
    return body


def _opa_pid(pod: PodRig) -> int:
    """Of OPA's container, or of the proxy's child."""
    if "sidegate-opa" in pod.kubelet.containers:
        return pod.kubelet.containers["sidegate-opa"].pid
    return int(Path(f"/proc/{pod.pid}/task/{pod.pid}/children").read_text().split()[0])


if __name__ == "__main__":
    command("container", __doc__, run, rounds=5)
