"""OpaPolicy against a real OPA: what it is told is read, and every fault is a refusal that tells the model no secret."""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import orjson
import pytest

from proxy.adapters.opa import DECISION, OpaPolicy
from proxy.adapters.opa_transport import SidecarOpaClient
from proxy.errors import Code, Refusal
from proxy.model import Effect, SpanContext
from proxy.ports import Policy
from tests.contracts.opa_server import RunningOpa, Script, Talk, byte_server, http, running_opa, stop, until
from tests.contracts.transport_kit import echo, once, then_wait

TRACE = SpanContext(trace_id="a" * 32, span_id="b" * 16, state="v=1")
ALLOW: dict[str, Any] = {
    "schema": 1,
    "effect": "allow",
    "guards": [],
    "deny": {},
    "review": {},
    "allow": {"grants": [{"code": "granted"}]},
    "obligations": {},
    "warn": {},
    "revision": "r9",
}


@pytest.fixture(scope="module")
def opa() -> Iterator[RunningOpa]:
    with running_opa() as opa:
        yield opa


@contextlib.asynccontextmanager
async def policy_at(address: str, deadline: float = 5.0) -> AsyncIterator[OpaPolicy]:
    async with SidecarOpaClient(address, deadline=deadline) as client:
        yield OpaPolicy(client)


def document(**keys: Any) -> bytes:
    return orjson.dumps(keys)


async def refused(call: Awaitable[object]) -> Refusal:
    with pytest.raises(Refusal) as caught:
        await call
    refusal = caught.value
    for hint in ("127.", "localhost", "unix", "/v1", "sidegate", ".rego", "opa", "OPA", "http"):
        assert hint not in refusal.message
    assert refusal.message.endswith("; nothing was executed")
    return refusal


async def refused_by(script: Script, deadline: float = 5.0) -> tuple[Code, Mapping[str, object]]:
    async with byte_server(script) as server, policy_at(server.address, deadline) as policy:
        refusal = await refused(policy.decide(b"{}", TRACE))
        assert refusal.details is not None
        return refusal.code, refusal.details


async def test_what_opa_decides_is_read(opa: RunningOpa) -> None:
    async with policy_at(opa.unix) as policy:
        port: Policy = policy
        decision = await port.decide(document(echo=ALLOW), TRACE)
        assert (decision.effect, decision.revision, decision.allow[0].code) == (Effect.ALLOW, "r9", "granted")


async def test_opa_over_tcp_decides_the_same(opa: RunningOpa) -> None:
    async with policy_at(opa.tcp) as policy:
        assert (await policy.decide(document(echo=ALLOW), TRACE)).effect is Effect.ALLOW


async def test_the_other_paths_are_read(opa: RunningOpa) -> None:
    async with policy_at(opa.unix) as policy:
        assert await policy.visible(document(names=["a", "b"]), TRACE) == {"a", "b"}
        assert await policy.shadow(document(echo={"any": "thing"}), TRACE) == {"trial": {"any": "thing"}}
        assert await policy.mismatch() == {"stranger"}
        assert await policy.revision() == "r1"
        assert await policy.warm() == "r1"


async def test_the_document_and_the_trace_arrive_as_given() -> None:
    async with byte_server(echo) as server, policy_at(server.address) as policy:
        await refused(policy.decide(b'{"b":1.10,"a":18446744073709551617}', TRACE))
        head, body = server.requests[0]
        assert body == b'{"input":{"b":1.10,"a":18446744073709551617}}'
        assert head.startswith(b"POST /v1/data/sidegate/decision/decision?strict-builtin-errors=true HTTP/1.1\r\n")
        assert f"\r\ntraceparent: 00-{'a' * 32}-{'b' * 16}-01\r\n".encode() in head
        assert b"\r\ntracestate: v=1\r\n" in head


@pytest.mark.parametrize("state", ["a=b\r\nX-Evil: 1", "a=\x00", "a=ä", "a=" + "x" * 2000])
async def test_a_tracestate_that_no_header_can_carry_is_left_out(state: str) -> None:
    async with byte_server(echo) as server, policy_at(server.address) as policy:
        await refused(policy.decide(b"{}", SpanContext(trace_id="a" * 32, span_id="b" * 16, state=state)))
        assert b"tracestate" not in server.requests[0][0]


async def test_every_path_asks_for_strict_errors() -> None:
    async with byte_server(echo) as server, policy_at(server.address) as policy:
        asked: tuple[Callable[[], Awaitable[object]], ...] = (
            lambda: policy.decide(b"{}", TRACE),
            lambda: policy.visible(b"{}", TRACE),
            lambda: policy.shadow(b"{}", TRACE),
            policy.mismatch,
            policy.revision,
        )
        for ask in asked:
            await refused(ask())
        names = [head.split(b" ")[1].decode() for head, _ in server.requests]
        assert names == [
            f"/v1/data/sidegate/decision/{name}?strict-builtin-errors=true"
            for name in ("decision", "visible", "shadow", "mismatch", "decision")
        ]


async def test_an_error_in_the_policy_is_policy_invalid_and_its_place_stands_in_the_details_only(
    opa: RunningOpa,
) -> None:
    async with policy_at(opa.unix) as policy:
        refusal = await refused(policy.decide(document(zero=0), TRACE))
        assert refusal.code is Code.POLICY_INVALID
        assert refusal.details is not None
        assert refusal.details["cause"] == "evaluation"
        assert refusal.details["code"] == "eval_builtin_error"
        assert "divide by zero" in str(refusal.details["message"])
        assert "decision.rego:1" in str(refusal.details["location"])


async def test_what_opa_says_wrongly_is_policy_invalid(opa: RunningOpa) -> None:
    async with policy_at(opa.unix) as policy:
        for wrong in ("allow", True, {}, {**ALLOW, "effect": "permit"}, {**ALLOW, "deny": {"p": [{"code": "c"}]}}):
            refusal = await refused(policy.decide(document(echo=wrong), TRACE))
            assert refusal.code is Code.POLICY_INVALID, wrong


async def test_an_undefined_answer_is_policy_unavailable() -> None:
    assert await refused_by(then_wait(http(b"{}"))) == (Code.POLICY_UNAVAILABLE, {"cause": "undefined"})


async def test_a_policy_that_allows_a_call_without_facts_is_refused_at_warming() -> None:
    async with (
        byte_server(then_wait(http(orjson.dumps({"result": ALLOW})))) as server,
        policy_at(server.address) as policy,
    ):
        refusal = await refused(policy.warm())
        assert (refusal.code, refusal.details) == (Code.POLICY_INVALID, {"cause": "allows_without_facts"})


@pytest.mark.parametrize(
    ("answer", "code", "cause"),
    [
        (b"", Code.POLICY_UNAVAILABLE, "closed"),
        (http(b"{}")[:-1], Code.POLICY_UNAVAILABLE, "closed"),
        (b"garbage\r\n", Code.POLICY_INVALID, "malformed"),
        (http(b"{}", headers={"Content-Type": "text/html"}), Code.POLICY_INVALID, "media_type"),
        (http(b"x" * (1 << 21)), Code.POLICY_INVALID, "too_large"),
        (http(b"<html>"), Code.POLICY_INVALID, "not_json"),
        (http(b"{}", "302 Found", {"Location": "/x"}), Code.POLICY_UNAVAILABLE, "status"),
        (http(b"{}", "401 Unauthorized"), Code.POLICY_UNAVAILABLE, "status"),
        (http(b"{}", "404 Not Found"), Code.POLICY_UNAVAILABLE, "status"),
        (http(b"{}", "503 Unavailable"), Code.POLICY_UNAVAILABLE, "status"),
        (http(orjson.dumps({"result": ALLOW}), "201 Created"), Code.POLICY_UNAVAILABLE, "status"),
        (http(orjson.dumps({"result": ALLOW}), "500 Error"), Code.POLICY_INVALID, "evaluation"),
    ],
)
async def test_each_fault_has_its_code_and_cause(answer: bytes, code: Code, cause: str) -> None:
    refused_code, details = await refused_by(once(answer))
    assert (refused_code, details["cause"]) == (code, cause)


@pytest.mark.parametrize(
    "body",
    [
        b"<html>",
        b"null",
        b"[]",
        b'{"errors": 1}',
        b'{"errors": [1]}',
        b'{"errors": [{"location": 1}]}',
        b'{"errors": [{"location": {"x": 1}}]}',
    ],
)
async def test_an_error_body_of_another_shape_is_said_to_be_unreadable(body: bytes) -> None:
    _, details = await refused_by(once(http(body, "500 Internal Server Error")))
    assert details == {"cause": "evaluation", "code": "unreadable"}


async def test_a_question_that_opa_does_not_take_is_not_said_to_have_reached_nobody() -> None:
    """With what OPA says of it, for the audit."""
    body = orjson.dumps({"code": "invalid_parameter", "message": "body contains malformed input document"})
    async with byte_server(once(http(body, "400 Bad Request"))) as server, policy_at(server.address) as policy:
        refusal = await refused(policy.decide(b"{}", TRACE))
    assert refusal.message == "the policy service did not take the question; nothing was executed"
    said = {"code": "invalid_parameter", "message": "body contains malformed input document"}
    assert refusal.details == {"cause": "status", "status": 400, **said}


async def test_an_error_text_without_end_is_cut() -> None:
    body = orjson.dumps({"code": "c", "message": "m" * 100_000})
    _, details = await refused_by(once(http(body, "500 Internal Server Error")))
    assert details == {"cause": "evaluation", "code": "c", "message": "m" * 500}


async def test_nobody_there_is_policy_unavailable(tmp_path: Path) -> None:
    async with policy_at(f"unix://{tmp_path}/s") as policy:
        refusal = await refused(policy.decide(b"{}", TRACE))
        assert (refusal.code, refusal.details) == (Code.POLICY_UNAVAILABLE, {"cause": "unreachable"})


async def test_too_many_callers_are_policy_unavailable() -> None:
    asked = asyncio.Event()

    async def script(talk: Talk) -> None:
        await talk.request()
        asked.set()
        await talk.hung_up()

    async with byte_server(script) as server, SidecarOpaClient(server.address, deadline=30, connections=1) as client:
        holder = asyncio.create_task(client.post("/q", b"{}", {}))
        await asyncio.wait_for(asked.wait(), 5)
        client.timeout = 0.05
        refusal = await refused(OpaPolicy(client).decide(b"{}", TRACE))
        assert (refusal.code, refusal.details) == (Code.OVERLOADED, {"cause": "busy"})
        holder.cancel()


async def test_a_stopped_opa_costs_the_deadline_and_answers_again_when_it_goes_on(opa: RunningOpa) -> None:
    async with policy_at(opa.unix) as patient, policy_at(opa.unix, deadline=0.25) as policy:
        assert await patient.warm() == "r1"
        await stop(opa.process.pid)
        try:
            started = time.monotonic()
            refusals = await asyncio.gather(*(refused(policy.decide(b"{}", TRACE)) for _ in range(20)))
            assert time.monotonic() - started < 2.25
            assert {(r.code, str(r.details)) for r in refusals} == {(Code.POLICY_UNAVAILABLE, "{'cause': 'timeout'}")}
        finally:
            os.kill(opa.process.pid, signal.SIGCONT)
        assert await patient.revision() == "r1"


async def test_opa_stops_evaluating_when_the_caller_has_gone(opa: RunningOpa) -> None:
    """Its CPU time stands still, though the query would take minutes."""
    async with SidecarOpaClient(opa.unix, deadline=60) as client:
        before = cpu_ticks(opa.process.pid)
        call = asyncio.create_task(client.post(DECISION, b'{"input": {"slow": true}}', {}))
        await until(lambda: cpu_ticks(opa.process.pid) - before > 20)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        seen = [0, cpu_ticks(opa.process.pid)]

        def still() -> bool:
            seen.append(cpu_ticks(opa.process.pid))
            return seen[-1] - seen[-2] <= 1

        await until(still, pause=0.3)


def cpu_ticks(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])
