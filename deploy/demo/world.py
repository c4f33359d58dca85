"""The processes of the demo: three services, a model endpoint, a collector, Sidegate itself. Started, awaited, ended here."""

import contextlib
import os
import secrets
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from proxy.adapters.token_file import token_line

HERE = Path(__file__).parent
SERVICES = ("inventory", "suppliers", "pricing")
PORTS = (*SERVICES, "agent", "review", "probe", "model", "collector")


@dataclass(slots=True)
class World:
    """A folder with everything that runs. `ports` by name."""

    folder: Path
    ports: dict[str, int]
    tokens: dict[str, str]
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def settings(self) -> Path:
        return self.folder / "sidegate.yaml"

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.ports[name]}"

    def start(self, name: str, *command: str, **environment: str) -> None:
        log = (self.folder / f"{name}.log").open("ab")
        started = subprocess.Popen(
            [sys.executable, *command],
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=self.folder,
            env={**os.environ, **environment},
        )
        self.processes.append(started)

    def sidegate(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a `sidegate` command as a person would, and take what it prints."""
        return subprocess.run(
            [sys.executable, "-m", "proxy.cli", *arguments],
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            env={**os.environ, "PYTHONPATH": str(HERE.parents[1])},
        )

    def wait(self, url: str, what: str, seconds: float = 20.0) -> None:
        """Until the URL answers at all (200, or any refusal of a service)."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if any(process.poll() not in (None, 0) for process in self.processes):
                raise SystemExit(f"{what} ended early; see the logs in {self.folder}")
            with contextlib.suppress(OSError):
                urllib.request.urlopen(url, timeout=1).close()
                return
            time.sleep(0.05)
        raise SystemExit(f"{what} did not start within {seconds:g} s; see the logs in {self.folder}")

    def stop(self) -> None:
        for process in reversed(self.processes):
            process.terminate()
        for process in reversed(self.processes):
            try:
                process.wait(timeout=15)
            except subprocess.TimeoutExpired:
                process.kill()


def make(folder: Path) -> World:
    """Write settings, catalog, policy, tokens and credentials into an empty folder."""
    folder.mkdir(parents=True, exist_ok=True)
    ports = dict(zip(PORTS, _free_ports(len(PORTS)), strict=True))
    buyer, buyer_line = token_line(subject="ada", name="Ada Example", tenant="acme", roles=("buyer",))
    reviewer, reviewer_line = token_line(
        subject="rob", name="Rob Example", tenant="acme", roles=("sourcing-leads", "operator")
    )
    tokens = {"buyer": buyer, "reviewer": reviewer} | {name: secrets.token_urlsafe(32) for name in SERVICES}
    for name, token in tokens.items():
        _private(folder / f"{name}.token", token)
    catalog = (HERE / "catalog" / "procurement.yaml").read_text()
    for name in SERVICES:
        catalog = catalog.replace(f"{{{name}}}", str(ports[name]))
    (folder / "catalog").mkdir(exist_ok=True)
    (folder / "catalog" / "procurement.yaml").write_text(catalog)
    (folder / "policy.yaml").write_text((HERE / "policy.yaml").read_text())
    _private(folder / "tokens.yaml", buyer_line)
    _private(folder / "reviewers.yaml", reviewer_line)
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
            *(str(HERE / "services.py"), name, "--port", str(world.ports[name])),
            *("--database", f"{name}.sqlite", "--token-file", f"{name}.token"),
        )
    world.start(
        "sidegate",
        *("-m", "proxy.cli", "serve", "--settings", str(world.settings)),
        PYTHONPATH=str(HERE.parents[1]),
        OTEL_EXPORTER_OTLP_ENDPOINT=world.url("collector"),
        OTEL_BSP_SCHEDULE_DELAY="200",
    )
    for name in SERVICES:
        _wait_for_port(world, name)
    world.wait(world.url("probe") + "/healthz/ready", "sidegate")


def _wait_for_port(world: World, name: str) -> None:
    end = time.monotonic() + 20
    while time.monotonic() < end:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", world.ports[name]), timeout=1):
            return
        time.sleep(0.05)
    raise SystemExit(f"{name} did not start; see {world.folder / name}.log")


def _private(path: Path, text: str) -> None:
    path.touch(mode=0o600)
    path.write_text(text)


def _free_ports(count: int) -> Iterator[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        yield from [one.getsockname()[1] for one in sockets]
