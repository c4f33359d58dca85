"""What the cases share: calls in the four dialects as raw bytes, what a refusal has in common, parts for a catalog."""

import asyncio
import io
import json
from typing import Any

import orjson

from tests.e2e.rig import Received, Rig, reply, tool
from tests.e2e.upstream import Answering

TEXT_DIALECTS = ("openai_chat", "openai_responses")
TREE_DIALECTS = ("native", "anthropic")


def in_dialect(dialect: str, name: str, arguments: str | None) -> str:
    """One call; `arguments` is JSON source: of an object for native and Anthropic, of a string for the OpenAI APIs."""
    ids = {"openai_chat": "id", "openai_responses": "call_id", "native": "id", "anthropic": "id"}
    key = {"openai_chat": "arguments", "openai_responses": "arguments", "native": "arguments", "anthropic": "input"}
    names = {"openai_chat": "name", "openai_responses": "name", "native": "tool", "anthropic": "name"}
    given = "" if arguments is None else f',"{key[dialect]}":{arguments}'
    called = f'"{names[dialect]}":{json.dumps(name)}{given}'
    identified = f'"{ids[dialect]}":"c1"'
    return {
        "openai_chat": f'{{{identified},"type":"function","function":{{{called}}}}}',
        "openai_responses": f'{{"type":"function_call",{identified},{called}}}',
        "native": f"{{{identified},{called}}}",
        "anthropic": f'{{"type":"tool_use",{identified},{called}}}',
    }[dialect]


def answer_of(body: Any) -> dict[str, Any]:
    """The refusal document of an answer in any dialect; empty for a result."""
    if "refusal" in body or "status" in body:
        return dict(body.get("refusal", {}))
    text = body["content"][0]["content"] if body.get("role") == "user" else body.get("content", body.get("output"))
    read = json.loads(text)
    return dict(read.get("refused", {})) if isinstance(read, dict) else {}


async def post(rig: Rig, body: str | bytes, handle: str | None, **headers: str) -> tuple[int, Any]:
    """A body for the tool calls' route, of any size."""
    data = io.BytesIO(body.encode() if isinstance(body, str) else body)
    given = {"content-type": "application/json"} | ({} if handle is None else {"x-sidegate-conversation": handle})
    given |= {name.replace("_", "-"): value for name, value in headers.items()}
    async with rig.session.post(rig.url("agent") + "/v1/tool-calls", data=data, headers=given) as response:
        return response.status, json.loads(await response.read())


async def refused(rig: Rig, handle: str, body: str | bytes, *codes: str, **headers: str) -> dict[str, Any]:
    """The body is refused with one of the codes, the upstream hears nothing, one record says so, and the next ordinary call
    works. Returns the refusal."""
    before = len(rig.upstream.received)
    _, answer = await post(rig, body, handle, **headers)
    refusal = answer_of(answer)
    assert refusal.get("code") in codes, answer
    assert len(rig.upstream.received) == before
    assert refusal["ran"] == "no"
    record = await rig.ended(refusal["call_id"])
    assert (record["outcome"], record["code"]) == ("refused", refusal["code"])
    assert (await rig.call(handle, "get_stock"))[0] == 200
    return refusal


def says(body: bytes, **how: Any) -> Answering:
    """An upstream that gives this whole answer."""

    async def answer(_: Received, writer: asyncio.StreamWriter) -> None:
        await reply(writer, body, **how)

    return answer


def journal_is_strict(rig: Rig) -> None:
    """Every line is JSON for a strict parser: no NaN, no lone surrogates."""
    for path in (rig.folder / rig.settings["state"] / "journal").glob("*.jsonl"):
        for line in path.read_bytes().splitlines():
            if line.strip(b"\0"):
                orjson.loads(line)


def everything_written(rig: Rig) -> str:
    """Journal and log, as text."""
    journal = (rig.folder / rig.settings["state"] / "journal").glob("*.jsonl")
    return rig.log() + "".join(path.read_text() for path in journal)


def note(name: str = "note", **more: Any) -> dict[str, Any]:
    """A tool that posts what it is given: `text`, any JSON. Effect read, so that the buyer's grant covers it."""
    request = {"method": "POST", "path": f"/{name}", "body": {"text": "text"}}
    system = more.pop("system", "inventory")
    return tool(name, system, "read", request, **{"properties": {"text": {}}, **more})
