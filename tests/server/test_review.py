"""The review port on real sockets: who sees what, who may answer, stop switches, status."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from yarl import URL

from proxy.core.policy_input import timestamp
from proxy.core.review import ReviewStatus
from tests.contracts.line import reviewed
from tests.contracts.served import Ports, call_of, ports
from tests.server.ports_by_hand import Dialled

ORDER: dict[str, Any] = {"sku": "a", "quantity": 2, "auth": {"pin": "p1n-canary"}}


@pytest.fixture
async def there(tmp_path: Path) -> AsyncIterator[Ports]:
    async with ports(tmp_path) as made:
        made.line.policy.decides = reviewed
        yield made


async def held(there: Ports, call: Any = None) -> str:
    """The review of a held call of ada's."""
    reply = await there.call([call or call_of()])
    return str(reply.tree[0]["refusal"]["review"])


async def shown(there: Ports, review: str) -> Any:
    return (await there.desk("GET", f"/v1/reviews/{review}")).tree


async def test_a_reviewer_sees_all_that_a_decision_needs(there: Ports) -> None:
    """What will run, why it is held, what led here; what the agent says stands apart; secrets are masked."""
    there.line.policy.decides = type(there.line.policy)().decides
    await there.call(call_of(supplier_id="earlier"))
    there.line.policy.decides = reviewed
    review = await held(there, call_of("place_order", **ORDER) | {"reason": "stock is low"})
    document = await shown(there, review)
    assert (document["id"], document["status"], document["tool"], document["version"]) == (
        review,
        "pending",
        "place_order",
        "2026-01",
    )
    assert document["principal"] == {"id": "https://id.shop.test#ada", "name": "Ada", "tenant": "shop"}
    assert (document["agent_says"], document["arguments_masked"]) == ("stock is low", True)
    assert document["arguments"]["auth"]["pin"].startswith("hmac:")
    assert [(c["seq"], c["tool"], c["outcome"]) for c in document["earlier_calls"]] == [(1, "get_capacity", "done")]
    assert document["reasons"]["combination"][0]["code"] == "three_systems"
    assert document["approvers"] == ["leads"]
    assert "p1n-canary" not in str(document)


async def test_a_body_that_would_be_too_large_is_refused_before_it_comes(there: Ports) -> None:
    """And nobody waits for one that never does."""
    url = URL(there.review)
    desk = Dialled(*await asyncio.open_connection(url.host, url.port))
    head = "POST /v1/stops HTTP/1.1\r\nhost: a\r\nauthorization: Bearer oscar\r\ncontent-length: 65537\r\n\r\n"
    await desk.say(head.encode())
    status, _, document = await desk.answer()
    assert (status, document["refusal"]["code"]) == (413, "too_large")
    desk.writer.close()


async def test_the_list_has_what_is_pending_newest_first_and_no_arguments(there: Ports) -> None:
    """Other states on demand."""
    first, second = await held(there, call_of(supplier_id="a")), await held(there, call_of(supplier_id="b"))
    listed = (await there.desk("GET", "/v1/reviews")).tree
    assert [r["id"] for r in listed] == [second, first]
    assert not {"arguments", "digest"} & set(listed[0])
    await there.line.store.reviews.resolve(first, ReviewStatus.REJECTED, "desk#rita", None)
    assert [r["id"] for r in (await there.desk("GET", "/v1/reviews")).tree] == [second]
    assert [r["id"] for r in (await there.desk("GET", "/v1/reviews?status=rejected")).tree] == [first]
    assert len((await there.desk("GET", "/v1/reviews?status=all")).tree) == 2


async def test_another_tenants_reviews_are_not_there(there: Ports) -> None:
    """Neither listed nor shown nor answered."""
    review = await held(there)
    digest = (await shown(there, review))["digest"]
    assert (await there.desk("GET", "/v1/reviews", by="tom")).tree == []
    for method, path in (("GET", ""), ("POST", "/approve"), ("POST", "/reject")):
        reply = await there.desk(method, f"/v1/reviews/{review}{path}", {"digest": digest}, by="tom")
        assert (reply.status, reply.code) == (404, "unknown_call")
    assert (await there.desk("GET", "/v1/reviews/r-never")).code == "unknown_call"


async def test_a_yes_repeats_the_digest_that_was_shown_and_comes_once(there: Ports) -> None:
    """By whom is on record; who comes second is told so."""
    review = await held(there)
    digest = (await shown(there, review))["digest"]
    bare = await there.desk("POST", f"/v1/reviews/{review}/approve", {})
    assert (bare.status, bare.code) == (400, "invalid_call")
    wrong = await there.desk("POST", f"/v1/reviews/{review}/approve", {"digest": digest[:-1]})
    assert (wrong.status, wrong.code) == (409, "call_concluded")
    yes = await there.desk("POST", f"/v1/reviews/{review}/approve", {"digest": digest, "comment": "fine"})
    assert (yes.status, yes.tree["status"], yes.tree["by"], yes.tree["comment"]) == (
        200,
        "approved",
        "desk#rita",
        "fine",
    )
    late = await there.desk("POST", f"/v1/reviews/{review}/reject", {})
    assert (late.status, late.code) == (409, "call_concluded")


async def test_a_no_needs_no_digest_and_its_comment_goes_back(there: Ports) -> None:
    """To whoever asks again."""
    review = await held(there)
    no = await there.desk("POST", f"/v1/reviews/{review}/reject", {"comment": "not this week"})
    assert (no.status, no.tree["status"]) == (200, "rejected")
    assert "not this week" in (await there.call(call_of())).body.decode()


@pytest.mark.parametrize("by", ["ada-too", "oscar"])
async def test_who_may_not_answer_a_review_cannot(there: Ports, by: str) -> None:
    """The asker under another issuer's name; one who is not of the group. Neither yes nor no."""
    review = await held(there)
    digest = (await shown(there, review))["digest"]
    for answer in ("approve", "reject"):
        reply = await there.desk("POST", f"/v1/reviews/{review}/{answer}", {"digest": digest}, by=by)
        assert (reply.status, reply.code) == (403, "not_approver")
    assert (await shown(there, review))["status"] == "pending"


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": "rita"},
        {"authorization": "Basic rita"},
        {"authorization": "Bearer "},
        {"authorization": "Bearer nobody"},
        {"authorization": "Bearer ada"},
        {"x-sidegate-conversation": "h" * 43},
    ],
)
async def test_nothing_is_shown_without_a_reviewers_token(there: Ports, headers: dict[str, str]) -> None:
    """A user's token is none, whatever it may do on the agent port."""
    review = await held(there)
    for method, path in (
        ("GET", "/v1/reviews"),
        ("GET", f"/v1/reviews/{review}"),
        ("POST", f"/v1/reviews/{review}/approve"),
        ("POST", f"/v1/reviews/{review}/reject"),
        ("POST", "/v1/stops"),
        ("DELETE", "/v1/stops"),
        ("GET", "/v1/status"),
    ):
        reply = await there.send(method, there.review + path, json={}, headers=headers)
        assert (reply.status, reply.code) == (401, "unauthenticated"), path


async def test_two_tokens_are_none_and_web_pages_are_refused(there: Ports) -> None:
    """Which of the two counts would be anybody's guess."""
    twice = [("authorization", "Bearer rita"), ("authorization", "Bearer oscar")]
    assert (await there.send("GET", there.review + "/v1/reviews", headers=twice)).code == "unauthenticated"
    page = {"authorization": "Bearer rita", "origin": "http://evil.test"}
    assert (await there.send("GET", there.review + "/v1/reviews", headers=page)).code == "invalid_call"


async def test_an_operator_stops_and_lifts(there: Ports) -> None:
    """In force at once, on record with their name; a reviewer who is no operator cannot."""
    there.line.policy.decides = type(there.line.policy)().decides
    switch = {"scope": "tool", "name": "get_capacity"}
    assert (await there.desk("POST", "/v1/stops", switch)).code == "not_approver"
    thrown = await there.desk("POST", "/v1/stops", switch, by="oscar")
    assert (thrown.status, thrown.tree) == (200, switch | {"by": "desk#oscar", "standing": True})
    assert (await there.call(call_of())).code == "stopped"
    assert (await there.desk("DELETE", "/v1/stops", switch)).code == "not_approver"
    assert (await there.desk("DELETE", "/v1/stops", switch, by="oscar")).tree["standing"] is False
    assert (await there.call(call_of())).status == 200
    assert [r["by"] for r in await there.line.journal(kind="stop")] == ["desk#oscar"] * 2


async def test_operators_see_what_is_stopped_since_when_and_by_whom(there: Ports) -> None:
    """Others do not: a switch may name a user."""
    assert (await there.desk("GET", "/v1/stops", by="oscar")).tree == []
    for scope, name, by in (("tool", "get_capacity", "oscar"), ("principal", "ada", "tom")):
        await there.desk("POST", "/v1/stops", {"scope": scope, "name": name}, by=by)
    listed = (await there.desk("GET", "/v1/stops", by="oscar")).tree
    assert [(each["scope"], each["name"], each["by"]) for each in listed] == [
        ("principal", "ada", "desk#tom"),
        ("tool", "get_capacity", "desk#oscar"),
    ]
    assert {each["since"] for each in listed} == {timestamp(there.line.clock.now())}
    assert (await there.desk("GET", "/v1/stops", by="rita")).code == "not_approver"
    await there.desk("DELETE", "/v1/stops", {"scope": "principal", "name": "ada"}, by="oscar")
    assert [each["scope"] for each in (await there.desk("GET", "/v1/stops", by="oscar")).tree] == ["tool"]


async def test_all_calls_can_be_stopped_without_a_name(there: Ports) -> None:
    """The widest switch is the easiest to throw."""
    assert (await there.desk("POST", "/v1/stops", {}, by="oscar")).tree["scope"] == "all"
    assert (await there.call(call_of())).code == "stopped"


@pytest.mark.parametrize(
    "body",
    [{"scope": "planet", "name": "x"}, {"scope": "tool"}, {"scope": "tool", "name": ""}, {"name": 7}, [], {"x": "y"}],
)
async def test_what_is_no_switch_stops_nothing(there: Ports, body: Any) -> None:
    """And says what one is."""
    reply = await there.desk("POST", "/v1/stops", body, by="oscar")
    assert (reply.status, reply.code) == (400, "invalid_call")
    assert await there.line.journal(kind="stop") == []


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"{", 400, "invalid_json"),
        (b"[]", 400, "invalid_call"),
        (b'{"digest":7}', 400, "invalid_call"),
        (b'{"digest":"d","scope":"conversation"}', 400, "invalid_call"),
        (b'{"digest":"d","comment":"' + b"x" * 1001 + b'"}', 400, "invalid_call"),
        (b" " * (1 << 17), 413, "too_large"),
    ],
)
async def test_what_is_no_answer_answers_nothing(there: Ports, body: bytes, status: int, code: str) -> None:
    """The review stays pending."""
    review = await held(there)
    url = f"{there.review}/v1/reviews/{review}/approve"
    reply = await there.send("POST", url, data=body, headers={"authorization": "Bearer rita"})
    assert (reply.status, reply.code) == (status, code)
    assert (await shown(there, review))["status"] == "pending"


async def test_status_is_for_reviewers(there: Ports) -> None:
    """As the process gives it, for no cache."""
    reply = await there.desk("GET", "/v1/status")
    assert (reply.status, reply.tree, reply.headers["cache-control"]) == (200, {"ready": True}, "no-store")
