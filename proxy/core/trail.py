"""What is known of one call so far, and the records that it leaves: one intent before execution, one terminal after (design 15)."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import orjson

from proxy.core.gate import Place
from proxy.core.policy_input import agent_facts, compact
from proxy.core.review import Approval
from proxy.core.tool import CheckedCall, Snapshot
from proxy.earlier import Outcome
from proxy.errors import Code, Ran, Refusal
from proxy.model import (
    Answer,
    Caller,
    Decision,
    Facts,
    Presented,
    Reason,
    Result,
    SpanContext,
    ToolCall,
    ToolEffect,
    UnreadableCall,
)

MAX_TOOL_NAME = 256


class Stage(Enum):
    """How far a call has come."""

    DECIDING = 1  # nothing has been sent
    EXECUTING = 2
    CONCLUDING = 3


@dataclass(slots=True, kw_only=True)
class Trail:
    """The only mutable thing in the life of a call. Steps fill it in; records and answers are read from it."""

    call_id: str
    call: ToolCall | UnreadableCall
    presented: Presented
    trace: SpanContext
    began: float
    resumes: str | None = None
    caller: Caller | None = None
    snapshot: Snapshot | None = None
    checked: CheckedCall | None = None
    arguments: bytes | None = None  # masked
    facts: Facts | None = None
    decision: Decision | None = None
    document: bytes | None = None  # OPA's input, as sent
    approval: Approval | None = None
    stage: Stage = Stage.DECIDING
    place: Place | None = None
    committed: bool = False
    caller_gone: bool = False
    stages: dict[str, float] = field(default_factory=dict)

    def took(self, stage: str, seconds: float) -> None:
        """Add to the time that a stage took."""
        self.stages[stage] = self.stages.get(stage, 0.0) + seconds

    def answer(
        self, *, result: Result | None = None, refusal: Refusal | None = None, handle: str | None = None
    ) -> Answer:
        """How the call ends, for its caller."""
        return Answer(
            call=self.call,
            call_id=self.call_id,
            trace=self.trace,
            decision=None if self.decision is None else self.decision.effect,
            result=result,
            refusal=refusal,
            handle=handle,
            revision="" if self.snapshot is None else self.snapshot.revision,
        )


def intent_record(trail: Trail, *, credential: str | None) -> dict[str, Any]:
    """The record that is written before anything is sent; it carries the state change of a commit."""
    checked, facts = trail.checked, trail.facts
    if checked is None or facts is None:
        raise ValueError("a call is committed after it was checked and decided")
    tool = checked.tool
    return _who(trail) | {
        "kind": "intent",
        "number": facts.seq,
        "system": tool.system.name,
        "effect": tool.effect,
        "labels": tool.labels,
        "marks": tool.marks,
        "untrusted": not tool.trusted,
        "review": None if trail.approval is None else trail.approval.review_id,
        "credential": credential,
        "counters": {"calls": 1},
        **_judged(trail),
    }


def terminal_record(
    trail: Trail,
    *,
    result: Result | None = None,
    refusal: Refusal | None = None,
    seconds: float,
) -> dict[str, Any]:
    """The one record of how a call ended; it tells the story alone, where shipped logs have lost the intent. What OPA was asked is
    in the intent, or here if the call was never committed."""
    outcome = Outcome.DONE if refusal is None else outcome_of(refusal, committed=trail.committed)
    record = _who(trail) | {
        "kind": "terminal",
        "number": None if trail.facts is None else trail.facts.seq,
        "outcome": outcome,
        "ok": refusal is None,
        "code": None if refusal is None else refusal.code,
        "ran": Ran.YES if refusal is None else refusal.ran,
        "rows": None if result is None else result.rows,
        "counters": {} if result is None or not result.rows else {"rows": result.rows},
        "durations": {name: round(value * 1000, 3) for name, value in trail.stages.items()}
        | {"total": round(seconds * 1000, 3)},
    }
    if refusal is not None:
        record["refusal"] = {"message": refusal.message, "reasons": refusal.reasons, "details": refusal.details}
        record["review"] = refusal.review_id
    if result is not None:
        record["result"] = {"digest": result.digest, "size": result.size, "rows": result.rows, "empty": result.empty}
        if result.problems:
            record["result"]["problems"] = result.problems
    if trail.caller_gone:
        record["caller_gone"] = True
    if not trail.committed or trail.checked is None:
        return record | _judged(trail)
    return record | _decided(trail) | {"credential": trail.checked.tool.upstream.credential}


def outcome_of(refusal: Refusal, *, committed: bool) -> Outcome:
    """What others see of a call that ended in a refusal: a call that was sent counts, whatever came of it."""
    if refusal.code is Code.ABANDONED:
        return Outcome.ABANDONED
    if not committed:
        return Outcome.REFUSED
    return {Ran.NO: Outcome.REFUSED, Ran.YES: Outcome.DONE, Ran.UNKNOWN: Outcome.UNKNOWN}[refusal.ran]


def durable_before_sending(effect: ToolEffect) -> bool:
    """An effect waits for the flush before it is sent; a read waits before its result is seen. One wait per call."""
    return effect is not ToolEffect.READ


def _who(trail: Trail) -> dict[str, Any]:
    call, caller, checked = trail.call, trail.caller, trail.checked
    readable = call if isinstance(call, ToolCall) else None
    record: dict[str, Any] = {
        "call": trail.call_id,
        "tool_call": call.id,
        "dialect": call.dialect,
        "trace": trail.trace.trace_id,
        "tool": checked.tool.name if checked else None,
        "version": checked.version.version if checked else None,
        "digest": checked.digest if checked else None,
        "conversation": caller.conversation if caller else None,
        "principal": {"id": caller.principal.id, "name": caller.principal.name} if caller else None,
        "agent": agent_facts(caller.agent) if caller else None,
    }
    if checked is None:
        record["asked_tool"] = call.tool[:MAX_TOOL_NAME]
    elif checked.asked != checked.version.version:
        record |= {"asked_version": checked.asked, "changes": checked.changes}
    if readable is not None and readable.reason:
        record["reason"] = readable.reason
    if trail.resumes:
        record["resumes"] = trail.resumes
    return record


def _judged(trail: Trail) -> dict[str, Any]:
    """What was asked of policy, and what it said word for word."""
    record = _decided(trail)
    if trail.arguments is not None:
        record["arguments"] = orjson.Fragment(trail.arguments)
    if trail.decision is not None:
        record["decision"]["said"] = trail.decision.said
    if trail.document is not None and trail.facts is not None:
        record["input"] = orjson.Fragment(compact(trail.document, trail.facts))
    return record


def _decided(trail: Trail) -> dict[str, Any]:
    """What was decided, by which reasons of which revision, and on whose yes."""
    record: dict[str, Any] = {}
    if trail.snapshot is not None:
        record["revision"] = trail.snapshot.revision
    if (decision := trail.decision) is not None:
        record["decision"] = {
            "effect": decision.effect,
            "guards": decision.guards,
            "reasons": [_reason(reason) for reason in (*decision.deny, *decision.review, *decision.allow)],
            "warn": decision.warn,
            "policy": decision.revision,
        }
    if trail.approval is not None:
        record["approval"] = {"review": trail.approval.review_id, "by": trail.approval.by}
    return record


def _reason(reason: Reason) -> Mapping[str, Any]:
    return {"policy": reason.policy, "code": reason.code}
