"""The agent port on real sockets: answers and their headers, bad bodies, definitions, registration."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.contracts.line import DENY, HANDLE, snapshot
from tests.contracts.served import LIMIT, Ports, call_of, ports

CHAT = {
    "role": "assistant",
    "content": None,
    "tool_calls": [
        {
            "id": "call_1",
            "type": "function",
            "function": {"name": "get_capacity", "arguments": '{"supplier_id":"s1"}'},
        }
    ],
}
RESPONSES = [
    {"type": "function_call", "call_id": "call_1", "name": "get_capacity", "arguments": '{"supplier_id":"s1"}'}
]
ANTHROPIC = {
    "role": "assistant",
    "content": [{"type": "tool_use", "id": "toolu_1", "name": "get_capacity", "input": {"supplier_id": "s1"}}],
}


@pytest.fixture
async def there(tmp_path: Path) -> AsyncIterator[Ports]:
    async with ports(tmp_path) as made:
        yield made


# Calls


async def test_an_answer_has_its_result_and_the_headers_of_its_call(there: Ports) -> None:
    """Bytes of the result as they came, ids in body and headers, nothing for caches, no library's name."""
    reply = await there.call(call_of())
    assert reply.status == 200
    assert b'"result":{"weekly_capacity":7}' in reply.body
    record = await there.line.terminal()
    assert reply.headers["x-sidegate-call-id"] == reply.tree["call_id"] == record["call"]
    assert reply.headers["traceparent"].split("-")[1] == reply.tree["trace_id"] == record["trace"]
    assert reply.headers["x-sidegate-decision"] == "allow"
    assert reply.headers["cache-control"] == "no-store"
    assert reply.headers["server"] == "sidegate"


@pytest.mark.parametrize(
    ("tool", "status", "code", "decision"),
    [("get_capacity", 403, "denied", "deny"), ("no_such_tool", 404, "unknown_tool", "none")],
)
async def test_a_single_native_refusal_has_its_status(
    there: Ports, tool: str, status: int, code: str, decision: str
) -> None:
    """And the same answer in body and headers."""
    there.line.policy.decides = lambda _: DENY
    reply = await there.call(call_of(tool))
    assert (reply.status, reply.code, reply.headers["x-sidegate-decision"]) == (status, code, decision)


async def test_a_refusal_that_passes_says_when(there: Ports) -> None:
    """In the header that clients know."""
    there.line.pipeline.gate.closed = True
    reply = await there.call(call_of())
    assert (reply.status, reply.code, reply.headers["retry-after"]) == (429, "overloaded", "5")


@pytest.mark.parametrize("body", [CHAT, RESPONSES, ANTHROPIC], ids=["chat", "responses", "anthropic"])
async def test_to_a_model_a_refusal_is_a_result_like_any_other(there: Ports, body: Any) -> None:
    """Status 200, its code and its trace id inside."""
    there.line.policy.decides = lambda _: DENY
    reply = await there.call(body)
    assert reply.status == 200
    assert "denied" in reply.body.decode()
    assert reply.headers["traceparent"].split("-")[1] in reply.body.decode()


async def test_a_list_is_answered_by_a_list_in_its_order(there: Ports) -> None:
    """Always 200, one bad item failing alone."""
    reply = await there.call([call_of(name="a"), {"id": "b", "tool": "x"}, call_of("nothing", "c"), call_of(name="d")])
    assert reply.status == 200
    assert [(item["id"], item["status"]) for item in reply.tree] == [
        ("a", "done"),
        ("b", "refused"),
        ("c", "refused"),
        ("d", "done"),
    ]
    assert reply.headers["x-sidegate-decision"] == "allow,none,none,allow"
    assert reply.headers["x-sidegate-call-id"].split(",") == [item["call_id"] for item in reply.tree]


@pytest.mark.parametrize(
    ("body", "headers", "status", "code"),
    [
        (b"", {}, 400, "invalid_json"),
        (b"{", {}, 400, "invalid_json"),
        (b'{"id":"c","id":"d"}', {}, 400, "invalid_json"),
        (b"\xff\xfe", {}, 400, "invalid_json"),
        (b"[" * 500, {}, 400, "invalid_json"),
        (b"{}", {}, 400, "invalid_call"),
        (b"[]", {}, 400, "invalid_call"),
        (b"7", {}, 400, "invalid_call"),
        (b'{"id":"c1","tool":"t","arguments":{},"extra":1}', {}, 400, "invalid_call"),
        (b"{}", {"content_type": "text/plain"}, 400, "invalid_call"),
        (b"{}", {"content_type": "application/json; charset=utf-16"}, 400, "invalid_call"),
        (b"{}", {"content_encoding": "gzip"}, 400, "invalid_call"),
        (b" " * (LIMIT + 1), {}, 413, "too_large"),
        (b"{}", {"origin": "http://evil.test"}, 400, "invalid_call"),
        (b"{}", {"host": "evil.test:8900"}, 400, "invalid_call"),
        (b"{}", {"x_sidegate_conversation": "not a handle"}, 400, "invalid_call"),
    ],
)
async def test_a_bad_request_is_one_recorded_refusal_and_the_next_call_works(
    there: Ports, body: bytes, headers: dict[str, str], status: int, code: str
) -> None:
    """A clear code, nothing asked, nothing run."""
    reply = await there.call(body, **headers)
    assert (reply.status, reply.code, reply.tree["status"]) == (status, code, "refused")
    assert (await there.line.terminal())["code"] == code
    assert (there.line.policy.asked, there.line.upstreams.permits) == ([], [])
    assert (await there.call(call_of())).status == 200


async def test_a_body_of_the_limit_is_taken(there: Ports) -> None:
    """The bound is what the setting says."""
    body = json.dumps(call_of()).encode()
    assert (await there.call(body + b" " * (LIMIT - len(body)))).status == 200


async def test_the_dialect_can_be_forced_and_must_fit(there: Ports) -> None:
    """A native call is no Chat message."""
    assert (await there.call(call_of(), "/v1/tool-calls?dialect=native")).status == 200
    assert (await there.call(call_of(), "/v1/tool-calls?dialect=openai_chat")).code == "invalid_call"
    assert (await there.call(call_of(), "/v1/tool-calls?dialect=klingon")).code == "invalid_call"


async def test_the_conversation_may_stand_in_the_url(there: Ports) -> None:
    """For clients that fix their headers when they connect."""
    url = f"{there.agent}/c/{HANDLE}/v1/tool-calls"
    assert (await there.send("POST", url, json=call_of())).status == 200
    assert (await there.line.terminal())["conversation"] == "talk"
    reply = await there.send("POST", f"{there.agent}/c/{'x' * 43}/v1/tool-calls", json=call_of())
    assert (reply.status, reply.code) == (404, "unknown_conversation")


async def test_a_call_without_proof_is_the_implicit_conversations(there: Ports) -> None:
    """Policy is told that nobody registered it."""
    await there.send("POST", there.agent + "/v1/tool-calls", json=call_of())
    facts = there.line.policy.asked[0]["conversation"]
    assert (facts["id"], facts["registered"], facts["history"]) == ("~implicit", False, "unknown")


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/v1/nothing", 404), ("PATCH", "/v1/tools", 405)])
async def test_what_is_no_route_is_answered_in_json(there: Ports, method: str, path: str, status: int) -> None:
    """With a code."""
    reply = await there.send(method, there.agent + path)
    assert (reply.status, reply.code) == (status, "invalid_call")


# Definitions


async def test_definitions_are_those_that_policy_lets_this_principal_see(there: Ports) -> None:
    """In the catalog's order, without what is quarantined, in the dialect asked for."""
    there.line.policy.sees = frozenset({"place_order", "get_capacity", "not_in_the_catalog"})
    assert [tool["name"] for tool in (await there.get("/v1/tools")).tree] == ["get_capacity", "place_order"]
    for dialect in ("openai_chat", "openai_responses", "anthropic"):
        reply = await there.get(f"/v1/tools?dialect={dialect}")
        assert "place_order" in reply.body.decode()
    assert (await there.get("/v1/tools?dialect=klingon")).code == "invalid_call"
    broken = {"type": "object", "pattern": "("}
    there.line.snapshots.now = snapshot("p1", ("tools/0/versions/0/arguments_schema", broken))
    assert [tool["name"] for tool in (await there.get("/v1/tools")).tree] == ["place_order"]


async def test_definitions_have_a_tag_that_changes_with_them(there: Ports) -> None:
    """304 while it does not."""
    there.line.policy.sees = frozenset({"place_order"})
    tag = (await there.get("/v1/tools")).headers["etag"]
    again = await there.get("/v1/tools", if_none_match=tag)
    assert (again.status, again.body, again.headers["etag"]) == (304, b"", tag)
    there.line.policy.sees = frozenset({"place_order", "get_capacity"})
    changed = await there.get("/v1/tools", if_none_match=tag)
    assert (changed.status, changed.headers["etag"] != tag) == (200, True)


async def test_what_is_shown_is_on_record_when_it_is_new(there: Ports) -> None:
    """An agent asks before each turn, and anybody may ask as fast as it goes: neither fills the journal."""
    there.line.policy.sees = frozenset({"place_order"})
    for _ in range(3):
        await there.get("/v1/tools")
    await there.get("/v1/tools?dialect=anthropic")
    there.line.policy.sees = frozenset({"place_order", "get_capacity"})
    for _ in range(2):
        await there.get("/v1/tools")
    records = await there.line.journal(kind="shown")
    assert [(record["dialect"], record["tools"]) for record in records] == [
        ("native", 1),
        ("anthropic", 1),
        ("native", 2),
    ]


async def test_asking_for_definitions_takes_a_place_as_a_call_does(there: Ports) -> None:
    """OPA has to answer it, too; and the place is free again, also after a refusal."""
    gate = there.line.pipeline.gate
    there.line.policy.sees = frozenset({"place_order"})
    limit, gate.limit = gate.limit, 0
    assert (await there.get("/v1/tools")).code == "overloaded"
    gate.limit = limit
    assert (await there.get("/v1/tools", "x" * 43)).code == "unknown_conversation"
    assert (await there.get("/v1/tools")).status == 200
    assert gate.inside == 0
    places = [gate.enter() for _ in range(limit // 2)]
    for place in places:
        place.give_to("https://id.shop.test#ada")
    assert (await there.get("/v1/tools")).code == "overloaded"
    assert (await there.get("/v1/tools", None)).status == 200  # nobody's share is another
    assert gate.inside == len(places)


async def test_definitions_are_for_those_who_prove_who_they_are(there: Ports) -> None:
    """A wrong handle is not nobody; a web page is refused."""
    assert (await there.get("/v1/tools", "x" * 43)).code == "unknown_conversation"
    assert (await there.get("/v1/tools", origin="http://evil.test")).code == "invalid_call"


# Registration


async def put(there: Ports, name: str, token: str | None = "ada", **given: Any) -> Any:
    headers = {} if token is None else {"authorization": f"Bearer {token}"}
    return await there.send("PUT", f"{there.agent}/v1/conversations/{name}", headers=headers, **given)


async def test_a_conversation_is_registered_by_its_users_token_and_answers_a_handle(there: Ports) -> None:
    """Under which calls are that user's; with a body or without one."""
    reply = await put(there, "new", json={"text": "hello"})
    assert (reply.status, reply.tree["conversation"], reply.tree["registration"]) == (200, "new", "claimed")
    assert (await put(there, "bare")).status == 200
    await there.call(call_of(), x_sidegate_conversation=reply.tree["handle"])
    facts = there.line.policy.asked[0]
    assert (facts["conversation"]["id"], facts["principal"]["id"]) == ("new", "https://id.shop.test#ada")


async def test_a_conversation_is_its_users_alone(there: Ports) -> None:
    """No token, an unknown one, a second user, a web page, a bad name."""
    assert (await put(there, "new", None)).code == "unauthenticated"
    assert (await put(there, "new", "mallory")).code == "unauthenticated"
    assert (await put(there, "talk", "bea")).code == "conflicting_conversation"
    assert (await put(there, "a b")).code == "invalid_call"
    url = f"{there.agent}/v1/conversations/new"
    reply = await there.send("PUT", url, headers={"authorization": "Bearer ada", "origin": "http://evil.test"})
    assert reply.code == "invalid_call"


async def test_later_turns_are_added_with_the_handle(there: Ports) -> None:
    """And counted."""
    reply = await there.call({"text": "more"}, "/v1/conversations/talk/requests")
    assert (reply.status, reply.tree) == (200, {"conversation": "talk", "turn": 2})
    assert (await there.call({"text": "more"}, "/v1/conversations/other/requests")).status == 409
