"""README as a stranger follows it: its marked blocks run in order, in an empty directory, and what it claims comes true.

A block is marked by `<!-- test: NAME -->` on the line before its fence. Ports are replaced by free ones, nothing else.
"""

import asyncio
import contextlib
import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import requests
from aiohttp import web

from tests.e2e.rig import free_ports

REPO = Path(__file__).parents[2]
README = (REPO / "README.md").read_text()
BLOCKS = dict(re.findall(r"<!-- test: (\S+) -->\n```\w+\n(.*?)```\n", README, re.DOTALL))
SHELL = ("init", "service", "tool", "rule", "call", "review", "again", "audit", "ticket", "replay")
PORTS = {"agent": "8900", "probe": "8901", "review": "8902", "crm": "9100"}
ASK = {"get_customer": '{"customer_id": "ACME"}', "get_price": '{"sku": "SKU-2"}'}
END = "@@ end of block\n"
pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


@dataclass(slots=True)
class Stranger:
    """One shell session in an empty directory, block after block; `said` is what each block printed."""

    folder: Path
    ports: dict[str, int]
    said: dict[str, str] = field(default_factory=dict)

    def text(self, block: str) -> str:
        """A block with the ports of this run."""
        free = {usual: str(self.ports[name]) for name, usual in PORTS.items()}
        return re.sub(r"\b(8900|8901|8902|9100)\b", lambda found: free[found[1]], BLOCKS[block])

    def url(self, port: str, path: str) -> str:
        return f"http://127.0.0.1:{self.ports[port]}{path}"

    def open(self) -> "subprocess.Popen[str]":
        """The shell; `sidegate` on its PATH as `deploy/venv.sh` puts it there, ports and deadline of sidegate.yaml overridden."""
        command = self.folder / "bin" / "sidegate"
        command.parent.mkdir()
        command.write_text(f'#!/bin/sh\nPYTHONPATH="{REPO}" exec "{sys.executable}" -m proxy.cli "$@"\n')
        command.chmod(0o755)
        own = {f"SIDEGATE_{n.upper()}_PORT": f"127.0.0.1:{self.ports[n]}" for n in ("agent", "probe", "review")}
        own["SIDEGATE_OPA__DEADLINE"] = "10s"  # the machine may be busy
        return subprocess.Popen(
            ["bash", "-e"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=self.folder,
            env={**os.environ, **own, "PATH": f"{command.parent}:{os.environ['PATH']}"},
            start_new_session=True,
        )

    def copy(self, block: str, shell: "subprocess.Popen[str]") -> None:
        """Copy a block into the shell and wait until its last command has ended; a command that fails ends the shell."""
        assert shell.stdin is not None
        assert shell.stdout is not None
        shell.stdin.write(f"{self.text(block)}\necho '{END.strip()}'\n")
        shell.stdin.flush()
        lines: list[str] = []
        while not lines or lines[-1] != END:
            line = shell.stdout.readline()
            assert line, f"README's block {block} failed:\n{''.join(lines)}"
            lines.append(line)
        self.said[block] = "".join(lines[:-1])

    def until(self, holds: Callable[[], bool], what: str) -> None:
        """Look again and again, as a person does, for at most 30 s."""
        end = time.monotonic() + 30
        while True:
            with contextlib.suppress(requests.ConnectionError):
                if holds():
                    return
            assert time.monotonic() < end, f"not within 30 s: {what}\n{self.log('sidegate')[-3000:]}"
            threading.Event().wait(0.05)

    def ready(self) -> bool:
        return requests.get(self.url("probe", "/healthz/ready"), timeout=10).ok

    def tool_in_force(self) -> bool:
        return "get_price" in self.tools(self.handle("waiting"))

    def log(self, name: str) -> str:
        return (self.folder / "my-sidecar" / f"{name}.log").read_text()

    def handle(self, conversation: str) -> str:
        """Register a conversation with the user's token."""
        token = (self.folder / "my-sidecar" / "user.token").read_text().strip()
        answer = requests.put(
            self.url("agent", f"/v1/conversations/{conversation}"),
            headers={"authorization": f"Bearer {token}"},
            json={"text": "hello"},
            timeout=10,
        )
        return str(answer.json()["handle"])

    def tools(self, handle: str) -> set[str]:
        """Names of the tools that the user is shown."""
        url = self.url("agent", f"/c/{handle}/v1/tools?dialect=native")
        return {tool["name"] for tool in requests.get(url, timeout=10).json()}


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stranger]:
    """Somebody who has followed README to its audit, with everything still running."""
    ports = dict(zip(PORTS, free_ports(len(PORTS)), strict=True))
    someone = Stranger(tmp_path_factory.mktemp("stranger"), ports)
    with someone.open() as shell:
        try:
            for block in SHELL:
                someone.copy(block, shell)
                if block == "init":
                    someone.until(someone.ready, "the sidecar is ready")
                if block == "rule":
                    someone.until(someone.tool_in_force, "the new tool is in force")
            yield someone
        finally:
            os.killpg(shell.pid, signal.SIGTERM)


def test_every_marked_block_is_run_here() -> None:
    """A new block in README has to find its place in this test."""
    assert list(BLOCKS) == [*SHELL, "openai", "anthropic"]
    assert len(BLOCKS) == README.count("<!-- test: ")


def test_a_directory_to_begin_with_is_in_order(stranger: Stranger) -> None:
    """Also after tool and rule were added."""
    assert "user.token" in stranger.said["init"]
    assert "in order" in stranger.said["init"]
    assert "in order" in stranger.said["rule"]
    assert "Rego tests pass" in stranger.said["rule"]


def test_the_first_call_is_done_and_the_second_is_held(stranger: Stranger) -> None:
    first, second = [json.loads(line) for line in stranger.said["call"].splitlines()]
    assert (first["status"], first["result"]["name"]) == ("done", "Acme Corp")
    assert (second["status"], second["refusal"]["code"]) == ("pending", "review_pending")
    assert "a person's eye" in second["refusal"]["message"]


def test_the_reviewer_is_shown_what_will_run_and_what_led_there(stranger: Stranger) -> None:
    for said in ("First User", "crm_and_pricing", 'sku = "SKU-1"', "1. get_customer (crm, read): done", "is approved"):
        assert said in stranger.said["review"]


def test_the_approved_call_runs_once(stranger: Stranger) -> None:
    """Sent again it is done, sent once more it is held anew; the tool saw one request."""
    done, held = [json.loads(line) for line in stranger.said["again"].splitlines()]
    assert (done["status"], held["status"]) == ("done", "pending")
    assert stranger.log("crm").count("GET /prices/SKU-1") == 1


def test_the_audit_tells_it_and_verifies(stranger: Stranger) -> None:
    for said in ("get_customer v1 done", "get_price v1 is held", "approved by", "get_price v1 done", "ok: "):
        assert said in stranger.said["audit"]


@pytest_asyncio.fixture(loop_scope="module")
async def model() -> AsyncIterator[str]:
    """The demo's scripted model endpoint, which calls the stranger's tools; its URL."""
    spec = importlib.util.spec_from_file_location("demo_model", REPO / "deploy" / "demo" / "model.py")
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules["demo_model"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    steps = [module.Step(asks="", says="I look.", tool=tool, arguments=given) for tool, given in ASK.items()]
    runner = web.AppRunner(module.application(steps))
    await runner.setup()
    (port,) = free_ports(1)
    await web.TCPSite(runner, "127.0.0.1", port).start()
    yield f"http://127.0.0.1:{port}"
    await runner.cleanup()


def client(dialect: str, model: str) -> Any:
    """The real SDK, pointed at the scripted model."""
    if dialect == "openai":
        from openai import OpenAI

        return OpenAI(base_url=f"{model}/v1", api_key="scripted")
    from anthropic import Anthropic

    return Anthropic(base_url=model, api_key="scripted")


def loop(dialect: str, model: str, stranger: Stranger) -> list[str]:
    """README's lines as the body of an agent's loop, two turns; what the model is told of each call."""
    told = []
    with client(dialect, model) as sdk, requests.Session() as session:
        session.headers["x-sidegate-conversation"] = stranger.handle(f"loop-{dialect}")
        asked = {"openai": "openai_chat"}.get(dialect, dialect)
        tools = session.get(stranger.url("agent", f"/v1/tools?dialect={asked}")).json()
        messages: list[Any] = []
        for step in range(len(ASK)):
            messages.append({"role": "user", "content": f"[{step}] go on"})
            given = {"client": sdk, "sidegate": session, "model": "scripted", "messages": messages, "tools": tools}
            exec(stranger.text(dialect), given)
            last = messages[-1]
            assert last["role"] == ("tool" if dialect == "openai" else "user")
            told.append(str(last["content"] if dialect == "openai" else last["content"][0]["content"]))
    return told


@pytest.mark.parametrize("dialect", ["openai", "anthropic"])
async def test_the_lines_for_an_agents_loop_work_with_the_real_sdk(
    dialect: str, model: str, stranger: Stranger
) -> None:
    """The first call's result and the second call's hold come back as messages that the model's next request takes."""
    result, held = await asyncio.to_thread(loop, dialect, model, stranger)
    assert "Acme Corp" in result
    assert json.loads(held)["refused"]["code"] == "review_pending"
