"""An OPA that says odd things never makes anything run: each is refused with its code, recorded once, in bounded time."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import pytest_asyncio

from tests.e2e.rig import Rig, rig
from tests.e2e.stub_opa import Misbehaving, StubOpa, respond, say

DEADLINE = 1.5  # seconds, the setting: an odd answer of 8 MiB is there before, also on a busy machine
SLACK = 2.0  # seconds for two busy cores


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stubbed(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[Rig, StubOpa]]:
    """A sidecar in mode external over a stub."""
    folder = tmp_path_factory.mktemp("stub")
    opa = StubOpa(folder / "opa.sock", folder / "policy.tar.gz")
    await opa.start()
    async with rig(folder) as made:
        made.settings["opa"] = {
            "mode": "external",
            "address": f"unix://{opa.socket}",
            "bundle": str(opa.bundle),
            "deadline": f"{DEADLINE}s",
        }
        await made.start()
        yield made, opa
        await made.sound()
    await opa.stop()


def whole(body: Any) -> Misbehaving:
    """Say this instead of a decision."""

    async def misbehave(writer: asyncio.StreamWriter, _: dict[str, Any]) -> None:
        say(writer, body)

    return misbehave


def but(**over: Any) -> Misbehaving:
    """An allow, but for this."""

    async def misbehave(writer: asyncio.StreamWriter, decision: dict[str, Any]) -> None:
        say(writer, {"result": decision | over})

    return misbehave


def without(key: str) -> Misbehaving:
    """An allow without one of its keys."""

    async def misbehave(writer: asyncio.StreamWriter, decision: dict[str, Any]) -> None:
        say(writer, {"result": {name: value for name, value in decision.items() if name != key}})

    return misbehave


def beside(**extra: Any) -> Misbehaving:
    """An allow with something beside it."""

    async def misbehave(writer: asyncio.StreamWriter, decision: dict[str, Any]) -> None:
        say(writer, {"result": decision, **extra})

    return misbehave


def http(make: Callable[[dict[str, Any]], bytes], **how: Any) -> Misbehaving:
    """A whole HTTP answer."""

    async def misbehave(writer: asyncio.StreamWriter, decision: dict[str, Any]) -> None:
        respond(writer, make({"result": decision}), **how)

    return misbehave


def as_json(answer: dict[str, Any]) -> bytes:
    return json.dumps(answer).encode()


async def truncated(writer: asyncio.StreamWriter, decision: dict[str, Any]) -> None:
    """The connection ends inside the body."""
    body = as_json({"result": decision})
    respond(writer, body[: len(body) // 2], length=len(body))
    writer.close()


async def silent(writer: asyncio.StreamWriter, decision: dict[str, Any]) -> None:
    """No answer at all."""


async def closed(writer: asyncio.StreamWriter, decision: dict[str, Any]) -> None:
    """The connection ends before an answer."""
    writer.close()


async def unasked(writer: asyncio.StreamWriter, decision: dict[str, Any]) -> None:
    """A head that is not HTTP."""
    writer.write(b"hello\r\n\r\n" + as_json({"result": decision}))


REVIEW = {"combination": [{"code": "x", "approvers": ["sourcing-leads"]}]}
ODD: dict[str, tuple[Misbehaving, str]] = {
    "empty object": (whole({}), "policy_unavailable"),
    "null result": (whole({"result": None}), "policy_invalid"),
    "empty result": (whole({"result": {}}), "policy_invalid"),
    "only a decision id": (whole({"decision_id": "d1"}), "policy_invalid"),
    "true": (whole({"result": True}), "policy_invalid"),
    "a list": (whole([{"result": {"effect": "allow"}}]), "policy_invalid"),
    "a warning": (beside(warning={"code": "api_usage_warning"}), "policy_invalid"),
    "unknown effect": (but(effect="permit"), "policy_invalid"),
    "effect of a wrong type": (but(effect=["allow"]), "policy_invalid"),
    "unknown obligation": (but(obligations={"grants": [{"kind": "redact"}]}), "policy_invalid"),
    "said is no list": (but(deny={"grants": "no"}), "policy_invalid"),
    "reason without code": (but(deny={"grants": [{}]}), "policy_invalid"),
    "false as a denial": (but(deny={"grants": False}), "policy_invalid"),
    "allow and deny": (but(deny={"grants": [{"code": "x"}]}), "policy_invalid"),
    "allow without a grant": (but(allow={}), "policy_invalid"),
    "allow beside a guard": (but(guards=["facts_missing"]), "policy_invalid"),
    "allow beside a review that nobody approved": (but(review=REVIEW), "policy_invalid"),
    "unknown key": (but(verdict="allow"), "policy_invalid"),
    "other schema": (but(schema=2), "policy_invalid"),
    "no revision": (without("revision"), "policy_invalid"),
    "no deny": (without("deny"), "policy_invalid"),
    "unknown revision": (but(revision="another"), "policy_unavailable"),
    "500": (http(as_json, status="500 Internal Server Error"), "policy_invalid"),
    "404": (http(as_json, status="404 Not Found"), "policy_unavailable"),
    "401": (http(as_json, status="401 Unauthorized"), "policy_unavailable"),
    "201": (http(as_json, status="201 Created"), "policy_unavailable"),
    "redirect": (http(as_json, status="307 Temporary Redirect", more="location: /v1/data\r\n"), "policy_unavailable"),
    "HTML": (http(lambda _: b"<html>allow</html>", media_type="text/html"), "policy_invalid"),
    "JSON said to be HTML": (http(as_json, media_type="text/html"), "policy_invalid"),
    "not JSON": (http(lambda _: b"allow"), "policy_invalid"),
    "two documents": (http(lambda answer: as_json(answer) * 2), "policy_invalid"),
    "huge": (http(lambda answer: as_json(answer | {"x": "y" * (8 << 20)})), "policy_invalid"),
    "truncated": (truncated, "policy_unavailable"),
    "silent": (silent, "policy_unavailable"),
    "closed": (closed, "policy_unavailable"),
    "not HTTP": (unasked, "policy_invalid"),
}


@pytest.mark.parametrize("odd", ODD)
async def test_an_odd_answer_of_opa_is_a_refusal(stubbed: tuple[Rig, StubOpa], odd: str) -> None:
    """Nothing runs, the code is the documented one, there is one record, and the next good answer is good again."""
    made, opa = stubbed
    misbehaving, code = ODD[odd]
    handle = await made.register(f"odd-{len(opa.asked)}")
    made.upstream.received.clear()
    opa.misbehave = misbehaving
    began = time.monotonic()
    answer = await made.send(handle, "create_order", {"sku": "S", "quantity": 1})
    opa.misbehave = None
    assert time.monotonic() - began < DEADLINE + SLACK
    assert answer.code == code
    assert (answer.status, answer.body["refusal"]["ran"]) == (503, "no")
    assert made.upstream.received == []
    record = await made.ended(answer.call_id)
    assert (record["outcome"], record["code"]) == ("refused", code)
    assert "OPA" not in answer.body["refusal"]["message"]
    assert (await made.send(handle, "create_order", {"sku": "S", "quantity": 1})).status == 200


async def test_a_definition_list_fails_closed_too(stubbed: tuple[Rig, StubOpa]) -> None:
    """`GET /v1/tools` shows nothing that no valid answer has named."""
    made, opa = stubbed
    handle = await made.register("listing")
    opa.misbehave = whole({"result": {"get_stock": True}})
    status, body = await made.get("/v1/tools", handle)
    opa.misbehave = None
    assert (status, body["refusal"]["code"]) == (503, "policy_invalid")
