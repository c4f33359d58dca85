"""The processes of the demo: three services, a model endpoint, a collector, Sidegate itself. Started, awaited, ended here."""

import contextlib
import os
import secrets
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

import proxy
from proxy.adapters.token_file import token_line

HERE = Path(__file__).parent
PYTHONPATH = str(Path(proxy.__file__).parents[1])  # where our processes find the package that runs here
SERVICES = ("inventory", "suppliers", "pricing")
PORTS = (*SERVICES, "agent", "review", "probe", "model", "collector")


class StartError(Exception):
    """Something of the demo did not start."""


@dataclass(slots=True)
class World:
    """A folder with everything that runs. `ports` by name."""

    folder: Path
    ports: dict[str, int]
    tokens: dict[str, str]
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def settings(self) -> Path:
        return self.folder / "sidegate.yaml"

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.ports[name]}"

    def start(self, name: str, *command: str, **environment: str) -> None:
        """Start a process; its log is in the folder."""
        with (self.folder / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.folder,
                env={**os.environ, **environment},
            )

    def sidegate(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a `sidegate` command as a person would, and take what it prints."""
        return subprocess.run(
            [sys.executable, "-m", "proxy.cli", *arguments],
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            env={**os.environ, "PYTHONPATH": PYTHONPATH},
        )

    def wait(self, name: str, answers: Callable[[], None], seconds: float = 30.0) -> None:
        """Until the process answers. Raises StartError with the end of its log."""
        end = time.monotonic() + seconds
        while self.processes[name].poll() is None and time.monotonic() < end:
            with contextlib.suppress(OSError):
                answers()
                return
            time.sleep(0.05)
        log = (self.folder / f"{name}.log").read_text(errors="replace").splitlines()[-5:]
        raise StartError("\n  ".join([f"{name} did not start; its log ends with:", *log]))

    def stop(self) -> None:
        """End what runs, last started first."""
        for process in reversed(self.processes.values()):
            process.terminate()
        for process in reversed(self.processes.values()):
            try:
                process.wait(timeout=15)
            except subprocess.TimeoutExpired:
                process.kill()


def make(folder: Path) -> World:
    """Write settings, catalog, policy, tokens and credentials into an empty folder."""
    folder.mkdir(parents=True, exist_ok=True)
    ports = dict(zip(PORTS, free_ports(len(PORTS)), strict=True))
    buyer, buyer_line = token_line(subject="ada", name="Ada Example", tenant="acme", roles=("buyer",))
    reviewer, reviewer_line = token_line(
        subject="rob", name="Rob Example", tenant="acme", roles=("sourcing-leads", "operator")
    )
    tokens = {"buyer": buyer, "reviewer": reviewer} | {name: secrets.token_urlsafe(32) for name in SERVICES}
    for name, token in tokens.items():
        private(folder / f"{name}.token", token)
    catalog = (HERE / "catalog" / "procurement.yaml").read_text()
    for name in SERVICES:
        catalog = catalog.replace(f"{{{name}}}", str(ports[name]))
    (folder / "catalog").mkdir(exist_ok=True)
    (folder / "catalog" / "procurement.yaml").write_text(catalog)
    (folder / "policy.yaml").write_text((HERE / "policy.yaml").read_text())
    private(folder / "tokens.yaml", buyer_line)
    private(folder / "reviewers.yaml", reviewer_line)
    settings: dict[str, Any] = {
        "state": "state",
        "catalog": "catalog",
        "policy": "policy.yaml",
        "agent_port": f"127.0.0.1:{ports['agent']}",
        "review_port": f"127.0.0.1:{ports['review']}",
        "probe_port": f"127.0.0.1:{ports['probe']}",
        "tokens": {"file": "tokens.yaml"},
        "reviewers": {"file": "reviewers.yaml"},
        "credentials": {name: {"bearer_file": f"{name}.token"} for name in SERVICES},
        "patience": "300ms",
        "agent": {"namespace": "purchasing", "service_account": "buyer-agent", "pod": "demo"},
    }
    world = World(folder, ports, tokens)
    world.settings.write_text(yaml.safe_dump(settings, sort_keys=False))
    return world


def start(world: World) -> None:
    """Start every process and wait until it answers."""
    for name in SERVICES:
        world.start(
            name,
            *(sys.executable, str(HERE / "services.py"), name, "--port", str(world.ports[name])),
            *("--database", f"{name}.sqlite", "--token-file", f"{name}.token"),
        )
    world.start(
        "sidegate",
        *(sys.executable, "-m", "proxy.cli", "serve", "--settings", str(world.settings)),
        PYTHONPATH=PYTHONPATH,
        OTEL_EXPORTER_OTLP_ENDPOINT=world.url("collector"),
        OTEL_BSP_SCHEDULE_DELAY="200",
    )
    for name in SERVICES:
        world.wait(name, lambda at=world.ports[name]: socket.create_connection(("127.0.0.1", at), timeout=1).close())
    ready = world.url("probe") + "/healthz/ready"
    world.wait("sidegate", lambda: urllib.request.urlopen(ready, timeout=1).close())


def private(path: Path, text: str) -> None:
    """A file for its owner only."""
    path.touch(mode=0o600)
    path.write_text(text)


def free_ports(count: int) -> Iterator[int]:
    """Ports that were free a moment ago."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        yield from [one.getsockname()[1] for one in sockets]
