"""The document that policies read: the one schema for both sides, secrets masked, bytes as they are sent, the record rebuilt."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]  # the package ships no types
import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.core import strict_json
from proxy.core.policy_input import (
    compact,
    decision_input,
    masked_arguments,
    principal_facts,
    timestamp,
    visible_input,
)
from proxy.core.reservation import SHOWN_CALLS
from proxy.core.review import Approval
from proxy.core.tool import Argument, CheckedCall, Tool
from proxy.earlier import EarlierCall, Outcome
from proxy.model import (
    Agent,
    Arguments,
    Caller,
    Dialect,
    Facts,
    History,
    Principal,
    Registration,
    Resource,
    ToolCall,
    ToolCount,
    ToolEffect,
)
from tests.contracts.store_values import NOON, NOTHING, caller, checked, tool

SCHEMAS = Path(__file__).parents[2] / "rego" / "schemas"
INPUT = jsonschema.Draft7Validator(json.loads((SCHEMAS / "input.json").read_text()))
VISIBLE = jsonschema.Draft7Validator(json.loads((SCHEMAS / "visible.json").read_text()))
KEY = b"k" * 32

text = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12)
name = text | st.sampled_from(["calls", '"calls":[]', "calls_complete", "conversation", "Jörg\u202e"])
maybe = st.none() | name
count = st.integers(min_value=0, max_value=2**53)
moments = st.datetimes(min_value=datetime(1000, 1, 1), max_value=datetime(9999, 12, 31), timezones=st.just(UTC))  # noqa: DTZ001 - hypothesis wants naive bounds
json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False) | name,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(name, inner, max_size=3),
    max_leaves=8,
)
# Keys that differ only in case are refused on the way in.
objects = st.dictionaries(name, json_values, max_size=4).filter(lambda o: len({k.casefold() for k in o}) == len(o))
names = st.lists(name, max_size=3).map(tuple)
agents = st.builds(Agent, namespace=maybe, service_account=maybe, pod=maybe, spiffe_id=maybe)
plain = st.dictionaries(name, st.none() | st.booleans() | st.integers(-(2**53), 2**53) | name, max_size=3)
principals = st.builds(
    Principal,
    issuer=name,
    subject=name,
    name=maybe,
    tenant=maybe,
    roles=names,
    attributes=plain,
    actors=names,
    authenticated_at=st.none() | moments,
    expires_at=st.none() | moments,
)
callers = st.builds(
    Caller,
    agent=agents,
    principal=principals,
    conversation=name,
    registration=st.sampled_from(Registration),
    profile=maybe,
)
VISIBLE_OUTCOMES = (Outcome.EXECUTING, Outcome.HELD, Outcome.DONE, Outcome.UNKNOWN)
earlier = st.builds(
    EarlierCall,
    seq=count,
    tool=name,
    system=name,
    effect=st.sampled_from([str(e) for e in ToolEffect]),
    labels=names,
    outcome=st.sampled_from(VISIBLE_OUTCOMES),
)


def numbered(calls: list[EarlierCall]) -> tuple[EarlierCall, ...]:
    """By number; of those longer ago than the last 20 only held ones are left (core.reservation)."""
    ordered = sorted(calls, key=lambda c: c.seq)
    return (*(replace(c, outcome=Outcome.HELD) for c in ordered[:-SHOWN_CALLS]), *ordered[-SHOWN_CALLS:])


rows = st.lists(earlier, max_size=25, unique_by=lambda c: c.seq).map(numbered)
histories = st.builds(
    History,
    complete=st.booleans(),
    untrusted_read=st.booleans(),
    marks=st.dictionaries(name, count, max_size=3),
    tools=st.dictionaries(name, st.builds(ToolCount, started=count, ok=count), max_size=3),
    counters=st.dictionaries(name, count, max_size=3),
    calls=rows,
    calls_complete=st.booleans(),
    principal_counters=st.dictionaries(name, count, max_size=3),
)
resources = st.builds(
    Resource, argument=name, type=name, id=name, owner=maybe, tenant=maybe, seen_in_call=st.none() | count
)
approvals = st.none() | st.builds(
    Approval,
    review_id=name,
    by=name,
    at=moments,
    covers=st.dictionaries(name, st.lists(st.fixed_dictionaries({"code": name}), max_size=2), max_size=2),
)
tools: st.SearchStrategy[Tool] = st.builds(
    lambda effect, labels, risk, trusted, paths: replace(
        tool("t", effect=effect, labels=labels, trusted=trusted),
        risk=risk,
        arguments=tuple(Argument(path=p, role="target") for p in paths),
    ),
    st.sampled_from([str(e) for e in ToolEffect]),
    names,
    maybe,
    st.booleans(),
    names,
)


def arguments(value: Any) -> Arguments:
    tree = strict_json.read_tree(json.dumps(value, ensure_ascii=False).encode())
    raw = strict_json.write(tree)
    return Arguments(raw=raw, tree=tree, value=strict_json.read_values(raw))


def judged(who: Caller, what: CheckedCall, facts: Facts, approval: Approval | None = None) -> bytes:
    call = ToolCall(id="c1", tool=what.tool.name, arguments=what.arguments, dialect=Dialect.ANTHROPIC)
    shown = masked_arguments(what, KEY)
    return decision_input(call, "i1", what, who, facts, arguments=shown, approval=approval, now=NOON)


def writable(value: Any) -> bool:
    """Whether the value can stand in a JSON body that the one reader takes."""
    try:
        arguments(value)
    except Exception:  # noqa: BLE001 - whatever the reader refuses never gets here
        return False
    return True


@settings(max_examples=60, deadline=None)
@given(callers, tools, histories, st.lists(resources, max_size=3).map(tuple), approvals, objects.filter(writable))
def test_whatever_the_facts_are_the_document_is_as_the_schema_of_the_policies_says(
    who: Caller, what: Tool, history: History, found: tuple[Resource, ...], approval: Approval | None, sent: Any
) -> None:
    """One schema for both sides, every key present, arguments word for word."""
    call = replace(checked(what), arguments=arguments(sent))
    facts = Facts(seq=1, history=history, resources=found)
    document = judged(who, call, facts, approval)
    tree = json.loads(document)
    INPUT.validate(tree)
    assert tree["call"]["arguments"] == json.loads(call.arguments.raw)
    assert b'"arguments":' + call.arguments.raw in document
    assert tree["conversation"]["calls_complete"] is history.calls_complete
    assert tree["conversation"]["calls"] == [json.loads(orjson.dumps(c.facts)) for c in history.calls]


def rebuilt(record: Any, journal: list[EarlierCall]) -> Any:
    """The document as it was sent, from its record and the calls of the conversation: what a reader has to do."""
    span = record["conversation"]["calls"] or {"first": 0, "last": -1}
    taken = [c for c in journal if c.seq in span.get("held", ()) or span["first"] <= c.seq <= span["last"]]
    conversation = {**record["conversation"], "calls": [json.loads(orjson.dumps(c.facts)) for c in taken]}
    return {**record, "conversation": conversation}


@settings(max_examples=60, deadline=None)
@given(callers, histories, approvals, st.lists(name, max_size=3))
def test_the_record_has_earlier_calls_as_numbers_and_rebuilds_to_the_document(
    who: Caller, history: History, approval: Approval | None, tricky: list[str]
) -> None:
    """Whatever stands elsewhere in the document and looks like them."""
    sent = {"calls": [], "calls_complete": tricky, "conversation": {"calls": tricky}}
    facts = Facts(seq=1, history=history)
    document = judged(who, replace(checked(tool("t")), arguments=arguments(sent)), facts, approval)
    record = json.loads(compact(document, facts))
    assert b'"seq":' not in compact(document, facts)
    gone = [replace(c, seq=c.seq - 1) for c in history.calls[:1] if c.seq]  # an older call that was not shown
    assert rebuilt(record, [*gone, *history.calls]) == json.loads(document)


@settings(max_examples=30, deadline=None)
@given(callers, st.lists(tools, max_size=3))
def test_what_is_asked_about_visible_tools_is_as_its_schema_says(who: Caller, there: list[Tool]) -> None:
    """Who asks, and the tools there are; no conversation, no arguments."""
    tree = json.loads(visible_input(who, there, NOON))
    VISIBLE.validate(tree)
    assert [shown["effect"] for shown in tree["tools"]] == [t.effect for t in there]


SECRET = "c4n4ry-7f3a9"


@settings(max_examples=60, deadline=None)
@given(
    st.recursive(
        st.just(SECRET),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(name, inner, max_size=3),
        max_leaves=6,
    ),
    st.sampled_from(["pin", "auth.pin", "auth.pin.deep", "list.pin"]),
    json_values,
)
def test_a_secret_is_in_no_document_whatever_form_it_comes_in(secret: Any, path: str, beside: Any) -> None:
    """A value at its path, or a scalar or list on the way to it; what stands beside it is shown."""
    sent: Any = secret
    for step in reversed(path.split(".")):
        sent = {step: sent}
    if path == "list.pin":
        sent = {"list": [{"pin": secret}, {"pin": secret, "other": 1}, SECRET, [SECRET]]}
    sent["beside"] = beside
    if not writable(sent) or SECRET in json.dumps(beside):
        return
    what = checked(replace(tool("t"), arguments=(Argument(path=path, role="secret"),)))
    call = replace(what, arguments=arguments(sent))
    document = judged(caller("talk"), call, Facts(seq=1, history=NOTHING))
    assert SECRET.encode() not in document
    shown = json.loads(document)["call"]["arguments"]
    assert shown["beside"] == json.loads(call.arguments.raw)["beside"]


def test_masks_are_keyed_and_tell_whether_two_secrets_are_the_same() -> None:
    """Two pins differ, two keys differ, one pin is itself."""
    what = checked(replace(tool("t"), arguments=(Argument(path="pin", role="secret"),)))
    one, other = (replace(what, arguments=arguments({"pin": pin})) for pin in ("1", "2"))
    assert masked_arguments(one, KEY) == masked_arguments(one, KEY)
    assert len({masked_arguments(one, KEY), masked_arguments(other, KEY), masked_arguments(one, b"x" * 32)}) == 3


def test_arguments_without_secrets_are_the_very_bytes_that_are_sent() -> None:
    """Numbers beyond a double and the order of keys survive."""
    raw = b'{"z":1.10,"a":18446744073709551617,"e":1e2}'
    tree = strict_json.read_tree(raw)
    call = replace(checked(tool("t")), arguments=Arguments(raw=raw, tree=tree, value={}))
    assert masked_arguments(call, KEY) is raw
    assert raw in judged(caller("talk"), call, Facts(seq=1, history=NOTHING))


def test_a_tool_is_what_the_catalog_says_of_it() -> None:
    """Marks of system, effect and labels; untrusted unless a path is trusted."""
    shown = json.loads(tool("t", system="pricing", labels=["terms"], trusted=False).facts)
    assert shown["marks"] == ["system:pricing", "effect:read", "label:terms"]
    assert (shown["result_trust"], shown["audience"]) == ("untrusted", "external")


def test_a_principal_has_neither_token_nor_actors_in_the_document() -> None:
    """Who they are, not how they proved it."""
    who = Principal(issuer="i", subject="s", actors=("robot",), expires_at=NOON, authenticated_at=NOON)
    assert principal_facts(who, {"calls": 1}) == {
        "id": "i#s",
        "issuer": "i",
        "name": None,
        "tenant": None,
        "roles": (),
        "attributes": {},
        "authenticated_at": "2026-11-25T12:00:00.000000Z",
        "counters": {"calls": 1},
    }


def test_times_are_in_utc_with_microseconds() -> None:
    """RFC 3339."""
    assert timestamp(datetime(2026, 1, 2, 3, 4, 5, 6, UTC)) == "2026-01-02T03:04:05.000006Z"


def test_held_calls_of_long_ago_stand_before_the_last_twenty_and_the_schema_knows() -> None:
    """Rules of combination see them; a schema that forbids them would be wrong about what OPA is sent."""
    held = (2, 4)
    journal = [
        EarlierCall(
            seq=n,
            tool="t",
            system="s",
            effect="read",
            labels=(),
            outcome=Outcome.HELD if n in held else Outcome.DONE,
        )
        for n in range(1, 26)
    ]
    shown = (*(call for call in journal[:5] if call.seq in held), *journal[5:])
    facts = Facts(seq=26, history=replace(NOTHING, calls=shown))
    document = judged(caller("talk"), checked(tool("t")), facts)
    assert rebuilt(json.loads(compact(document, facts)), journal) == json.loads(document)
    INPUT.validate(json.loads(document))
