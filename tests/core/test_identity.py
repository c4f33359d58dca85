"""Carriers of identity, collected from headers, and what is never read."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.conversation import IMPLICIT
from proxy.core.identity import hash_handle, implicit, present, same_workload, span_context
from proxy.core.registry import check_id
from proxy.errors import Code, Refusal, Retry
from proxy.model import Agent, Presented, Registration, SpanContext

HANDLE = "h" * 43
TOKEN = "c4n4ry.token-x"
AUTH = ("authorization", f"Bearer {TOKEN}")
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
SPAN = "00f067aa0ba902b7"
PARENT = f"00-{TRACE}-{SPAN}-01"

Pairs = Sequence[tuple[str, str]]


def test_nothing_presented_is_nothing() -> None:
    assert present([]) == Presented()


def test_every_carrier_is_found_whatever_the_case_of_its_name() -> None:
    headers = [
        ("X-Sidegate-Conversation", HANDLE),
        ("AUTHORIZATION", f"bearer  {TOKEN}"),
        ("X-Conversation-Id", "c1"),
        ("Baggage", "a=b, sidegate.conversation = c1 ;p=1,conversation.id=c%31"),
        ("TraceParent", PARENT),
        ("x-sidegate-patience", "2.5"),
    ]
    trace = SpanContext(trace_id=TRACE, span_id=SPAN)
    expected = Presented(handle=HANDLE, token=TOKEN, conversation="c1", trace=trace, patience=2.5)
    assert present(headers, HANDLE) == expected


def test_the_handle_may_come_by_the_path_alone() -> None:
    assert present([], HANDLE).handle == HANDLE


@pytest.mark.parametrize(
    ("headers", "path"),
    [
        ([("x-sidegate-conversation", HANDLE), ("x-sidegate-conversation", "other")], None),
        ([("x-sidegate-conversation", HANDLE), ("X-Sidegate-Conversation", "")], None),
        ([("x-sidegate-conversation", HANDLE)], "other"),
        ([AUTH, ("x-conversation-id", "c1"), ("x-conversation-id", "c2")], None),
        ([AUTH, ("x-conversation-id", "c1"), ("baggage", "conversation.id=c2")], None),
        ([AUTH, ("baggage", "sidegate.conversation=c1"), ("baggage", "conversation.id=c2")], None),
        ([AUTH, ("baggage", "conversation.id=c1,conversation.id=c2")], None),
        ([("x-sidegate-patience", "1"), ("x-sidegate-patience", "2")], None),
    ],
    ids=range(8),
)
def test_carriers_that_disagree_are_refused(headers: Pairs, path: str | None) -> None:
    with pytest.raises(Refusal) as refused:
        present(headers, path)
    assert refused.value.code == Code.CONFLICTING_CONVERSATION


def test_carriers_that_agree_are_one() -> None:
    headers = [("x-sidegate-conversation", HANDLE)] * 2 + [
        ("x-conversation-id", "c1"),
        ("baggage", "conversation.id=c1"),
    ]
    assert (present(headers, HANDLE).handle, present(headers).conversation) == (HANDLE, "c1")


@pytest.mark.parametrize(
    "authorization",
    ["", "Bearer", "Bearer ", f"Basic {TOKEN}", TOKEN, f"Bearer {TOKEN} x", f"Bearer {TOKEN},x", f"Bearer\t{TOKEN}",
     "Bearer ä", "Bearer =", f"Bearer {'x' * 17_000}", f"Bearer {TOKEN}\r\nx: y", "Bearer null\0", f"Bearer:{TOKEN}"],
    ids=range(14),
)  # fmt: skip
def test_an_authorization_that_holds_no_bearer_token_is_refused_not_ignored(authorization: str) -> None:
    with pytest.raises(Refusal) as refused:
        present([("authorization", authorization)], HANDLE)
    assert refused.value.code == Code.INVALID_CALL
    assert "c4n4ry" not in f"{refused.value} {refused.value.fix}"


def test_two_authorization_headers_are_refused_even_if_equal() -> None:
    with pytest.raises(Refusal, match="two Authorization") as refused:
        present([AUTH, AUTH])
    assert refused.value.code == Code.INVALID_CALL


@pytest.mark.parametrize("handle", ["", " ", "a b", "a/b", "../x", "ä", "x" * 129, "a\0", "a.b"])
def test_a_handle_of_another_shape_is_refused_not_taken_for_none(handle: str) -> None:
    for headers, path in (([("x-sidegate-conversation", handle)], None), ([], handle)):
        with pytest.raises(Refusal) as refused:
            present(headers, path)
        assert refused.value.code == Code.INVALID_CALL


@pytest.mark.parametrize("name", ["", "a b", "a/b", "ä", "x" * 129, "a\n", "~implicit", "%00", "\u0661"])
def test_ids_outside_their_characters_are_refused(name: str) -> None:
    for header in (("x-conversation-id", name), ("baggage", f"conversation.id={name}")):
        with pytest.raises(Refusal) as refused:
            present([AUTH, header])
        assert refused.value.code == Code.INVALID_CALL


def test_an_id_alone_proves_nothing() -> None:
    for header in (("x-conversation-id", "c1"), ("baggage", "sidegate.conversation=c1")):
        with pytest.raises(Refusal, match="proves nothing") as refused:
            present([header])
        assert (refused.value.code, refused.value.retry) == (Code.INVALID_CALL, Retry.AFTER_REGISTERING)


@pytest.mark.parametrize(
    "name",
    ["x-user", "x-user-id", "x-role", "x-roles", "x-tenant", "x-principal", "x-forwarded-user", "x-session", "cookie",
     "x-agent-user", "x_sidegate_conversation", "x-sidegate_conversation", "x-conversation_id", "sidegate-conversation",
     "proxy-authorization", "x-forwarded-authorization", "x-approved", "x-api-key"],
)  # fmt: skip
def test_plain_headers_never_say_who_calls(name: str) -> None:
    for spelling in (name, name.upper(), name.title()):
        assert present([(spelling, "admin"), (spelling, "")]) == Presented()


@pytest.mark.parametrize(("given", "seconds"), [("0", 0.0), ("60", 60.0), ("4.25", 4.25), ("05", 5.0), ("60.0", 60.0)])
def test_patience_is_seconds(given: str, seconds: float) -> None:
    assert present([("x-sidegate-patience", given)]).patience == seconds


@pytest.mark.parametrize(
    "given", ["", "-1", "61", "60.1", "nan", "inf", "1e1", "1,5", "\u0663", "1 2", "999999999999", "4s"]
)
def test_another_patience_is_refused(given: str) -> None:
    with pytest.raises(Refusal, match="seconds") as refused:
        present([("x-sidegate-patience", given)])
    assert refused.value.code == Code.INVALID_CALL


@pytest.mark.parametrize(
    ("flags", "sampled"), [("00", False), ("01", True), ("02", False), ("03", True), ("fe", False), ("ff", True)]
)
def test_only_the_lowest_flag_means_sampled(flags: str, sampled: bool) -> None:
    trace = span_context(f"00-{TRACE}-{SPAN}-{flags}")
    assert trace is not None
    assert (trace.trace_id, trace.span_id, trace.sampled) == (TRACE, SPAN, sampled)


def test_a_later_version_is_read_as_far_as_it_is_known() -> None:
    for more in ("", "-more", "-"):
        assert span_context(f"cc-{TRACE}-{SPAN}-01{more}") == SpanContext(trace_id=TRACE, span_id=SPAN)
    assert span_context(f"cc-{TRACE}-{SPAN}-01.more") is None


@pytest.mark.parametrize(
    "parent",
    ["", "x", PARENT.upper(), PARENT + "-x", PARENT + "0", f"ff-{TRACE}-{SPAN}-01", f"00-{'0' * 32}-{SPAN}-01",
     f"00-{TRACE}-{'0' * 16}-01", f"00-{TRACE[1:]}-{SPAN}-01", f"0-{TRACE}-{SPAN}-01", f"00-{TRACE}-{SPAN}-1",
     f"00-{TRACE}-{SPAN}", f"00_{TRACE}_{SPAN}_01", f"00-{TRACE}-{SPAN}-0g", PARENT + "\n", f"00-{TRACE}-{SPAN}-\u0660\u0661"],
    ids=range(16),
)  # fmt: skip
def test_a_malformed_trace_is_ignored_and_the_call_goes_on(parent: str) -> None:
    assert span_context(parent) is None
    assert present([("traceparent", parent), ("tracestate", "a=b")]) == Presented()


def test_two_traceparents_are_none() -> None:
    assert present([("traceparent", PARENT), ("traceparent", PARENT)]).trace is None


@pytest.mark.parametrize(
    ("states", "state"),
    [
        (["a=1,b=2"], "a=1,b=2"),
        (["a=1", "t@v=x"], "a=1,t@v=x"),
        (["a=1 ,\tb=2,,"], "a=1,b=2"),
        (["a=1,a=2"], ""),
        (["A=1"], ""),
        (["a"], ""),
        (["a=ä"], ""),
        (["a=" + "x" * 257], ""),
        ([",".join(f"k{n}={'x' * 200}" for n in range(6))], ""),
        ([",".join(f"k{n}=1" for n in range(33))], ""),
        ([",".join(f"k{n}=1" for n in range(32))], ",".join(f"k{n}=1" for n in range(32))),
    ],
    ids=range(11),
)
def test_trace_state_is_passed_on_if_it_is_well_formed(states: Sequence[str], state: str) -> None:
    trace = present([("traceparent", PARENT), *(("tracestate", s) for s in states)]).trace
    assert trace is not None
    assert trace.state == state


_VALUES = st.text(max_size=60) | st.sampled_from([f"Bearer {TOKEN}", HANDLE, "c1", "conversation.id=c1", PARENT, "5"])
_NAMES = st.sampled_from(
    [
        "x-sidegate-conversation",
        "authorization",
        "x-conversation-id",
        "baggage",
        "traceparent",
        "tracestate",
        "x-sidegate-patience",
    ]
)


@given(st.lists(st.tuples(_NAMES, _VALUES), max_size=6), st.none() | st.text(max_size=10))
def test_any_headers_give_a_presented_or_a_refusal(headers: list[tuple[str, str]], path: str | None) -> None:
    presented, code = Presented(), Code.INVALID_CALL
    try:
        presented = present(headers, path)
    except Refusal as refusal:
        code = refusal.code
    assert code in {Code.INVALID_CALL, Code.CONFLICTING_CONVERSATION}
    assert presented.conversation is None or presented.token is not None or presented.handle is not None


def test_the_implicit_conversation_is_nobodys_and_no_id_can_name_it() -> None:
    caller = implicit(Agent(service_account="shop"))
    assert (caller.conversation, caller.registration, caller.registered) == (IMPLICIT, Registration.NONE, False)
    assert (caller.principal.id, caller.principal.roles, caller.principal.tenant) == (
        "sidegate#anonymous",
        ("unknown",),
        None,
    )
    with pytest.raises(Refusal):
        check_id(IMPLICIT)


def test_an_agent_is_the_same_in_its_next_pod_and_another_with_any_other_identity() -> None:
    one = Agent(namespace="n", service_account="s", pod="p1", spiffe_id="spiffe://x")
    assert same_workload(one, Agent(namespace="n", service_account="s", pod="p2", spiffe_id="spiffe://x"))
    assert not same_workload(one, Agent(namespace="m", service_account="s", pod="p1", spiffe_id="spiffe://x"))
    assert not same_workload(one, Agent(namespace="n", service_account="t", pod="p1", spiffe_id="spiffe://x"))
    assert not same_workload(one, Agent(namespace="n", service_account="s", pod="p1"))


def test_a_handle_is_stored_as_its_sha256() -> None:
    assert hash_handle("abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
