"""Policies on trial are asked beside the call: what they would have said is noted, and nothing else changes."""

import asyncio
from collections.abc import Mapping
from typing import Any

import orjson

from proxy.adapters.trial import AT_ONCE, TrialPolicy
from proxy.errors import Code, Refusal
from proxy.model import Decision, Effect, SpanContext

TRACE = SpanContext(trace_id="a" * 32, span_id="b" * 16)
DOCUMENT = orjson.dumps({"call": {"id": "c1"}, "conversation": {"id": "talk"}})
ALLOW = Decision(effect=Effect.ALLOW, revision="r")


class Scripted:
    """A policy that allows, and a trial that says what it is told to, once it may."""

    def __init__(self, said: Mapping[str, Any] | Refusal) -> None:
        self.said = said
        self.may = asyncio.Event()
        self.asked = 0

    async def decide(self, document: bytes, trace: SpanContext) -> Decision:
        return ALLOW

    async def visible(self, document: bytes, trace: SpanContext | None) -> frozenset[str]:
        return frozenset({"t"})

    async def shadow(self, document: bytes, trace: SpanContext) -> Mapping[str, Any]:
        self.asked += 1
        await self.may.wait()
        if isinstance(self.said, Refusal):
            raise self.said
        return self.said


def around(scripted: Scripted, noted: list[Mapping[str, Any]], *, on_trial: bool = True) -> TrialPolicy:
    return TrialPolicy(scripted, scripted, lambda: on_trial, noted.append)


async def noted_of(said: Mapping[str, Any] | Refusal) -> list[Mapping[str, Any]]:
    """What is noted of one call."""
    noted: list[Mapping[str, Any]] = []
    scripted = Scripted(said)
    policy = around(scripted, noted)
    assert await policy.decide(DOCUMENT, TRACE) is ALLOW
    assert noted == []  # the decision did not wait
    scripted.may.set()
    await policy.finish()
    return noted


async def test_what_would_have_been_said_is_noted() -> None:
    """With the call, its conversation and its trace."""
    said = {"mine": {"deny": [{"code": "no"}], "review": []}, "silent": {"deny": [], "review": []}}
    assert await noted_of(said) == [
        {
            "kind": "trial",
            "call": "c1",
            "conversation": "talk",
            "trace": TRACE.trace_id,
            "said": {"mine": {"deny": [{"code": "no"}], "review": []}},
        }
    ]


async def test_silence_is_not_noted() -> None:
    """A policy on trial that has nothing to say leaves no record."""
    assert await noted_of({"mine": {"deny": [], "review": []}}) == []


async def test_a_trial_that_fails_is_noted_and_changes_nothing() -> None:
    """Its author sees why."""
    (record,) = await noted_of(Refusal(Code.POLICY_INVALID, "m", details={"cause": "evaluation"}))
    assert record["said"] == {"fault": {"cause": "evaluation"}}


async def test_without_a_policy_on_trial_nothing_is_asked() -> None:
    """No round trip for nothing."""
    scripted = Scripted({})
    await around(scripted, [], on_trial=False).decide(DOCUMENT, TRACE)
    assert scripted.asked == 0


async def test_trials_are_bounded() -> None:
    """Under load they are left out and counted, not queued."""
    scripted = Scripted({})
    policy = around(scripted, [])
    for _ in range(AT_ONCE + 3):
        await policy.decide(DOCUMENT, TRACE)
    assert policy.left_out == 3
    scripted.may.set()
    await policy.finish()
    assert scripted.asked == AT_ONCE


async def test_an_unwritable_note_is_counted() -> None:
    """The call has long been answered."""

    def unwritable(record: Mapping[str, Any]) -> None:
        raise Refusal(Code.AUDIT_UNAVAILABLE, "m")

    scripted = Scripted({"mine": {"deny": [{"code": "no"}]}})
    scripted.may.set()
    policy = TrialPolicy(scripted, scripted, lambda: True, unwritable)
    await policy.decide(DOCUMENT, TRACE)
    await policy.finish()
    assert policy.left_out == 1
    assert await policy.visible(DOCUMENT, None) == {"t"}
