"""The sidecar as a process of its own: its folder, its settings, its start and its end."""

import asyncio
import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import yaml

from proxy.adapters.token_file import token_line
from tests.e2e.upstream import Upstream
from tests.e2e.world import CATALOG, POLICY, REVIEWERS, TOOLS, USERS

REPO = Path(__file__).parents[2]
CREDENTIAL = "upstream-secret-credential"
LOWEST_PORT = 10_000


@dataclass(slots=True)
class SidecarProcess:
    """One folder, one sidecar process at a time."""

    folder: Path
    upstream: Upstream
    session: aiohttp.ClientSession
    ports: dict[str, int] = field(default_factory=dict)
    users: dict[str, str] = field(default_factory=dict)
    reviewers: dict[str, str] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    catalog: dict[str, Any] = field(default_factory=lambda: json.loads(json.dumps({**CATALOG, "tools": TOOLS})))
    policy: dict[str, Any] = field(default_factory=lambda: json.loads(json.dumps(POLICY)))
    environment: dict[str, str] = field(default_factory=dict)
    arguments: list[str] = field(default_factory=list)  # of `serve`
    process: subprocess.Popen[bytes] | None = None

    def prepare(self) -> None:
        """Tokens, credential, ports, settings."""
        self.ports = dict(zip(("agent", "review", "probe"), free_ports(3), strict=True))
        lines = {"tokens.yaml": (USERS, self.users), "reviewers.yaml": (REVIEWERS, self.reviewers)}
        for name, (people, tokens) in lines.items():
            text = ""
            for subject, facts in people.items():
                tokens[subject], line = token_line(subject=subject, **facts)  # type: ignore[arg-type]  # literals above
                text += line
            (self.folder / name).write_text(text)
        (self.folder / "api.token").write_text(CREDENTIAL)
        (self.folder / "api.token").chmod(0o600)
        self.settings = {
            "state": "state",
            "catalog": "catalog",
            "policy": "policy.yaml",
            **{f"{name}_port": f"127.0.0.1:{port}" for name, port in self.ports.items()},
            "tokens": {"file": "tokens.yaml"},
            "reviewers": {"file": "reviewers.yaml"},
            "credentials": {"api": {"bearer_file": "api.token"}},
            "opa": {
                "deadline": "10s"
            },  # bounds of patience are no test's subject unless it sets them: the machine may be busy
            "patience": "200ms",
            "drain": "10s",
            "agent": {"namespace": "test", "service_account": "agent", "pod": "rig"},
        }

    def write(self) -> None:
        """Settings, catalog and policy as they stand now."""
        (self.folder / "catalog").mkdir(exist_ok=True)
        text = yaml.safe_dump(self.catalog, sort_keys=False).replace("{upstream}", str(self.upstream.port))
        self.put_file("catalog/tools.yaml", text)
        self.put_file("policy.yaml", yaml.safe_dump(self.policy, sort_keys=False))
        self.put_file("sidegate.yaml", yaml.safe_dump(self.settings, sort_keys=False))

    def put_file(self, name: str, text: str) -> None:
        """Whole at once: a sidecar that looks in between would find a file that is empty or cut."""
        new = self.folder / "written.new"
        new.write_text(text)
        new.replace(self.folder / name)

    async def start(self) -> None:
        """Start it and wait until it is ready. The log is in `sidegate.log`."""
        self.write()
        with (self.folder / "sidegate.log").open("ab") as log:
            self.process = subprocess.Popen(  # noqa: ASYNC220 - it returns at once
                [
                    sys.executable,
                    "-m",
                    "proxy.cli",
                    "serve",
                    *self.arguments,
                    "--settings",
                    str(self.folder / "sidegate.yaml"),
                ],
                cwd=REPO,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **self.environment},
            )
        await self.until(self.ready, "the sidecar is ready")

    async def ready(self) -> bool:
        """Whether the probe port says so."""
        if self.process is not None and self.process.poll() is not None:
            raise AssertionError(f"the sidecar ended with {self.process.returncode}:\n{self.log()[-1500:]}")
        with contextlib.suppress(aiohttp.ClientError):
            async with self.session.get(self.url("probe") + "/healthz/ready") as response:
                return response.status == 200
        return False

    @property
    def pid(self) -> int:
        """Of the running sidecar."""
        if self.process is None:
            raise AssertionError("no sidecar runs")
        return self.process.pid

    async def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """End it; returns the exit code."""
        if self.process is None:
            return 0
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(number)
        code = await asyncio.to_thread(self.process.wait, 30)
        self.process = None
        return code

    async def until(
        self, holds: Callable[[], Awaitable[bool]], what: str, seconds: float = 20.0, pause: float = 0.01
    ) -> None:
        """Poll until a condition holds; a deadline that passes is a failure."""
        end = time.monotonic() + seconds
        while not await holds():
            if time.monotonic() > end:
                raise AssertionError(f"not within {seconds} s: {what}\n{self.log()[-1500:]}")
            await asyncio.sleep(pause)

    async def until_true(self, holds: Callable[[], bool], what: str, seconds: float = 20.0) -> None:
        """The same for a condition that needs no await."""

        async def asked() -> bool:
            return holds()

        await self.until(asked, what, seconds)

    def url(self, port: str) -> str:
        """Base URL of one of the three ports."""
        return f"http://127.0.0.1:{self.ports[port]}"

    def log(self) -> str:
        """All that every process of this rig has logged."""
        path = self.folder / "sidegate.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def opa_pid(self) -> int:
        """The supervised OPA of the running sidecar."""
        found = subprocess.run(["pgrep", "-P", str(self.pid)], capture_output=True, text=True, check=True)
        return int(found.stdout.split()[0])

    def revoke(self, user: str) -> None:
        """Take a user's tokens out of the file."""
        text = (self.folder / "tokens.yaml").read_text()
        lines = [line for line in text.splitlines(keepends=True) if f'"{user}"' not in line]
        self.put_file("tokens.yaml", "".join(lines))


def free_ports(count: int) -> Iterator[int]:
    """Ports that are free, of those that the kernel gives to nobody by itself: until a sidecar binds one, other servers start."""
    given = Path("/proc/sys/net/ipv4/ip_local_port_range")
    first = int(given.read_text().split()[0]) if given.exists() else 0
    choice = random.sample(range(LOWEST_PORT, first), 100) if first > LOWEST_PORT + 1000 else [0] * count
    with contextlib.ExitStack() as stack:
        found: list[int] = []
        while len(found) < count:
            one = stack.enter_context(socket.socket())
            with contextlib.suppress(OSError):
                one.bind(("127.0.0.1", choice.pop()))
                found.append(one.getsockname()[1])
    yield from found
