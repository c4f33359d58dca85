"""README's ten minutes as a stranger follows them, to the searches in Jaeger: the marked blocks run in order, in an empty
directory, and what README claims comes true. Ports are replaced by free ones, nothing else."""

import asyncio
import importlib.util
import json
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import pytest_asyncio
import requests
from aiohttp import web

from tests.e2e.readme_page import REPO, Shell, shell, until
from tests.e2e.rig import free_ports

BLOCKS_HERE = ("init", "service", "tool", "rule", "call", "review", "again", "audit", "ticket", "replay")
PORTS = {"agent": "8900", "probe": "8901", "review": "8902", "crm": "9100", "jaeger": "16686"}
ASK = {"get_customer": '{"customer_id": "ACME"}', "get_price": '{"sku": "SKU-2"}'}
pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stranger:
    """Somebody with a shell open."""

    shell: Shell
    ports: dict[str, int]

    @property
    def said(self) -> dict[str, str]:
        """What each block printed."""
        return self.shell.said

    def url(self, port: str, path: str) -> str:
        return f"http://127.0.0.1:{self.ports[port]}{path}"

    def ready(self) -> bool:
        return requests.get(self.url("probe", "/healthz/ready"), timeout=10).ok

    def tool_in_force(self) -> bool:
        return "get_price" in self.tools(self.handle("waiting"))

    def found_in_jaeger(self) -> bool:
        """Whether all four calls of the conversation have arrived."""
        asked = {"service": "sidegate", "tags": '{"gen_ai.conversation.id": "first"}'}
        return len(requests.get(self.url("jaeger", "/api/traces"), params=asked, timeout=10).json()["data"]) == 4

    def log(self, name: str) -> str:
        return (self.shell.folder / "my-sidecar" / f"{name}.log").read_text()

    def handle(self, conversation: str) -> str:
        """Register a conversation with the user's token."""
        token = (self.shell.folder / "my-sidecar" / "user.token").read_text().strip()
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


def variables(ports: dict[str, int]) -> dict[str, str]:
    """Ports of sidecar and Jaeger; spans are sent soon, and OPA may take its time: the machine may be busy."""
    own = {f"SIDEGATE_{name.upper()}_PORT": f"127.0.0.1:{ports[name]}" for name in ("agent", "probe", "review")}
    names = ("QUERY_GRPC", "OTLP_HTTP", "OTLP_GRPC", "HEALTH")
    jaeger = {f"JAEGER_{name}_PORT": str(port) for name, port in zip(names, free_ports(len(names)), strict=True)}
    return {
        **own,
        **jaeger,
        "JAEGER_QUERY_PORT": str(ports["jaeger"]),
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{jaeger['JAEGER_OTLP_HTTP_PORT']}",
        "OTEL_BSP_SCHEDULE_DELAY": "50",
        "OTEL_RESOURCE_ATTRIBUTES": "k8s.pod.name=buyer-7d4f9",  # as the chart sets it
        "SIDEGATE_OPA__DEADLINE": "10s",
    }


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stranger]:
    """Somebody who has followed README to its last search, with everything still running."""
    ports = dict(zip(PORTS, free_ports(len(PORTS)), strict=True))
    replaced = {usual: str(ports[name]) for name, usual in PORTS.items()}
    with shell(tmp_path_factory.mktemp("stranger"), replaced, variables(ports)) as opened:
        someone = Stranger(shell=opened, ports=ports)
        opened.copy("jaeger")
        until(lambda: requests.get(someone.url("jaeger", "/api/services"), timeout=10).ok, "Jaeger runs", 60)
        for block in BLOCKS_HERE:
            opened.copy(block)
            if block == "init":
                until(someone.ready, "the sidecar is ready")
            if block == "rule":
                until(someone.tool_in_force, "the new tool is in force")
        until(someone.found_in_jaeger, "Jaeger has the traces")
        opened.copy("search")
        yield someone


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


def test_each_search_finds_what_its_comment_says(stranger: Stranger) -> None:
    """Four calls, of which two were held and two ran; nothing failed closed."""
    found = [json.loads(line)["data"] for line in stranger.said["search"].splitlines()]
    assert [len(traces) for traces in found] == [4, 2, 2, 3, 2, 0]


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
            exec(stranger.shell.text(dialect), given)
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
