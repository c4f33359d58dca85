"""What a kubelet does for one pod: order of start, probes, restarts, order and grace of the end (Kubernetes 1.33 and newer).

Faster than a real one in two things only: probes come twice a second, and a container that ended starts again at once.
"""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field, replace
from pathlib import Path

from tests.pod.cgroups import MemoryGroup, memory_group
from tests.pod.container import Spec
from tests.pod.kernel import Network
from tests.pod.manifest import Contained, Facts, Picture, Tree, containers
from tests.pod.probes import ask
from tests.pod.volumes import Volumes

_NOTHING = asyncio.Event()
_NOTHING.set()
REPO = Path(__file__).parents[2]
PERIOD = 0.5  # seconds between probes, whatever the manifest says
LOOP = 4  # ends of a container that has not started yet; a real kubelet goes on, ever more slowly
RESTART = 0.2  # seconds
LEAST_GRACE = 2.0  # seconds that a kubelet gives a container whose pod has used up its grace


class StuckError(Exception):
    """The pod does not get on: which container, why, and the end of its log."""


@dataclass(slots=True, kw_only=True)
class Container:
    """A container of the pod as it stands. `ends`: (monotonic time, exit code) of each of its processes."""

    spec: Contained
    log: Path
    pid_file: Path
    process: subprocess.Popen[bytes] | None = None
    memory: MemoryGroup | None = None
    ends: list[tuple[float, int]] = field(default_factory=list)
    started: bool = False
    ready: bool = False
    failed: dict[str, int] = field(default_factory=lambda: {"liveness": 0, "readiness": 0})
    kept: asyncio.Task[None] | None = None
    watched: asyncio.Task[None] | None = None

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    @property
    def pid(self) -> int:
        """Of process 1, as the machine sees it."""
        return int(self.pid_file.read_text())

    def said(self) -> str:
        """All that it wrote."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def kill(self, number: signal.Signals) -> None:
        """A signal to process 1."""
        if self.alive and self.pid_file.exists():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)


@dataclass(slots=True, kw_only=True)
class Kubelet:
    """One pod on this machine. `images`: what each image name of the manifest stands for; `node`: where probes come from."""

    pod: Tree
    images: dict[str, Picture]
    facts: Facts
    volumes: Volumes
    network: Network
    node: Network
    folder: Path
    restarts: bool = True  # of containers that end, as in a Deployment; a Job's agent is not started again
    containers: dict[str, Container] = field(default_factory=dict)
    stopping: bool = False
    held_back: dict[str, asyncio.Event] = field(default_factory=dict)  # by name: the next start waits, as in a back-off

    async def start(self, patience: float = 60.0) -> None:
        """Volumes, then one container after another. Raises StuckError, MissingError (of a volume)."""
        self.volumes.make()
        for spec in containers(self.pod, self.images, self.facts):
            one = self._begin(spec)
            if spec.init and not spec.sidecar:
                if code := await asyncio.to_thread(_process(one).wait, patience):
                    raise StuckError(f"init container {spec.name} ended with {code}:\n{one.said()[-3000:]}")
                continue
            one.kept = asyncio.create_task(self._keep(one))
            one.watched = asyncio.create_task(self._watch(one))
            await self._started(one, patience)

    async def stop(self, grace: float | None = None) -> float:
        """Delete the pod: the app first, then the sidecars in reverse order, each once the one after it has ended. Whoever is
        there when the grace is used up gets two seconds and is killed. Returns the seconds it took."""
        began, self.stopping = time.monotonic(), True
        end = began + (self.pod["spec"].get("terminationGracePeriodSeconds", 30) if grace is None else grace)
        apps = [one for one in self.containers.values() if not one.spec.init]
        sidecars = [one for one in self.containers.values() if one.spec.sidecar]
        await asyncio.gather(*(self._end(one, end) for one in apps))
        for one in reversed(sidecars):
            await self._end(one, end)
        return time.monotonic() - began

    async def finished(self, patience: float = 60.0) -> int:
        """Wait for a Job's app to end by itself; the sidecars are stopped then. Returns the app's exit code."""
        (app,) = [one for one in self.containers.values() if not one.spec.init]
        code = await asyncio.to_thread(_process(app).wait, patience)
        await self.stop()
        return code

    def execute(self, name: str, argv: list[str], text: str = "") -> "subprocess.CompletedProcess[str]":
        """`kubectl exec`: a command as that container's user, in its network and with its mounts."""
        spec = self._spec(self.containers[name], argv, pid_file="")
        command = [sys.executable, "-m", "tests.pod.container", spec.text()]
        return subprocess.run(
            command, cwd=REPO, capture_output=True, text=True, check=False, timeout=60, input=text or None
        )

    def beside(self, like: str, name: str, argv: list[str], mounts: list[Tree]) -> Container:
        """Another program in a container like that one: its image, user, network and memory limit, these mounts alone. Nobody
        probes it or starts it again; it ends with the pod."""
        (found,) = [spec for spec in containers(self.pod, self.images, self.facts) if spec.name == like]
        spec = replace(found, name=name, argv=argv, mounts=mounts, probes={}, init=True, sidecar=False)
        return self._begin(spec)

    @property
    def ready(self) -> bool:
        """Whether all containers that have a readiness probe are, and the others run."""
        return all(one.ready and one.alive for one in self.containers.values() if not one.spec.init or one.spec.sidecar)

    async def close(self) -> None:
        """Everything is gone when this returns."""
        self.stopping = True
        tasks = [task for one in self.containers.values() for task in (one.kept, one.watched) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for one in self.containers.values():
            if one.process is not None:
                one.process.kill()  # its container ends with it
                await asyncio.to_thread(one.process.wait)
            if one.memory is not None:
                await asyncio.to_thread(one.memory.close)

    def _begin(self, spec: Contained) -> Container:
        one = Container(spec=spec, log=self.folder / f"{spec.name}.log", pid_file=self.folder / f"{spec.name}.pid")
        one.memory = memory_group(spec.name, spec.memory) if spec.memory else None
        self.containers[spec.name] = one
        self._run(one)
        return one

    def _run(self, one: Container) -> None:
        one.pid_file.unlink(missing_ok=True)
        spec = self._spec(one, one.spec.argv, pid_file=str(one.pid_file))
        with one.log.open("ab") as log:
            one.process = subprocess.Popen(
                [sys.executable, "-m", "tests.pod.container", spec.text()],
                cwd=REPO,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def _spec(self, one: Container, argv: list[str], pid_file: str) -> Spec:
        picture = self.images[one.spec.image]
        mounts = []
        for wanted in one.spec.mounts:
            (picture.root / wanted["mountPath"].lstrip("/")).mkdir(parents=True, exist_ok=True)
            source = self.volumes.folder / wanted["name"] / wanted.get("subPath", "")
            mounts.append((str(source), wanted["mountPath"], not wanted.get("readOnly", False)))
        group = self.pod["spec"].get("securityContext", {}).get("fsGroup")
        return Spec(
            root=str(picture.root),
            network=self.network.path,
            argv=argv,
            env=one.spec.env,
            uid=one.spec.uid,
            gid=one.spec.gid,
            groups=[] if group is None else [group],
            cwd=picture.config.get("WorkingDir") or "/",
            hostname=self.facts.name,
            mounts=mounts,
            pid_file=pid_file,
            group=str(one.memory.folder) if one.memory is not None and pid_file else "",
        )

    async def _keep(self, one: Container) -> None:
        """Note each end; start it again while the pod is to run."""
        while True:
            code = await asyncio.to_thread(_process(one).wait)
            one.ends.append((time.monotonic(), code))
            one.started = one.ready = False
            one.failed.update(liveness=0, readiness=0)
            if self.stopping or not (one.spec.sidecar or self.restarts):
                return
            await asyncio.sleep(RESTART)
            await self.held_back.get(one.spec.name, _NOTHING).wait()
            self._run(one)

    async def _started(self, one: Container, patience: float) -> None:
        """The startup probe holds back whoever comes next."""
        end = time.monotonic() + patience
        while not one.started:
            if time.monotonic() > end or len(one.ends) >= LOOP:
                raise StuckError(f"{one.spec.name} does not start, {len(one.ends)} ends:\n{one.said()[-3000:]}")
            await asyncio.sleep(0.02)

    async def _watch(self, one: Container) -> None:
        """The startup probe first, after each start anew; then liveness and readiness. Who is not alive is ended."""
        while not self.stopping:
            if not one.started:
                one.started = one.pid_file.exists() and await self._good(one, "startup")
                one.ready = one.started and "readiness" not in one.spec.probes
                await asyncio.sleep(0.02)
                continue
            for kind, limit in (("liveness", 3), ("readiness", 1)):
                good = await self._good(one, kind)
                one.failed[kind] = 0 if good else one.failed[kind] + 1
                over = one.failed[kind] >= one.spec.probes.get(kind, {}).get("failureThreshold", limit)
                if kind == "readiness" and (good or over):
                    one.ready = good and one.started
                elif over and one.started:
                    one.kill(signal.SIGKILL)
            await asyncio.sleep(PERIOD)

    async def _good(self, one: Container, kind: str) -> bool:
        """What a probe says; one that the manifest does not have is good."""
        probe = one.spec.probes.get(kind)
        return probe is None or (await ask(probe, self.node, self.facts.ip)).good

    async def _end(self, one: Container, end: float) -> None:
        left = max(end - time.monotonic(), LEAST_GRACE)
        one.kill(signal.SIGTERM)
        try:
            await asyncio.to_thread(_process(one).wait, left)
        except subprocess.TimeoutExpired:
            one.kill(signal.SIGKILL)
            await asyncio.to_thread(_process(one).wait)
        if one.kept is not None:
            await one.kept


def _process(one: Container) -> subprocess.Popen[bytes]:
    if one.process is None:
        raise AssertionError(f"{one.spec.name} has not been started")
    return one.process
