"""Small refusals of the pipeline."""

from typing import TypeVar

from proxy.core.review import Review
from proxy.core.trail import Trail
from proxy.errors import Code, Ran, Refusal, Retry
from proxy.model import Caller, ToolCall

MAX_REPEATS = 3
UNREGISTERED_BYTES = 16384
MAX_REMEMBERED = 100
LAST_RECORDS = 2.0  # seconds for the records of calls that are ended with the process

T = TypeVar("T")


def refuse_bulk(caller: Caller, call: ToolCall) -> None:
    """Who proves nothing gets little of what everybody shares: OPA reads arguments whole. Raises Refusal too_large."""
    if not caller.registered and len(call.arguments.raw) > UNREGISTERED_BYTES:
        raise Refusal(
            Code.TOO_LARGE,
            f"the arguments of a call without a registered conversation are over {UNREGISTERED_BYTES} bytes",
            fix="register the conversation (PUT /v1/conversations/{id}) and send its handle",
        )


def refuse_stopped(switch: str | None) -> None:
    """Raises Refusal stopped if a stop switch stands in the way."""
    if switch is not None:
        raise Refusal(Code.STOPPED, switch, fix="nothing will run until an operator lifts the stop; tell the user")


def refuse_repeated(times: int) -> None:
    """Raises Refusal repeated_call after the same call has been refused or has failed too often in a row."""
    if times >= MAX_REPEATS:
        raise Refusal(
            Code.REPEATED_CALL,
            f"this very call was refused or failed {times} times in a row; it was not tried again",
            fix="change the call or tell the user",
        )


def remember(held: dict[str, ToolCall], review: Review, call: ToolCall) -> None:
    """Keep the newest held calls that no record can bring back, their secrets included, in memory only."""
    if not review.replayable:
        held.setdefault(review.id, call)
    while len(held) > MAX_REMEMBERED:
        del held[next(iter(held))]


def known(value: T | None) -> T:
    """A value that an earlier step has set."""
    if value is None:
        raise ValueError("a step of the pipeline was left out")
    return value


def withheld(fault: Exception, refusal: Refusal | None, *, committed: bool) -> Refusal:
    """What the agent sees when the terminal record could not be written: never a result, and the truth about what ran."""
    unrecorded = fault if isinstance(fault, Refusal) else internal(fault, sent=committed)
    if not committed:
        return refusal or unrecorded
    ran = Ran.YES if refusal is None else refusal.ran
    return Refusal(unrecorded.code, "the outcome could not be recorded, so the result is withheld", ran=ran)


def interrupted(trail: Trail) -> Refusal:
    """A call that was ended from outside: its caller hung up before anything was sent, or the process ends."""
    if trail.committed:
        return Refusal(Code.OUTCOME_UNKNOWN, "Sidegate ended before the tool had answered; whether it ran is not known")
    if trail.caller_gone:
        return Refusal(Code.ABANDONED, "the call was given up before anything was sent")
    return Refusal(Code.OVERLOADED, "Sidegate is shutting down; the call was not sent", retry_after=5)


def internal(fault: Exception, *, sent: bool) -> Refusal:
    """Something broke in Sidegate itself. Its class goes to the record only."""
    return Refusal(
        Code.INTERNAL_ERROR,
        "Sidegate failed while it handled this call",
        ran=Ran.UNKNOWN if sent else Ran.NO,
        retry=Retry.NEVER if sent else None,
        details={"fault": type(fault).__name__},
    )


def bare(refusal: Refusal) -> Refusal:
    """The refusal without the way it came: its frames hold bodies, and it lives as long as the answer that it is in."""
    refusal.__traceback__ = refusal.__context__ = refusal.__cause__ = None
    return refusal


def untaught(refusal: Refusal) -> Refusal:
    """The same refusal for somebody to whom the tool is not shown."""
    return Refusal(
        refusal.code, "the call does not fit the tool", fix="use the tools that you were given", details=refusal.details
    )


def unknown_revision(revision: str) -> Refusal:
    """OPA answered for a policy that this process has not loaded."""
    return Refusal(
        Code.POLICY_UNAVAILABLE,
        "policy is being changed; nothing was executed",
        details={"cause": "unknown_revision", "revision": revision[:64]},
    )


def unknown_call() -> Refusal:
    """No such call, or not this caller's: one answer for both."""
    return Refusal(Code.UNKNOWN_CALL, "no such call is open here")
