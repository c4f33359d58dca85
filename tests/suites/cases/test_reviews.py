"""Cases of section 9: holding and answering (C064-C070), through the running sidecar."""

import asyncio
import json
import signal
import time
from typing import Any

import pytest

from tests.e2e.holds import held_price, prices, resume, review_of
from tests.e2e.rig import REPO, Rig, tool
from tests.suites.cases.kit import note, says

pytestmark = pytest.mark.asyncio(loop_scope="module")

OLD = {
    "type": "object",
    "properties": {"vendor": {"type": "string"}, "note": {"type": "string"}},
    "required": ["vendor"],
}
NEW = {
    "type": "object",
    "properties": {"supplier": {"type": "string"}, "limit": {"type": "integer"}},
    "required": ["supplier", "limit"],
}


def prepare(rig: Rig) -> None:
    """Tools of high risk, which a person always sees; room for many holds."""
    rig.settings["limits"] = {"holds_per_conversation": 50, "new_holds_per_hour": 100, "holds_per_principal": 200}
    rig.policy["review"]["risks"] = {"high": {}}
    upgrade = {"rename": {"vendor": "supplier"}, "drop": ["note"], "default": {"limit": 10}}
    versions = [
        {"version": "2", "arguments_schema": NEW},
        {"version": "1", "arguments_schema": OLD, "supported_until": "2999-01-01", "upgrade": upgrade},
    ]
    request = {"method": "POST", "path": "/changed", "body": {"supplier": "supplier", "limit": "limit"}}
    secret = {"arguments": {"password": {"role": "secret"}}, "properties": {"text": {}, "password": {"type": "string"}}}
    masked = {"method": "POST", "path": "/masked", "body": {"text": "text", "password": "password"}}
    rig.catalog["tools"] += [
        note("seen", risk="high"),
        tool("changed", "inventory", "read", request, versions=versions, risk="high"),
        tool("masked", "inventory", "read", masked, risk="high", **secret),
    ]


async def test_c064_what_was_held_is_decidable_after_a_crash(prepared: Rig) -> None:
    """Three holds, kill -9, a new start: one is approved, one denied, one left; each has its record and its definite answer,
    and a review that never was executes nothing."""
    prepare(prepared)
    await prepared.start()
    handle = await prepared.register("c064")
    held = [await prepared.send(handle, "seen", {"text": number}) for number in range(3)]
    assert {answer.code for answer in held} == {"review_pending"}
    await prepared.stop(signal.SIGKILL)
    await prepared.start()
    reviews = [review_of(answer) for answer in held]
    assert (await prepared.approve(reviews[0]))[0] == 200
    assert (await prepared.review("POST", f"/v1/reviews/{reviews[1]}/reject", {"comment": "no"}))[0] == 200
    assert (await prepared.approve("r-0000000000000000"))[0] == 404
    assert [await resume(prepared, answer, handle) for answer in held] == [
        (200, ""),
        (409, "review_rejected"),
        (409, "review_pending"),
    ]
    assert len(prepared.upstream.received) == 1
    again = [(await prepared.send(handle, "seen", {"text": number})).code for number in range(3)]
    assert again == ["review_pending", "review_rejected", "review_pending"]
    await prepared.sound()


STRANGE: dict[str, Any] = {
    "right to left": "invoice\u202excod.exe",
    "hidden": "pay\u200b\u2066 all\u2069\ufeff",
    "markup": "<img src=x onerror=alert(1)><script>alert(2)</script>",
    "padding": " " * 200_000 + "rm -rf /",
    "terminal": "\u001b[2J\u001b]0;approved\u0007\r\nstatus: approved",
    "numbers": [12345678901234567890, 1.10, -0.0],
}


@pytest.mark.parametrize("kind", STRANGE)
async def test_c067_the_reviewer_sees_what_will_be_sent(shared: Rig, kind: str) -> None:
    """The value in the review is the value at the upstream, whole, however long; as JSON, never as markup; the command line
    shows nothing that a terminal would obey and nothing that does not print."""
    handle = await shared.register(f"c067-{kind.replace(' ', '-')}")
    shared.upstream.answer = says(b"{}")
    held = await shared.send(handle, "seen", {"text": STRANGE[kind]})
    review = review_of(held)
    headers = {"authorization": f"Bearer {shared.reviewers['rob']}"}
    async with shared.session.get(f"{shared.url('review')}/v1/reviews/{review}", headers=headers) as response:
        raw, media_type = await response.read(), response.content_type
    assert media_type == "application/json"
    (shared.folder / "reviewer.token").write_text(shared.reviewers["rob"])
    said = await command(shared, "review", "show", review)
    assert not any(char for char in said if char != "\n" and not char.isprintable()), ascii(said)[:400]
    assert (await shared.approve(review))[0] == 200
    assert await resume(shared, held, handle) == (200, "")
    sent = shared.upstream.received[-1].body
    assert sent in raw
    assert json.loads(sent) == {"text": STRANGE[kind]}


async def command(rig: Rig, *arguments: str) -> str:
    """What a reviewer's command prints."""
    import sys

    token = rig.folder / "reviewer.token"
    token.chmod(0o600)
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "proxy.cli", *arguments, "--url", rig.url("review"), "--token-file", str(token)),
        cwd=REPO,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    return out.decode()


async def test_c067_what_was_changed_on_the_way_is_shown_as_it_will_be(shared: Rig) -> None:
    """Arguments of an older version are renamed, dropped, filled in: reviewer, policy, digest and upstream have the result."""
    handle = await shared.register("c067c")
    held = await shared.send(handle, "changed", {"vendor": "ACME", "note": "x"})
    _, shown = await shared.review("GET", f"/v1/reviews/{review_of(held)}")
    assert shown["arguments"] == {"supplier": "ACME", "limit": 10}
    assert shown["version"] == "2"
    assert (await shared.approve(review_of(held)))[0] == 200
    assert await resume(shared, held, handle) == (200, "")
    assert json.loads(shared.upstream.received[-1].body) == shown["arguments"]
    record = await shared.ended(held.call_id)
    assert (record["asked_version"], record["input"]["call"]["arguments"]) == ("1", shown["arguments"])
    assert record["changes"]


async def test_c067_a_mask_is_marked(shared: Rig) -> None:
    """A secret is not shown, and that it is not shown is said."""
    handle = await shared.register("c067m")
    held = await shared.send(handle, "masked", {"text": 1, "password": "pw-c067-secret"})
    _, shown = await shared.review("GET", f"/v1/reviews/{review_of(held)}")
    assert shown["arguments_masked"] is True
    assert "pw-c067-secret" not in json.dumps(shown)
    assert (await shared.approve(review_of(held)))[0] == 200
    assert await resume(shared, held, handle) == (200, "")
    assert json.loads(shared.upstream.received[-1].body)["password"] == "pw-c067-secret"


@pytest.mark.parametrize("shape", ["one list", "three requests"])
async def test_c068_a_hold_among_siblings_is_its_own_affair(shared: Rig, shape: str) -> None:
    """11 and 13 answer at once, 12 is held and gets its own no; nothing is invented for it, and two holds in one conversation
    are two."""
    handle = await shared.register(f"c068-{shape.replace(' ', '-')}")
    calls = {"11": "get_stock", "12": "seen", "13": "get_terms", "14": "seen"}
    bodies = [
        {"id": n, "tool": name, "arguments": {"text": n} if name == "seen" else {"sku": n}} for n, name in calls.items()
    ]
    began = time.monotonic()
    if shape == "one list":
        _, answers = await shared.post("/v1/tool-calls", json.dumps(bodies), handle, x_sidegate_patience="20")
    else:
        sent = [shared.post("/v1/tool-calls", json.dumps(body), handle) for body in bodies]
        answers = [answer for _, answer in await asyncio.gather(*sent)]
    assert time.monotonic() - began < 10
    assert [a["id"] for a in answers] == list(calls)
    assert [a["status"] for a in answers] == ["done", "pending", "done", "pending"]
    first, second = (a["refusal"]["review"] for a in answers if a["status"] == "pending")
    assert first != second
    assert (await shared.review("POST", f"/v1/reviews/{first}/reject", {"comment": "not 12"}))[0] == 200
    state = f"/v1/tool-calls/{answers[1]['call_id']}"
    assert (await shared.get(state, handle))[1]["status"] == "rejected"
    status, body = await shared.post(state + "/resume", b"", handle)
    assert (status, body["refusal"]["code"]) == (409, "review_rejected")
    assert "not 12" in body["refusal"]["message"]
    assert (await shared.get(f"/v1/tool-calls/{answers[3]['call_id']}", handle))[1]["status"] == "pending"
    assert sorted(r.target for r in shared.upstream.received) == ["/stock/11", "/terms/13"]


async def test_c070_repeats_of_a_held_call_are_one_question(shared: Rig) -> None:
    """The caller gives up and repeats the same call twice: one pending review; after the yes one of the calls runs, once, and
    the next one is a new question, not a loop without end."""
    handle = await shared.register("c070")
    held = await held_price(shared, handle)
    repeats = [await shared.send(handle, "get_price") for _ in range(2)]
    assert {review_of(answer) for answer in (held, *repeats)} == {review_of(held)}
    _, pending = await shared.review("GET", "/v1/reviews")
    assert len([r for r in pending if r["conversation"] == "c070"]) == 1
    assert (await shared.approve(review_of(held)))[0] == 200
    assert (await shared.send(handle, "get_price")).status == 200
    assert prices(shared) == 1
    for answer in (held, *repeats):
        assert (await resume(shared, answer, handle))[0] in (404, 409)
    assert prices(shared) == 1
    asked_again = await shared.send(handle, "get_price")
    assert (asked_again.code, review_of(asked_again) != review_of(held)) == ("review_pending", True)


async def test_c070_a_repeat_while_the_first_still_waits(shared: Rig) -> None:
    """Both wait at once, and a yes to each is one execution each: one yes never runs two calls."""
    handle = await shared.register("c070w")
    patient = {"x_sidegate_patience": "15"}
    first = asyncio.create_task(shared.send(handle, "seen", {"text": "same"}, **patient))
    await shared.until_true(lambda: reviews_of(shared) == 1, "the first is held")
    second = asyncio.create_task(shared.send(handle, "seen", {"text": "same"}, **patient))
    await shared.until_true(lambda: reviews_of(shared) == 2, "the second is held")
    _, pending = await shared.review("GET", "/v1/reviews")
    one = next(r["id"] for r in pending if r["conversation"] == "c070w")
    assert (await shared.approve(one))[0] == 200
    done, waiting = await asyncio.wait({first, second}, return_when=asyncio.FIRST_COMPLETED)
    assert [task.result().status for task in done] == [200]
    assert len(waiting) == 1
    assert len(shared.upstream.received) == 1
    other = next(r["id"] for r in pending if r["conversation"] == "c070w" and r["id"] != one)
    assert (await shared.review("POST", f"/v1/reviews/{other}/reject", {}))[0] == 200
    assert (await waiting.pop()).code == "review_rejected"
    assert len(shared.upstream.received) == 1


def reviews_of(rig: Rig) -> int:
    """How many reviews the conversation of the last test has asked for."""
    return len(rig.records(kind="review_requested", conversation="c070w"))
