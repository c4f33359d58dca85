"""What one conversation has taken up: a fold over its records, growing only (design section 8).

Labels, systems and `untrusted` come from commits and are never taken back. Counts of tools and budgets come from commits
too, and are given back only when a call ended without anything having been sent. The last 50 calls are kept for display.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from proxy.core.registry import Registered
from proxy.core.state_json import earlier_from_json, registered_from_json, registered_to_json
from proxy.earlier import EarlierCall, Outcome
from proxy.errors import MEANINGS, Code, Meaning, Ran, Retry

IMPLICIT = "~implicit"  # no registered id can be this: ids hold no ~
KEPT_CALLS = 50
KEPT_FAILURES = 32
HOLD_WINDOW = timedelta(hours=1)

_CODES = frozenset(code.value for code in Code)
# Answers that tell the caller to come back later: coming back is no loop.
_LATER = frozenset({Retry.LATER, Retry.SAME_CALL_LATER, Retry.ASK_AGAIN})


@dataclass(slots=True, kw_only=True)
class Conversation:
    """`last` is the highest number that a record names; `handed` the highest given out, also to calls without a trace."""

    id: str
    registered: Registered | None = None
    last: int = 0
    untrusted: bool = False
    marks: dict[str, int] = field(default_factory=dict)
    tools: dict[str, list[int]] = field(default_factory=dict)  # tool -> [started, ok]
    counters: dict[str, int] = field(default_factory=dict)
    calls: list[EarlierCall] = field(default_factory=list)  # by number, the last 50
    total: int = 0  # calls that count, kept or not
    failures: dict[str, int] = field(default_factory=dict)  # digest -> times in a row, the last 32 digests
    rejections: int = 0
    holds: list[datetime] = field(default_factory=list)  # when the holds of the last hour were asked for
    handed: int = field(default=0, compare=False)

    @property
    def labels(self) -> frozenset[str]:
        """Labels taken up so far."""
        return frozenset(mark.removeprefix("label:") for mark in self.marks if mark.startswith("label:"))

    def numbered(self, number: int | None) -> None:
        """A record names this call number."""
        self.last = max(self.last, number or 0)

    def begin(self, intent: Mapping[str, Any]) -> None:
        """A call has been committed."""
        number = intent["number"]
        self.numbered(number)
        self.untrusted = self.untrusted or bool(intent["untrusted"])
        for mark in intent["marks"]:
            self.marks[mark] = min(self.marks.get(mark, number), number)
        self.tools.setdefault(intent["tool"], [0, 0])[0] += 1
        add(self.counters, intent["counters"])
        self.total += 1
        self._keep(
            EarlierCall(
                seq=number,
                tool=intent["tool"],
                system=intent["system"],
                effect=str(intent["effect"]),
                labels=tuple(intent["labels"]),
                outcome=Outcome.EXECUTING,
            )
        )

    def end(self, number: int, tool: str, outcome: Outcome, *, ok: bool) -> None:
        """A committed call has ended; REFUSED means that nothing was sent, and the call vanishes."""
        if outcome is Outcome.REFUSED:
            self.tools[tool][0] -= 1
            if self.tools[tool] == [0, 0]:
                del self.tools[tool]
            self.total -= 1
            self.calls = [call for call in self.calls if call.seq != number]
            return
        self.tools[tool][1] += ok
        for at in range(len(self.calls) - 1, -1, -1):  # the newest first: it is most often one of them
            if self.calls[at].seq == number:
                self.calls[at] = _with_outcome(self.calls[at], outcome)
                break

    def answered(self, digest: str | None, code: str | None, *, ok: bool) -> None:
        """Count what is said over and over. A success is progress and starts the count anew, as a user's turn does."""
        if ok:
            self.failures.clear()
        elif digest is not None and counts_as_failure(code):
            times = self.failures.pop(digest, 0)
            self.failures[digest] = times + 1
            while len(self.failures) > KEPT_FAILURES:
                del self.failures[next(iter(self.failures))]

    def register(self, registered: Registered) -> None:
        """Bind or refresh. Nothing that was taken up is lost."""
        if self.registered is None or registered.turns > self.registered.turns:
            self.failures.clear()
        self.registered = registered
        self.untrusted = self.untrusted or registered.quoted

    def held(self, number: int | None, at: datetime) -> None:
        """A hold has been asked for."""
        self.numbered(number)
        self.holds = [*(before for before in self.holds if before > at - HOLD_WINDOW), at]

    def _keep(self, call: EarlierCall) -> None:
        in_order = not self.calls or self.calls[-1].seq < call.seq
        self.calls.append(call)
        if not in_order:
            self.calls.sort(key=lambda each: each.seq)
        del self.calls[:-KEPT_CALLS]


def add(counters: dict[str, int], more: Mapping[str, int]) -> None:
    """Add counters to counters."""
    for name, amount in more.items():
        counters[name] = counters.get(name, 0) + amount


def take_back(counters: dict[str, int], less: Mapping[str, int]) -> None:
    """The opposite of `add`, leaving no zero behind."""
    for name, amount in less.items():
        left = counters.get(name, 0) - amount
        if left > 0:
            counters[name] = left
        else:
            counters.pop(name, None)


def ended_as(terminal: Mapping[str, Any]) -> Outcome:
    """What others see of a committed call: REFUSED only if provably nothing was sent, else DONE or UNKNOWN."""
    outcome = Outcome(terminal["outcome"])
    if outcome in (Outcome.DONE, Outcome.UNKNOWN):
        return outcome
    meaning = _meaning(terminal["code"])
    ran = Ran(terminal.get("ran") or (Ran.UNKNOWN if meaning is None else meaning.ran))
    return {Ran.NO: Outcome.REFUSED, Ran.YES: Outcome.DONE, Ran.UNKNOWN: Outcome.UNKNOWN}[ran]


def counts_as_failure(code: str | None) -> bool:
    """Whether a call that ended so and is sent again unchanged is a loop."""
    meaning = _meaning(code)
    return meaning is None or meaning.retry not in _LATER


def conversation_to_json(conversation: Conversation, *, registered: Any = None, calls: Any = None) -> dict[str, Any]:
    """A checkpoint's row. `registered` and `calls`: their JSON, from who has written the same before."""
    c = conversation
    if registered is None and c.registered is not None:
        registered = registered_to_json(c.registered)
    return {
        "id": c.id,
        "registered": registered,
        "last": c.last,
        "untrusted": c.untrusted,
        "marks": c.marks,
        "tools": c.tools,
        "counters": c.counters,
        "calls": [call.facts for call in c.calls] if calls is None else calls,
        "total": c.total,
        "failures": c.failures,
        "rejections": c.rejections,
        "holds": [at.isoformat() for at in c.holds],
    }


def conversation_from_json(found: Mapping[str, Any]) -> Conversation:
    """The conversation of `conversation_to_json`. Raises KeyError, ValueError, TypeError."""
    given = dict(found)
    if found["registered"] is not None:
        given["registered"] = registered_from_json(found["registered"])
    given["calls"] = [earlier_from_json(row) for row in found["calls"]]
    given["holds"] = [datetime.fromisoformat(at) for at in found["holds"]]
    return Conversation(**given)


def _meaning(code: str | None) -> Meaning | None:
    """None for no code, and for one that only a newer version knows."""
    return MEANINGS[Code(code)] if code in _CODES else None


def _with_outcome(call: EarlierCall, outcome: Outcome) -> EarlierCall:
    return EarlierCall(
        seq=call.seq,
        tool=call.tool,
        system=call.system,
        effect=call.effect,
        labels=call.labels,
        outcome=outcome,
    )
