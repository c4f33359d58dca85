"""Numbers taken by calls that are not committed yet, and the facts below a number (design section 8, "Visibility").

Parallel calls never both miss each other: what a reserved call would bring - marks, untrusted text, its start, its share
of budgets - counts for every higher number from the moment the number is taken, as `executing`. If the call is refused it
vanishes without a trace; if it is held it counts as a hold only; if it is committed it counts for good. A lower number
never waits for a higher one, so of two calls that may not meet the later one always sees the earlier.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from proxy.core.conversation import IMPLICIT, Conversation, add
from proxy.core.hold_rules import Hold
from proxy.core.tool import CheckedCall
from proxy.earlier import EarlierCall, Outcome
from proxy.errors import Code, Refusal
from proxy.model import Caller, Facts, History, ToolCount

SHOWN_CALLS = 20  # of the calls before, to policy


@dataclass(frozen=True, slots=True, kw_only=True)
class Reservation:
    """A call between `reserve` and `commit`, and what it would bring."""

    call: str
    conversation: str
    principal: str
    number: int
    tool: str
    system: str
    effect: str
    labels: tuple[str, ...]
    marks: tuple[str, ...]
    untrusted: bool
    digest: str
    entry: str  # digest of the catalog entry

    def as_earlier(self) -> EarlierCall:
        """How calls with a higher number see it."""
        return EarlierCall(
            seq=self.number,
            tool=self.tool,
            system=self.system,
            effect=self.effect,
            labels=self.labels,
            outcome=Outcome.EXECUTING,
        )


def new_reservation(call: str, caller: Caller, checked: CheckedCall, number: int) -> Reservation:
    """What a checked call would bring. A tool that declares nothing trusted brings untrusted text."""
    tool = checked.tool
    return Reservation(
        call=call,
        conversation=caller.conversation,
        principal=caller.principal.id,
        number=number,
        tool=tool.name,
        system=tool.system.name,
        effect=tool.effect.value,
        labels=tool.labels,
        marks=tool.marks,
        untrusted=not tool.trusted,
        digest=checked.digest,
        entry=tool.digest,
    )


def of_caller(conversation: Conversation | None, caller: Caller) -> Conversation:
    """The conversation that a call is in. Raises Refusal unknown_conversation, conflicting_conversation."""
    registered = None if conversation is None else conversation.registered
    if conversation is None or (registered is None and conversation.id != IMPLICIT):
        raise Refusal(Code.UNKNOWN_CONVERSATION, "this conversation is not registered")
    if registered is not None and registered.principal.id != caller.principal.id:
        raise Refusal(Code.CONFLICTING_CONVERSATION, "this conversation belongs to another user")
    return conversation


def facts_below(
    own: Reservation,
    conversation: Conversation,
    *,
    lower: Collection[Reservation],
    holds: Iterable[Hold],
    today: Mapping[str, int],
    reserved_today: int,
) -> Facts:
    """The facts for the decision on `own`. `lower` are the other reservations of its conversation, `holds` its open holds,
    `today` its principal's counters and `reserved_today` how many other calls the principal has reserved."""
    marks, counters = dict(conversation.marks), dict(conversation.counters)
    tools = {name: ToolCount(started=started, ok=ok) for name, (started, ok) in conversation.tools.items()}
    untrusted = conversation.untrusted
    for other in lower:
        untrusted = untrusted or other.untrusted
        for mark in other.marks:
            marks[mark] = min(marks.get(mark, other.number), other.number)
        before = tools.get(other.tool, ToolCount())
        tools[other.tool] = ToolCount(started=before.started + 1, ok=before.ok)
    add(counters, _calls(len(lower)))
    visible = _visible_holds(own, lower, holds)
    shown = _shown(conversation.calls, [*(r.as_earlier() for r in lower), *visible])
    principal_counters = dict(today)
    add(principal_counters, _calls(reserved_today))
    known = conversation.registered is not None
    history = History(
        complete=known,
        untrusted_read=untrusted or not known or conversation.id == IMPLICIT,
        marks=marks,
        tools=tools,
        counters=counters,
        calls=shown,
        calls_complete=known and conversation.total + len(lower) + len(visible) == len(shown),
        principal_counters=principal_counters,
    )
    return Facts(seq=own.number, history=history)


def _shown(kept: Sequence[EarlierCall], beside: Sequence[EarlierCall]) -> tuple[EarlierCall, ...]:
    calls = sorted([*kept, *beside], key=lambda call: call.seq) if beside else kept
    # Held calls are in no summary: a rule about what may meet sees them here, however long ago they were held.
    held = [call for call in calls[:-SHOWN_CALLS] if call.outcome is Outcome.HELD]
    return (*held, *calls[-SHOWN_CALLS:])


def _calls(count: int) -> dict[str, int]:
    return {"calls": count} if count else {}


def _visible_holds(own: Reservation, lower: Iterable[Reservation], holds: Iterable[Hold]) -> list[EarlierCall]:
    """Holds of others. One whose call has been taken up again is seen as that reservation."""
    hidden = {own.digest, *(other.digest for other in lower)}
    found = (hold.as_earlier() for hold in holds if hold.review.digest not in hidden)
    return [call for call in found if call is not None and call.seq < own.number]
