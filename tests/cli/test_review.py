"""`sidegate review` against a running sidecar."""

import asyncio
import itertools
import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.cli.command import HOSTILE, Done, harmless, inside, sidegate
from tests.e2e.rig import Rig

pytestmark = pytest.mark.asyncio(loop_scope="module")
_numbers = itertools.count(1)


async def review(running: Rig, *words: str, by: str = "rob", run: Callable[..., Done] = inside) -> Done:
    """The command, with the reviewer's token file; in this process, beside the loop that the rig's upstream needs."""
    token = running.folder / f"{by}.token"
    return await asyncio.to_thread(run, "review", *words, "--url", running.url("review"), "--token-file", token)


async def held(running: Rig, body: dict[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
    """A new conversation with a held call; its handle and the refusal."""
    handle = await running.register(f"c{next(_numbers)}")
    for tool in ("get_stock", "get_terms"):
        assert (await running.call(handle, tool))[0] == 200
    call = {"id": "c", "tool": "get_price", "arguments": {"sku": "SKU-1"}} | (body or {})
    _, answer = await running.post("/v1/tool-calls", json.dumps(call), handle)
    assert answer["status"] == "pending"
    return handle, answer["refusal"]


async def test_a_held_call_is_listed_shown_and_approved(running: Rig) -> None:
    """The whole way of a yes, by commands alone: the call then runs."""
    handle, refusal = await held(running)
    listed = await review(running, "list")
    assert listed.code == 0
    (line,) = [line for line in listed.out.splitlines() if refusal["review"] in line]
    for said in ("pending", "get_price", "Ada Example", "sourcing_triangle", "sourcing-leads"):
        assert said in line
    shown = await review(running, "show", refusal["review"])
    assert shown.code == 0
    for said in (
        'sku = "SKU-1"',
        "get_price version 1",
        "Ada Example",
        "1. get_stock",
        "2. get_terms",
        refusal["trace_id"],
    ):
        assert said in shown.out
    (digest,) = [line.split()[1] for line in shown.out.splitlines() if line.startswith("digest")]
    words = ("approve", refusal["review"], "--digest", digest, "--comment", "fine")
    approved = await review(running, *words, run=sidegate)
    assert (approved.code, approved.err) == (0, "")
    assert f"{refusal['review']} is approved, by " in approved.out
    status, _ = await running.post(f"/v1/tool-calls/{refusal['call_id']}/resume", b"", handle)
    assert status == 200
    assert refusal["review"] not in (await review(running, "list")).out
    assert refusal["review"] in (await review(running, "list", "--status", "spent")).out


async def test_json_is_one_document_each(running: Rig) -> None:
    _, refusal = await held(running)
    listed = json.loads((await review(running, "list", "--json")).out)
    assert refusal["review"] in [each["id"] for each in listed]
    shown = json.loads((await review(running, "show", refusal["review"], "--json")).out)
    assert shown["arguments"] == {"sku": "SKU-1"}
    done = await review(running, "reject", refusal["review"], "--json")
    assert json.loads(done.out)["status"] == "rejected"


async def test_a_no_says_why_to_the_model(running: Rig) -> None:
    """The comment reaches the model; the call does not run."""
    handle, refusal = await held(running)
    done = await review(running, "reject", refusal["review"], "--comment", "ask purchasing")
    assert done.code == 0
    assert "is rejected" in done.out
    _, answer = await running.call(handle, "get_price", name_it="again")
    assert answer["status"] != "done"


async def test_a_yes_to_something_else_than_was_shown_is_no_yes(running: Rig) -> None:
    """A wrong digest, a stranger's role, the caller herself, a review that is not there: 1, with the code."""
    _, refusal = await held(running)
    digest = json.loads((await review(running, "show", refusal["review"], "--json")).out)["digest"]
    for name, words, by in (
        ("digest", ("approve", refusal["review"], "--digest", "0" * 64), "rob"),
        ("group", ("approve", refusal["review"], "--digest", digest), "sam"),
        ("own call", ("approve", refusal["review"], "--digest", digest), "ada"),
        ("tenant", ("show", refusal["review"]), "tom"),
        ("not there", ("show", "r-0000"), "rob"),
        ("no id", ("show", "../stops?x=1"), "rob"),
    ):
        done = await review(running, *words, by=by)
        assert (done.code, done.out) == (1, ""), name
        assert done.err.startswith("sidegate: "), name
    assert json.loads((await review(running, "show", refusal["review"], "--json")).out)["status"] == "pending"


async def test_a_refusal_is_json_where_json_was_asked_for(running: Rig) -> None:
    done = await review(running, "show", "r-0000", "--json")
    assert done.code == 1
    assert json.loads(done.out)["ok"] is False


async def test_what_the_model_wrote_is_shown_and_not_obeyed(running: Rig) -> None:
    """Arguments and the stated reason with ANSI, direction overrides and line breaks reach a terminal as escapes."""
    body = {"arguments": {"sku": HOSTILE}, "reason": f"because\n{'held for':<12}nothing {HOSTILE}"}
    _, refusal = await held(running, body)
    for words in (("list",), ("show", refusal["review"]), ("list", "--json"), ("show", refusal["review"], "--json")):
        done = await review(running, *words)
        assert done.code == 0
        assert harmless(done.out), words
    shown = await review(running, "show", refusal["review"])
    assert "\\u001b" in shown.out
    assert [line for line in shown.out.splitlines() if line.startswith("held for")] == [
        line for line in shown.out.splitlines() if line.startswith("held for") and "sourcing_triangle" in line
    ], "a line of the model's cannot pass for one of ours"


async def test_a_text_cannot_pass_for_a_number_and_a_long_one_says_its_length(running: Rig) -> None:
    _, refusal = await held(running, {"arguments": {"sku": "7" + "x" * 300}})
    shown = (await review(running, "show", refusal["review"])).out
    assert 'sku = "7x' in shown
    assert "[303 characters]" in shown


async def test_a_token_of_the_agent_port_is_none_here_and_no_token_is_printed(running: Rig) -> None:
    done = await review(running, "list", by="user")
    assert done.code == 1
    assert "unauthenticated" in done.err
    for token in (*running.users.values(), *running.reviewers.values()):
        assert token not in done.all


async def test_a_users_token_and_the_agents_port_are_told_apart(running: Rig) -> None:
    """The token of the other port is named as such, and so is the other port."""
    token = await review(running, "list", by="user")
    assert (token.code, "this port takes reviewers' tokens (reviewers.yaml)" in token.err) == (1, True)
    for port in ("agent", "probe"):
        words = ("review", "list", "--url", running.url(port), "--token-file", running.folder / "rob.token")
        elsewhere = await asyncio.to_thread(inside, *words)
        assert (elsewhere.code, "is this the review port?" in elsewhere.err) == (1, True), elsewhere.err
