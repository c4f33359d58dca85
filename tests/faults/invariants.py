"""What must hold whatever went wrong, read from outside: the journal's files, what the upstream got, what clients were told.

Each function gives sentences, one for each breach; none means that it holds. Pure.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests.faults.ledger import NOTHING_RAN, Ledger
from tests.faults.watch import Arrival

Record = Mapping[str, Any]
ALLOWING = frozenset(
    {"allow", "late"}
)  # a paused sidecar finds the answer and the end of its deadline at the same moment
ON_THE_WAY = frozenset({"tool_timeout", "outcome_unknown"})  # ended with bytes sent that the upstream had not read yet
SUMMED = frozenset({"invalid_json", "invalid_call", "too_large"})
SLACK = 0.5  # seconds by which an answer may lag behind the moment when its record could not be written


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """One run. `unsafe`: when records may have been lost; `retries`: tools that may be sent again, and how often;
    `together`: marks that may not meet without a person; `told`: what a stub OPA said to each call, if one was there."""

    records: Sequence[Record]
    arrivals: Sequence[Arrival]
    ledger: Ledger
    unsafe: Sequence[tuple[float, float]] = ()
    retries: Mapping[str, int]
    together: frozenset[str] = frozenset()
    told: Mapping[str, str] | None = None

    def of(self, kind: str) -> list[Record]:
        return [record for record in self.records if record["kind"] == kind]


def one_intent_one_end(evidence: Evidence) -> Iterable[str]:
    """Every intent has exactly one terminal record after it, and no call has two of either."""
    intents = Counter(record["call"] for record in evidence.of("intent"))
    ends = Counter(record["call"] for record in evidence.of("terminal"))
    yield from (f"call {call} has {times} intents" for call, times in intents.items() if times > 1)
    yield from (f"call {call} has {times} terminal records" for call, times in ends.items() if times > 1)
    yield from (f"call {call} has no terminal record" for call in intents if not ends[call])
    began = {record["call"]: record["seq"] for record in evidence.of("intent")}
    for record in evidence.of("terminal"):
        if record["seq"] < began.get(record["call"], 0):
            yield f"call {record['call']} ended before it began"


def nothing_unannounced(evidence: Evidence) -> Iterable[str]:
    """The upstream got nothing without an intent that was in the journal by then, and nothing of a call that had ended;
    but where it ended without an answer, the record says that it may have run."""
    ends = {record["call"]: record["code"] or "done" for record in evidence.of("terminal")}
    for arrival in evidence.arrivals:
        if arrival.call is None:
            yield f"{arrival.target} (trace {arrival.trace}) arrived before its intent, or without"
        elif arrival.ended and ends.get(arrival.call) not in ON_THE_WAY:
            yield f"{arrival.target} of call {arrival.call} arrived after the call's end ({ends.get(arrival.call)})"


def nothing_twice(evidence: Evidence) -> Iterable[str]:
    """Once for each call; again only for tools that may be retried."""
    tools = {record["call"]: record["tool"] for record in evidence.of("intent")}
    for call, times in Counter(arrival.call for arrival in evidence.arrivals if arrival.call).items():
        if times > 1 + evidence.retries.get(tools.get(call, ""), 0):
            yield f"call {call} of {tools.get(call)} arrived {times} times"


def nothing_unallowed(evidence: Evidence) -> Iterable[str]:
    """Each intent's decision is an allow, and where a stub answered, it had said so."""
    for record in evidence.of("intent"):
        if record["decision"]["effect"] != "allow":
            yield f"call {record['call']} was committed on {record['decision']['effect']}"
        said = "allow" if evidence.told is None else evidence.told.get(record["call"], "nothing")
        if said not in ALLOWING:
            yield f"call {record['call']} was committed, and OPA had said: {said}"


def answers_are_recorded(evidence: Evidence) -> Iterable[str]:
    """Each answer has its terminal record with the same code, but for those that say that recording failed, and refusals
    while it failed. Those lost are counted in `gap` records; bodies that nobody could read may be recorded in sum."""
    ends = {record["call"]: record for record in evidence.of("terminal")}
    for answer in evidence.ledger.answers:
        record = ends.get(answer.call)
        lost = answer.code in NOTHING_RAN | SUMMED or (answer.code and _unsafe(evidence, answer.at))
        if record is None and not lost:
            yield f"answer {answer.code or 'done'} of call {answer.call} has no terminal record"
        elif record is not None and (record["code"] or "") != answer.code and answer.code not in NOTHING_RAN:
            yield f"call {answer.call} was answered {answer.code or 'done'} and recorded {record['code'] or 'done'}"
    missing = sum(1 for answer in evidence.ledger.answers if answer.call not in ends)
    counted = sum(sum(record["lost"].values()) for record in evidence.of("gap"))
    counted += sum(sum(record.get("coalesced", {}).values()) for record in evidence.of("terminal"))
    if missing > counted:
        yield f"{missing} answers without a record, and only {counted} counted as lost"


def approvals_are_spent_once(evidence: Evidence) -> Iterable[str]:
    """A call runs on an approval of that very call, given before by another person, once; never on a rejection."""
    asked = {record["review"]["id"]: record for record in evidence.of("review_requested")}
    answered = {record["review"]: record for record in evidence.of("review_resolved") if record["status"] == "approved"}
    spent = Counter(record["review"] for record in evidence.of("intent") if record.get("review"))
    yield from (f"review {review} was spent {times} times" for review, times in spent.items() if times > 1)
    yield from (f"review {review} was rejected and spent" for review in evidence.ledger.rejected if spent[review])
    for record in evidence.of("intent"):
        review = record.get("review")
        if not review:
            continue
        yes, request = answered.get(review), asked.get(review)
        if yes is None or yes["seq"] > record["seq"] or request is None:
            yield f"call {record['call']} ran on review {review}, which nobody had approved"
        elif yes["by"] == record["principal"]["id"] or request["review"]["digest"] != record["digest"]:
            yield f"call {record['call']} ran on review {review}, which is another's or its own"


def marks_never_shrink(evidence: Evidence) -> Iterable[str]:
    """Each decision in a conversation was taken with the marks of all calls below its number that were committed; and what
    would complete a forbidden set ran only on an approval."""
    by_conversation: dict[str, list[Record]] = defaultdict(list)
    for record in evidence.records:
        if record["kind"] in ("intent", "terminal") and record.get("conversation") and record.get("number") is not None:
            by_conversation[record["conversation"]].append(record)
    for name, records in by_conversation.items():
        yield from _marks_of(name, sorted(records, key=lambda record: record["number"]), evidence.together)


def _marks_of(name: str, records: Sequence[Record], together: frozenset[str]) -> Iterable[str]:
    taken: dict[str, int] = {}
    numbers = Counter(record["number"] for record in records if record["kind"] == "intent")
    yield from (f"{name} has number {number} twice" for number, times in numbers.items() if times > 1)
    for record in records:
        known = record["input"]["conversation"]["marks"] if "input" in record else taken
        missing = {mark for mark, number in taken.items() if number < record["number"]} - set(known)
        if missing:
            yield f"call {record['call']} of {name} was decided without {sorted(missing)}"
        if record["kind"] != "intent":
            continue
        now = set(taken) | set(record["marks"])
        if together and together <= now and not together.isdisjoint(record["marks"]) and not record.get("review"):
            yield f"call {record['call']} of {name} completed {sorted(together)} and nobody had approved"
        for mark in record["marks"]:
            taken.setdefault(mark, record["number"])


def _unsafe(evidence: Evidence, at: float) -> bool:
    return any(begin <= at <= end + SLACK for begin, end in evidence.unsafe)


INVARIANTS: tuple[Callable[[Evidence], Iterable[str]], ...] = (
    one_intent_one_end,
    nothing_unannounced,
    nothing_twice,
    nothing_unallowed,
    answers_are_recorded,
    approvals_are_spent_once,
    marks_never_shrink,
)


def breaches(evidence: Evidence) -> dict[str, list[str]]:
    """Every invariant with what breaks it."""
    return {invariant.__name__: list(invariant(evidence)) for invariant in INVARIANTS}
