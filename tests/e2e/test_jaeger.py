"""Every way out of the line, found in a real Jaeger by one tag search each, and read there span by span."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from datetime import datetime
from urllib.parse import quote

import pytest
import pytest_asyncio

from proxy.telemetry.names import ALL_ATTRIBUTES
from tests.e2e.jaeger import Jaeger, Told
from tests.e2e.jaeger_story import (
    CANARY,
    COMMENT,
    Story,
    ask,
    ended_otherwise,
    expired,
    held_and_approved,
    maps,
    rejected,
    upstream,
)
from tests.e2e.rig import CREDENTIAL, REPO, rig

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


# Whether the spans of decisions are red, where there is not one that is not.
DECIDED = {"abandoned": [True], "closed": [True], "unknown": [], "invalid": [], "unparsable": []}


PROTOCOLS = ("http/protobuf", "grpc")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stories(jaeger: Jaeger, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[dict[str, Story]]:
    """All of it, played over both protocols at the same time: most of it is waiting."""
    async with contextlib.AsyncExitStack() as stack:
        told = {}
        for protocol in PROTOCOLS:
            made = await stack.enter_async_context(rig(tmp_path_factory.mktemp("told")))
            told[protocol] = Story(made, jaeger, f"sidegate-{protocol.partition('/')[0]}")
        async with asyncio.TaskGroup() as group:
            for protocol, one_of_them in told.items():
                group.create_task(played(one_of_them, protocol))
        yield told


async def played(told: Story, protocol: str) -> None:
    """Every way out, up to the end of the process, which flushes."""
    made = told.rig
    made.environment = told.jaeger.variables(protocol, told.service)
    # Long enough for all that has to be done before, short enough to be waited for.
    made.settings |= {"review_ttl": "8s", "opa": {"deadline": "3s"}}
    for entry in made.catalog["tools"]:
        entry["timeout"] = "2s"
    made.upstream.answer = upstream
    await made.start()
    await ask(told, "expired")
    await held_and_approved(told)
    await rejected(told)
    await ended_otherwise(told)
    await expired(told)
    assert ("cygrpc" in maps(made.pid)) is (protocol == "grpc")
    assert await made.stop() == 0
    await made.until_true(lambda: bool(told.spans("closed")), "what was flushed at the end can be searched")


@pytest.fixture(scope="module", params=PROTOCOLS)
def story(request: pytest.FixtureRequest, stories: dict[str, Story]) -> Story:
    """What was played over each protocol."""
    return stories[request.param]


# Found ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tag", "value"),
    [
        ("gen_ai.tool.call.id", "toolu-held"),
        ("gen_ai.conversation.id", "c-held"),
        ("sidegate.review_id", "{review}"),
        ("sidegate.decision_id", "{call}"),
        ("gen_ai.tool.name", "get_price"),
        ("sidegate.decision", "review"),
        ("sidegate.reason", "combination.sourcing_triangle"),
        ("security_rule.name", "sourcing_triangle"),
        ("sidegate.principal", "token-file#ada"),
        ("sidegate.agent", "test/agent"),
        ("sidegate.system", "pricing"),
        ("sidegate.labels", '["price-list"]'),
        ("sidegate.code", "review_pending"),
        ("error.type", "review_pending"),
        ("sidegate.review.status", "approved"),
        ("sidegate.review.by", "token-file#rob"),
    ],
)
def test_the_held_call_is_found_by_one_tag(story: Story, tag: str, value: str) -> None:
    """Whatever an SRE was told of it."""
    call, trace = story.calls["held"]
    assert trace in story.jaeger.search(story.service, {tag: value.format(call=call, review=story.review)})


def test_what_is_searched_by_stands_together_on_one_span(story: Story) -> None:
    """Jaeger matches all tags of a search on a single span."""
    wanted = {"gen_ai.tool.name": "get_price", "sidegate.decision": "review", "gen_ai.conversation.id": "c-held"}
    more = {"sidegate.principal": "token-file#ada", "sidegate.system": "pricing", "sidegate.code": "review_pending"}
    assert story.jaeger.search(story.service, wanted | more) == {story.calls["held"][1]}
    assert story.jaeger.search(story.service, wanted | {"sidegate.decision": "allow"}) == {story.calls["resumed"][1]}


def test_one_search_by_the_review_is_the_whole_story(story: Story) -> None:
    """The call that was held and the one that ran after the yes, and nothing else; the ids of both lead to each other."""
    both = {story.calls["held"][1], story.calls["resumed"][1]}
    assert story.jaeger.search(story.service, {"sidegate.review_id": story.review}) == both
    resumes = {"sidegate.resumes": story.calls["held"][0]}
    assert story.jaeger.search(story.service, resumes) == {story.calls["resumed"][1]}


@pytest.mark.parametrize(
    ("way", "code", "decision"),
    [
        ("denied", "denied", "deny"),
        ("held", "review_pending", "review"),
        ("rejected", "review_pending", "review"),
        ("expired", "review_pending", "review"),
        ("failed", "tool_failed", "allow"),
        ("slow", "tool_timeout", "allow"),
        ("withheld", "result_withheld", "allow"),
        ("abandoned", "abandoned", "none"),
        ("closed", "policy_unavailable", "none"),
        ("unknown", "unknown_tool", "none"),
        ("invalid", "invalid_arguments", "none"),
        ("unparsable", "invalid_json", "none"),
    ],
)
def test_every_no_is_a_red_span_of_its_code(story: Story, way: str, code: str, decision: str) -> None:
    """As the terminal record has it. A decision that was made is not red, whatever it was; one that was not made is."""
    span, record = story.server(way), story.record(way)
    said = span.attributes
    assert span.error
    assert (said["error.type"], said["sidegate.code"], record["code"]) == (code, code, code)
    assert (said["sidegate.decision"], said["sidegate.ran"]) == (decision, record["ran"])
    assert said["gen_ai.tool.call.id"] == ("" if way == "unparsable" else f"toolu-{way}")
    assert [s.error for s in story.spans(way) if s.name == "decide"] == DECIDED.get(way, [False])
    assert span.trace in story.jaeger.search(story.service, {"sidegate.code": code, "sidegate.decision": decision})


@pytest.mark.parametrize("way", ["get_stock", "resumed"])
def test_what_went_well_is_not_red(story: Story, way: str) -> None:
    """No span of its trace."""
    assert [span.name for span in story.spans(way) if span.error] == []
    assert story.server(way).attributes["sidegate.ran"] == "yes"


# Read ----------------------------------------------------------------------------------------------------------------


def test_who_asked_and_what_was_decided_by_which_rule_and_revision(story: Story) -> None:
    """The SERVER span says it, as the record does; the decision's own span, too, with OPA's below it."""
    server, record = story.server("held"), story.record("held")
    said = server.attributes
    assert (said["sidegate.principal"], said["gen_ai.conversation.id"]) == (record["principal"]["id"], "c-held")
    assert said["sidegate.agent"] == "test/agent"
    assert (said["security_rule.ruleset.name"], said["security_rule.name"]) == ("combination", "sourcing_triangle")
    assert (said["security_rule.version"], said["sidegate.revision"]) == (
        record["decision"]["policy"],
        record["revision"],
    )
    decide = one(story.spans("held"), "decide")
    same = ("sidegate.decision", "sidegate.reason", "security_rule.name", "security_rule.version")
    assert {key: decide.attributes[key] for key in same} == {key: said[key] for key in same}
    (opa,) = [span for span in story.spans("held") if span.service == "opa"]
    assert (opa.parent, decide.parent) == (decide.id, server.id)
    assert opa.attributes["http.response.status_code"] == 200


def test_the_call_hangs_below_the_agents_own_span(story: Story) -> None:
    """Its trace id is the agent's; a flag that says unsampled does not lower what is evidence. No clock is doubted."""
    spans = story.spans("held")
    server = story.server("held")
    assert {span.id: span.service for span in spans}[server.parent] == "agent"
    assert server.parent == story.agents
    doubts = [said for span in spans for said in span.attributes.get("@jaeger@warnings", ()) if "delta" in said]
    assert doubts == []


def test_a_hold_shows_while_it_lasts_and_how_long_the_person_took(story: Story) -> None:
    """Two spans that last no time, both below the held call, the answer linked to the request."""
    spans, server = story.spans("held"), story.server("held")
    asked, answered = one(spans, "review requested"), one(spans, "review resolved")
    assert {asked.parent, answered.parent} == {server.id}
    assert answered.links == ((asked.trace, asked.id),)
    assert asked.end - asked.start < 1_000_000_000
    said = asked.attributes
    assert (said["sidegate.review.status"], said["sidegate.review.approvers"]) == ("pending", ["sourcing-leads"])
    assert said["sidegate.review.expires_at"]
    (requested,) = story.rig.records(kind="review_requested", call=story.calls["held"][0])
    (resolved,) = story.rig.records(kind="review_resolved", review=story.review)
    took = datetime.fromisoformat(resolved["resolved_at"]) - datetime.fromisoformat(requested["review"]["requested_at"])
    said = answered.attributes
    assert said["sidegate.review.seconds"] == pytest.approx(took.total_seconds(), abs=0.002)
    assert (said["sidegate.review.status"], said["sidegate.review.by"]) == ("approved", "token-file#rob")
    assert answered.start - asked.start == pytest.approx(took.total_seconds() * 1e9, abs=1e9)


def test_what_the_upstream_did_after_the_yes(story: Story) -> None:
    """One call to it, with its address, status and time; its own span below ours. The answer is told here, too, with a link."""
    spans, server = story.spans("resumed"), story.server("resumed")
    sent = one(spans, "tools/call get_price")
    said = sent.attributes
    assert (sent.kind, sent.parent, said["sidegate.upstream"]) == ("client", server.id, "api")
    assert (said["server.address"], said["server.port"]) == ("127.0.0.1", story.rig.upstream.port)
    assert (said["http.response.status_code"], sent.error) == (200, False)
    assert [span.parent for span in spans if span.service == "prices"] == [sent.id]
    decided = [span.attributes["sidegate.decision"] for span in spans if span.name == "decide"]
    assert decided == ["review", "allow"]
    answered = one(spans, "review resolved")
    asked = one(story.spans("held"), "review requested")
    assert answered.links == ((asked.trace, asked.id),)
    assert (server.attributes["sidegate.review.by"], server.attributes["sidegate.review_id"]) == (
        "token-file#rob",
        story.review,
    )


@pytest.mark.parametrize(("way", "by"), [("rejected", "token-file#rob"), ("expired", "sidegate")])
def test_a_no_is_told_in_the_trace_of_the_held_call_though_nobody_waits(story: Story, way: str, by: str) -> None:
    """Once, when it happens, linked to the request; nothing was sent."""
    spans = story.spans(way)
    answered, asked = one(spans, "review resolved"), one(spans, "review requested")
    assert (answered.attributes["sidegate.review.status"], answered.attributes["sidegate.review.by"]) == (way, by)
    assert answered.links == ((asked.trace, asked.id),)
    assert not any(span.name.startswith("tools/call") for span in spans)
    resolved = story.rig.records(kind="review_resolved", review=asked.attributes["sidegate.review_id"])[-1]
    late = answered.start / 1e9 - datetime.fromisoformat(resolved["resolved_at"]).timestamp()
    assert -0.1 < late < (1 if way == "rejected" else 3)  # whoever watches for expiries looks every second


def test_a_failing_upstream_is_red_where_it_failed(story: Story) -> None:
    """Its status, or what went wrong with it, on the CLIENT span."""
    errors = {way: one(story.spans(way), "tools/call get_stock") for way in ("failed", "slow", "withheld")}
    types = {way: span.attributes["error.type"] for way, span in errors.items()}
    assert types == {"failed": "500", "slow": "tool_timeout", "withheld": "result_withheld"}
    assert all(span.error for span in errors.values())


def test_no_argument_result_comment_or_credential_is_in_any_span(story: Story) -> None:
    """Of ours and of OPA's."""
    told = "".join(story.jaeger.text(f"/api/v3/traces/{trace}") for _, trace in story.calls.values())
    assert told.count("sidegate.decision_id") > len(story.calls)
    assert [secret for secret in (CANARY, COMMENT, CREDENTIAL, *story.secrets) if secret in told] == []


def test_the_ui_gets_our_link_patterns(story: Story) -> None:
    """Served by this Jaeger as committed; every tag they start from is one of ours, and was emitted."""
    patterns = json.loads((REPO / "deploy" / "jaeger" / "ui.json").read_text())["linkPatterns"]
    page = story.jaeger.text("/")
    emitted = {key for way in story.calls for span in story.spans(way) for key in span.attributes}
    keys = [pattern["key"] for pattern in patterns if pattern["type"] == "tags"]
    assert len(keys) == 5
    assert set(keys) <= emitted & set(ALL_ATTRIBUTES)
    assert all(json.dumps(pattern["text"])[1:-1] in page for pattern in patterns)


@pytest.mark.parametrize("key", ["sidegate.review_id", "sidegate.decision_id", "sidegate.resumes"])
async def test_a_link_leads_where_it_says(story: Story, key: str) -> None:
    """Searches are the UI's own, which is the API's with another path; a review is served to reviewers."""
    patterns = json.loads((REPO / "deploy" / "jaeger" / "ui.json").read_text())["linkPatterns"]
    (url,) = [pattern["url"] for pattern in patterns if pattern.get("key") == key]
    span = story.server("resumed")
    url = url.replace(f"#{{{key}}}", quote(span.attributes[key], safe=""))
    if key == "sidegate.review_id":
        assert url == f"http://127.0.0.1:8902/v1/reviews/{story.review}"
        return
    query = url.removeprefix("/search").replace("service=sidegate", f"service={story.service}")
    found = {trace["traceID"] for trace in story.jaeger.get("/api/traces" + query)["data"]}
    assert found == {story.calls["resumed" if key == "sidegate.decision_id" else "held"][1]}


def one(spans: list[Told], name: str) -> Told:
    """The only span of that name."""
    (found,) = [span for span in spans if span.name == name]
    return found
