"""A sidecar as its own process over the real OPA, an upstream that records raw requests, and clients of all three ports."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import yaml

from proxy.adapters.token_file import token_line

REPO = Path(__file__).parents[2]
USERS = {
    "ada": {"name": "Ada Example", "tenant": "acme", "roles": ("buyer",)},
    "ben": {"name": "Ben Example", "tenant": "acme", "roles": ("buyer",)},
    "eve": {"name": "Eve Elsewhere", "tenant": "other", "roles": ("buyer",)},
}
REVIEWERS = {
    "rob": {"name": "Rob Example", "tenant": "acme", "roles": ("sourcing-leads", "operator")},
    "ada": {"name": "Ada Example", "tenant": "acme", "roles": ("sourcing-leads",)},
    "sam": {"name": "Sam Else", "tenant": "acme", "roles": ("other-group",)},
    "tom": {"name": "Tom Elsewhere", "tenant": "other", "roles": ("sourcing-leads", "operator")},
}


@dataclass(slots=True, kw_only=True)
class Received:
    """One request as the upstream got it: raw request target and headers, body as bytes."""

    method: str
    target: str
    headers: list[tuple[str, str]]
    body: bytes


Answering = Callable[[Received, asyncio.StreamWriter], Awaitable[None]]


@dataclass(slots=True)
class Upstream:
    """An HTTP/1.1 server by hand, so that it can misbehave by byte and by time. `answer` may be replaced in a test."""

    received: list[Received] = field(default_factory=list)
    answer: Answering | None = None
    port: int = 0
    _server: asyncio.Server | None = None

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
                method, target, _ = head[0].split(" ")
                headers = [(n.lower(), v.strip()) for n, _, v in (line.partition(":") for line in head[1:] if line)]
                length = int(dict(headers).get("content-length", "0"))
                request = Received(method=method, target=target, headers=headers, body=await reader.readexactly(length))
                self.received.append(request)
                await (self.answer or echo)(request, writer)
                await writer.drain()
        writer.close()


async def echo(request: Received, writer: asyncio.StreamWriter) -> None:
    """200 with what was received, as JSON."""
    await reply(writer, json.dumps({"target": request.target, "body": request.body.decode()}).encode())


async def reply(
    writer: asyncio.StreamWriter, body: bytes, *, status: str = "200 OK", media_type: str = "application/json"
) -> None:
    """One plain answer."""
    head = f"HTTP/1.1 {status}\r\ncontent-type: {media_type}\r\ncontent-length: {len(body)}\r\n\r\n"
    writer.write(head.encode() + body)


CATALOG: dict[str, Any] = {
    "systems": {
        "inventory": {"audience": "internal"},
        "suppliers": {"labels": ["supplier-terms"], "audience": "internal"},
        "pricing": {"labels": ["price-list"], "audience": "internal"},
        "desktop": {"audience": "internal"},
    },
    "upstreams": {
        "api": {"http": {"base_url": "http://127.0.0.1:{upstream}"}, "credential": "api", "owner": "platform-team"},
        "in-agent": {"caller": {}},
    },
    "resources": {"customer": {"upstream": "api", "path": "/facts/{id}", "tenant": "tenant", "owner": "owner"}},
    "tools": [],
}


def tool(name: str, system: str, effect: str, request: Mapping[str, Any] | None, **more: Any) -> dict[str, Any]:
    """A catalog entry with one string argument `sku`, unless `properties` says otherwise."""
    properties = more.pop("properties", {"sku": {"type": "string"}})
    schema = {"type": "object", "properties": properties, "required": list(properties)}
    entry: dict[str, Any] = {
        "name": name,
        "description": f"{name} of {system}",
        "system": system,
        "effect": effect,
        "risk": "low",
        "upstream": "api" if request else "in-agent",
        "versions": [{"version": "1", "arguments_schema": schema}],
        "timeout": "2s",
    }
    return entry | ({"request": dict(request)} if request else {}) | more


TOOLS = [
    tool("get_stock", "inventory", "read", {"method": "GET", "path": "/stock/{sku}"}),
    tool("get_terms", "suppliers", "read", {"method": "GET", "path": "/terms/{sku}"}),
    tool("get_price", "pricing", "read", {"method": "GET", "path": "/prices/{sku}"}),
    tool(
        "create_order",
        "suppliers",
        "write",
        {"method": "POST", "path": "/orders", "body": {"sku": "sku", "quantity": "quantity"}},
        properties={"sku": {"type": "string"}, "quantity": {"type": "number"}},
    ),
    tool(
        "get_customer",
        "inventory",
        "read",
        {"method": "GET", "path": "/customers/{id}"},
        properties={"id": {"type": "string"}},
        arguments={"id": {"role": "record", "resource": "customer"}},
    ),
    tool(
        "log_in",
        "inventory",
        "read",
        {"method": "POST", "path": "/login", "body": {"user": "user", "password": "password"}},
        properties={"user": {"type": "string"}, "password": {"type": "string"}},
        arguments={"password": {"role": "secret"}},
    ),
    tool("drop_all", "inventory", "admin", {"method": "POST", "path": "/drop", "body": {"sku": "sku"}}),
    tool("convert", "desktop", "read", None),
]

POLICY: dict[str, Any] = {
    "schema": 1,
    "policies": dict.fromkeys(("grants", "arguments", "ownership", "combination", "review"), "enforce"),
    "granting": ["grants"],
    "grants": {
        "tools": {},
        "systems": {
            "inventory": {"read": {"buyer": {}}, "admin": {"buyer": {}}},
            "suppliers": {"read": {"buyer": {}}, "write": {"buyer": {}}},
            "pricing": {"read": {"buyer": {}}},
            "desktop": {"read": {"buyer": {}}},
        },
    },
    "arguments": {"create_order": {"limits": {"quantity": {"buyer": 100}}}},
    "ownership": {"any_tenant": []},
    "combination": [
        {
            "name": "sourcing_triangle",
            "marks": ["system:inventory", "system:suppliers", "system:pricing"],
            "then": "review",
            "message": "inventory, suppliers and pricing together reveal the negotiating position",
            "approvers": ["sourcing-leads"],
        }
    ],
    "review": {"approvers": ["sourcing-leads"], "effects": {}, "risks": {}},
    "custom": {},
}


@dataclass(slots=True)
class Rig:
    """One folder, one sidecar process at a time. Use `rig()`."""

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
        (self.folder / "api.token").write_text("upstream-secret-credential")
        (self.folder / "api.token").chmod(0o600)
        self.settings = {
            "state": "state",
            "catalog": "catalog",
            "policy": "policy.yaml",
            **{f"{name}_port": f"127.0.0.1:{port}" for name, port in self.ports.items()},
            "tokens": {"file": "tokens.yaml"},
            "reviewers": {"file": "reviewers.yaml"},
            "credentials": {"api": {"bearer_file": "api.token"}},
            "patience": "200ms",
            "drain": "5s",
            "agent": {"namespace": "test", "service_account": "agent", "pod": "rig"},
        }

    def write(self) -> None:
        """Settings, catalog and policy as they stand now."""
        (self.folder / "catalog").mkdir(exist_ok=True)
        text = yaml.safe_dump(self.catalog, sort_keys=False).replace("{upstream}", str(self.upstream.port))
        (self.folder / "catalog" / "tools.yaml").write_text(text)
        (self.folder / "policy.yaml").write_text(yaml.safe_dump(self.policy, sort_keys=False))
        (self.folder / "sidegate.yaml").write_text(yaml.safe_dump(self.settings, sort_keys=False))

    async def start(self) -> None:
        """Start it and wait until it is ready. The log is in `sidegate.log`."""
        self.write()
        with (self.folder / "sidegate.log").open("ab") as log:
            self.process = subprocess.Popen(  # noqa: ASYNC220 - it returns at once
                [sys.executable, "-m", "proxy.cli", "serve", "--settings", str(self.folder / "sidegate.yaml")],
                cwd=REPO,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **self.environment},
            )
        await self.until(self.ready, "the sidecar is ready")

    async def ready(self) -> bool:
        if self.process is not None and self.process.poll() is not None:
            raise AssertionError(f"the sidecar ended with {self.process.returncode}:\n{self.log()[-4000:]}")
        with contextlib.suppress(aiohttp.ClientError):
            async with self.session.get(self.url("probe") + "/healthz/ready") as response:
                return response.status == 200
        return False

    async def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """End it; returns the exit code."""
        if self.process is None:
            return 0
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(number)
        code = await asyncio.to_thread(self.process.wait, 30)
        self.process = None
        return code

    async def until(self, holds: Callable[[], Awaitable[bool]], what: str, seconds: float = 20.0) -> None:
        """Poll until a condition holds; a deadline that passes is a failure."""
        end = time.monotonic() + seconds
        while not await holds():
            if time.monotonic() > end:
                raise AssertionError(f"not within {seconds} s: {what}\n{self.log()[-4000:]}")
            await asyncio.sleep(0.01)

    def url(self, port: str) -> str:
        return f"http://127.0.0.1:{self.ports[port]}"

    def log(self) -> str:
        path = self.folder / "sidegate.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def records(self, **wanted: Any) -> list[dict[str, Any]]:
        """Journal records in order, those that have these values."""
        lines = [
            json.loads(line)
            for path in sorted((self.folder / "state" / "journal").glob("*.jsonl"))
            for line in path.read_bytes().splitlines()
            if line.strip(b"\0")
        ]
        return [r for r in lines if all(r.get(key) == value for key, value in wanted.items())]

    def opa_pid(self) -> int:
        """The supervised OPA of the running sidecar."""
        if self.process is None:
            raise AssertionError("no sidecar runs")
        found = subprocess.run(["pgrep", "-P", str(self.process.pid)], capture_output=True, text=True, check=True)
        return int(found.stdout.split()[0])

    async def register(self, conversation: str, user: str = "ada", **body: Any) -> str:
        """Register a conversation; returns its handle."""
        async with self.session.put(
            f"{self.url('agent')}/v1/conversations/{conversation}",
            headers={"authorization": f"Bearer {self.users[user]}"},
            json=body or {"text": "hello"},
        ) as response:
            answer = await response.json()
            assert response.status == 200, answer
            return str(answer["handle"])

    async def call(
        self, handle: str | None, name: str, arguments: Any = None, *, name_it: str = "c1", **headers: str
    ) -> tuple[int, dict[str, Any]]:
        """One native call; status and body."""
        arguments = {"sku": "SKU-1"} if arguments is None else arguments
        body = json.dumps({"id": name_it, "tool": name, "arguments": arguments})
        return await self.post("/v1/tool-calls", body, handle, **headers)

    async def post(self, path: str, body: str | bytes, handle: str | None = None, **headers: str) -> tuple[int, Any]:
        """Any POST to the agent port, with the body as it is."""
        given = {"content-type": "application/json", **{k.replace("_", "-"): v for k, v in headers.items()}}
        if handle is not None:
            given["x-sidegate-conversation"] = handle
        async with self.session.post(self.url("agent") + path, data=body, headers=given) as response:
            return response.status, json.loads(await response.read())

    async def review(self, method: str, path: str, body: Any = None, *, by: str = "rob") -> tuple[int, Any]:
        """Any request to the review port."""
        headers = {"authorization": f"Bearer {self.reviewers[by]}"}
        async with self.session.request(method, self.url("review") + path, json=body, headers=headers) as response:
            return response.status, json.loads(await response.read())

    async def approve(self, review: str, *, by: str = "rob") -> tuple[int, Any]:
        """Look at a review and say yes to what was shown."""
        _, shown = await self.review("GET", f"/v1/reviews/{review}", by=by)
        return await self.review("POST", f"/v1/reviews/{review}/approve", {"digest": shown.get("digest", "")}, by=by)


@contextlib.asynccontextmanager
async def rig(folder: Path) -> AsyncIterator[Rig]:
    """A prepared rig with its upstream running; the sidecar is started by the test."""
    upstream = Upstream()
    await upstream.start()
    async with aiohttp.ClientSession() as session:
        made = Rig(folder, upstream, session)
        made.prepare()
        try:
            yield made
        finally:
            if made.process is not None:
                await made.stop(signal.SIGKILL)
            await upstream.stop()


def free_ports(count: int) -> Iterator[int]:
    """Ports that were free a moment ago."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        yield from [one.getsockname()[1] for one in sockets]
