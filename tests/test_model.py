"""Values: what they compute of themselves, and that nobody can change them."""

import dataclasses
import inspect
from types import MappingProxyType

import pytest

from proxy import model
from proxy.errors import Code, Refusal
from proxy.model import (
    Agent,
    Answer,
    Arguments,
    Caller,
    Dialect,
    Principal,
    Registration,
    Result,
    SpanContext,
    Status,
    ToolCall,
)

VALUES = [c for _, c in inspect.getmembers(model, dataclasses.is_dataclass) if c.__module__ == model.__name__]
TRACE = SpanContext(trace_id="0af7651916cd43dd8448eb211c80319c", span_id="b7ad6b7169203331")
CALL = ToolCall(id="c1", tool="t", arguments=Arguments(raw=b"{}", tree={}, value={}), dialect=Dialect.NATIVE)
RESULT = Result(body=b"{}", size=2, digest="d")


@pytest.mark.parametrize("value", VALUES, ids=lambda c: c.__name__)
def test_values_are_frozen_slotted_and_keyword_only(value: type) -> None:
    """Each of them."""
    assert len(VALUES) > 15
    parameters = value.__dataclass_params__  # type: ignore[attr-defined]  # of every dataclass, untyped in typeshed
    assert parameters.frozen
    assert "__slots__" in vars(value)
    kinds = {p.kind for p in inspect.signature(value).parameters.values()}
    assert kinds == {inspect.Parameter.KEYWORD_ONLY}


def test_a_traceparent_is_what_the_standard_says() -> None:
    """W3C Trace Context: version, ids, flags."""
    assert TRACE.traceparent == "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    assert dataclasses.replace(TRACE, sampled=False).traceparent.endswith("-00")


def test_principals_of_two_issuers_are_two() -> None:
    """The same subject, another id."""
    one, other = Principal(issuer="a", subject="ben"), Principal(issuer="b", subject="ben")
    assert (one.id, other.id) == ("a#ben", "b#ben")


@pytest.mark.parametrize("registration", list(Registration))
def test_a_caller_is_registered_if_somebody_registered_the_conversation(registration: Registration) -> None:
    """Whoever it was."""
    caller = Caller(
        agent=Agent(), principal=Principal(issuer="a", subject="b"), conversation="c", registration=registration
    )
    assert caller.registered is (registration is not Registration.NONE)


@pytest.mark.parametrize("code", list(Code))
def test_an_answer_is_pending_where_a_person_is_awaited_and_else_refused(code: Code) -> None:
    """One code alone means pending."""
    answer = Answer(call=CALL, call_id="x", trace=TRACE, refusal=Refusal(code, "no"))
    assert answer.status is (Status.PENDING if code is Code.REVIEW_PENDING else Status.REFUSED)


def test_an_answer_is_done_with_a_result_and_pending_with_a_handle() -> None:
    """A handle means that the agent's own result is awaited."""
    assert Answer(call=CALL, call_id="x", trace=TRACE, result=RESULT).status is Status.DONE
    assert Answer(call=CALL, call_id="x", trace=TRACE, handle="h").status is Status.PENDING


def test_defaults_that_are_mappings_are_not_shared() -> None:
    """Two principals without attributes do not share one dict."""
    assert Principal(issuer="a", subject="b").attributes is not Principal(issuer="a", subject="b").attributes
    assert Principal(issuer="a", subject="b", attributes=MappingProxyType({"x": 1})).attributes["x"] == 1
