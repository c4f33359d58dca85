"""What every executor of permitted calls promises, whatever its upstream speaks: one delivery, faults told apart, no secrets.

A subclass gives a `bench` fixture: an upstream on loopback that misbehaves on demand, and the executor before it.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pytest

from proxy.core import permit as permits
from proxy.core import strict_json
from proxy.core.tool import (
    CheckedCall,
    RequestTemplate,
    ResultRule,
    System,
    Tool,
    ToolVersion,
    Upstream,
)
from proxy.errors import Code, Ran, Refusal
from proxy.model import (
    Agent,
    Arguments,
    Caller,
    Decision,
    Effect,
    Principal,
    Registration,
    Response,
    SpanContext,
    ToolEffect,
)
from proxy.ports import Executor

TRACE = SpanContext(trace_id="0af7651916cd43dd8448eb211c80319c", span_id="b7ad6b7169203331", state="vendor=1")
SECRET = "s3cret/Canary+9f2e"
CALL_ID = "call-7"
INNARDS = ("127.0.0.1", "localhost", "http://", "aiohttp", "asyncio", "Errno", "Traceback", SECRET)


class SteppedClock:
    """Port Clock: time moves when it is told to, or when somebody sleeps."""

    def __init__(self) -> None:
        self.seconds = 1000.0
        self.slept: list[float] = []

    def now(self) -> datetime:
        """Wall clock."""
        return datetime.fromtimestamp(self.seconds, UTC)

    def monotonic(self) -> float:
        """Seconds."""
        return self.seconds

    async def sleep(self, seconds: float) -> None:
        """No waiting: the time passes at once."""
        self.slept.append(seconds)
        self.seconds += seconds


class Anything:
    """A schema that everything satisfies."""

    def problems(self, value: Any) -> list[tuple[str, str]]:
        """None."""
        return []


def arguments(text: bytes) -> Arguments:
    """Arguments as the pipeline gives them."""
    tree = strict_json.read_tree(text)
    raw = strict_json.write(tree)
    return Arguments(raw=raw, tree=tree, value=strict_json.read_values(raw))


def http_tool(upstream: Upstream, request: RequestTemplate | None, **fields: Any) -> Tool:
    """A tool with as little as will do; `fields` override."""
    given: Mapping[str, Any] = {
        "name": "get_capacity",
        "description": "",
        "system": System(name="suppliers"),
        "effect": ToolEffect.READ,
        "labels": (),
        "risk": None,
        "upstream": upstream,
        "request": request,
        "arguments": (),
        "result": ResultRule(),
        "versions": (ToolVersion(version="1", arguments_schema={}, arguments=Anything()),),
        "timeout": 5.0,
        "idempotent": False,
        "retries": 0,
        "digest": "0" * 64,
    }
    return Tool(**{**given, **fields})


def permit(tool: Tool, text: bytes = b"{}") -> permits.Permit:
    """A permit for one call, made the only way there is."""
    checked = CheckedCall(
        tool=tool, version=tool.versions[0], asked="1", arguments=arguments(text), digest="d", changes=()
    )
    caller = Caller(
        agent=Agent(),
        principal=Principal(issuer="test", subject="ada"),
        conversation="~implicit",
        registration=Registration.NONE,
    )
    decision = Decision(effect=Effect.ALLOW, revision="p")
    return permits.grant(CALL_ID, checked, caller, decision)


class Bench(ABC):
    """An executor before an upstream that can be told how to behave. `deliveries` counts the requests that arrived whole."""

    executor: Executor
    deliveries: int

    @abstractmethod
    def tool(self, *, timeout: float = 5.0, idempotent: bool = False, retries: int = 0) -> Tool:
        """A tool of the upstream that does something (not a read)."""

    @abstractmethod
    async def behave(self, *ways: str) -> None:
        """How the next requests are met, the last way for all later ones: `answer`, `refuse` (the connection), `hang` (after the
        request), `reset` (after the request), `half` (an answer broken off), `echo` (an answer with the credential in it)."""

    async def call(self, tool: Tool) -> Response:
        """Execute one call of it."""
        return await self.executor.execute(permit(tool), TRACE)

    async def refusal(self, tool: Tool) -> Refusal:
        """Execute one call that must be refused; what it says must show none of the innards."""
        with pytest.raises(Refusal) as caught:
            await self.call(tool)
        shown = f"{caught.value.message} {caught.value.fix} {caught.value}"
        assert not [word for word in INNARDS if word in shown]
        assert tool.name in caught.value.message
        assert SECRET not in str(caught.value.details)
        return caught.value


class ExecutorContract:
    """Subclass it and give the fixture `bench`."""

    async def test_a_permitted_call_is_delivered_once_and_answered(self, bench: Bench) -> None:
        await bench.behave("answer")
        response = await bench.call(bench.tool())
        assert (response.status, response.media_type, bench.deliveries) == (200, "application/json", 1)

    async def test_a_refused_connection_is_unreachable_and_did_not_run(self, bench: Bench) -> None:
        await bench.behave("refuse")
        refusal = await bench.refusal(bench.tool())
        assert (refusal.code, refusal.ran, bench.deliveries) == (Code.TOOL_UNREACHABLE, Ran.NO, 0)

    async def test_silence_after_the_request_is_a_timeout_that_may_have_run(self, bench: Bench) -> None:
        await bench.behave("hang")
        refusal = await bench.refusal(bench.tool(timeout=1.5, idempotent=True, retries=3))
        assert (refusal.code, refusal.ran, bench.deliveries) == (Code.TOOL_TIMEOUT, Ran.UNKNOWN, 1)
        told = re.search(r"(\d+\.\d) s passed, its limit is 1\.5 s", refusal.message)
        assert told is not None, refusal.message
        assert 1.5 <= float(told[1]) < 3.5  # a busy machine may add to it

    @pytest.mark.parametrize("way", ["reset", "half"])
    async def test_what_breaks_off_after_sending_has_an_unknown_outcome_and_is_not_repeated(
        self, bench: Bench, way: str
    ) -> None:
        await bench.behave(way, "answer")
        refusal = await bench.refusal(bench.tool(retries=3))
        assert (refusal.code, refusal.ran, bench.deliveries) == (Code.OUTCOME_UNKNOWN, Ran.UNKNOWN, 1)

    @pytest.mark.parametrize("way", ["reset", "half"])
    async def test_an_idempotent_tool_is_repeated_as_often_as_declared(self, bench: Bench, way: str) -> None:
        await bench.behave(way, way, "answer")
        response = await bench.call(bench.tool(idempotent=True, retries=2))
        assert (response.status, bench.deliveries) == (200, 3)

    async def test_after_the_declared_retries_the_last_fault_stands(self, bench: Bench) -> None:
        await bench.behave("reset")
        refusal = await bench.refusal(bench.tool(idempotent=True, retries=2))
        assert (refusal.code, bench.deliveries) == (Code.OUTCOME_UNKNOWN, 3)

    async def test_an_answer_that_contains_the_credential_is_withheld(self, bench: Bench) -> None:
        await bench.behave("echo")
        refusal = await bench.refusal(bench.tool())
        assert (refusal.code, refusal.ran, bench.deliveries) == (Code.RESULT_WITHHELD, Ran.YES, 1)

    async def test_an_upstream_that_keeps_failing_is_left_alone(self, bench: Bench) -> None:
        await bench.behave("refuse")
        for _ in range(5):
            assert (await bench.refusal(bench.tool())).code is Code.TOOL_UNREACHABLE
        await bench.behave("answer")
        refusal = await bench.refusal(bench.tool())
        assert (refusal.code, refusal.ran, bench.deliveries) == (Code.UPSTREAM_OPEN, Ran.NO, 0)
        assert refusal.retry_after == 10
