"""Recorded decisions, and what OPA was asked then: earlier calls are rebuilt from the records before (design section 15). Pure.

A record names the earlier calls of its conversation as a range of numbers. What each was stands in its own records: an
intent, a hold, or, if it was under way at the time and refused later, in its terminal record.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from sys import intern
from typing import Any

from proxy.core import strict_json
from proxy.core.chain import parse_line
from proxy.core.conversation import ended_as
from proxy.earlier import Outcome
from proxy.errors import Refusal

Record = Mapping[str, Any]
Wanted = Callable[[Record], bool]
_Key = tuple[str, int]  # conversation, number of a call in it
NOT_ASKED = "it was refused before policy was asked"


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """One recorded decision. `document` is OPA's input as it was sent; None, and `gap` says why, if it cannot be had."""

    record: Record
    document: bytes | None
    gap: str = ""
    code: str = ""  # how the call ended, which for an intent stands in another record; empty if well, or not known

    @property
    def effect(self) -> str:
        """What was decided; empty if policy had no answer."""
        decision = self.record.get("decision")
        return str(decision.get("effect")) if isinstance(decision, Mapping) else ""

    @property
    def codes(self) -> frozenset[tuple[str, str]]:
        """(policy, code) of every reason of what was decided, those of other effects included."""
        decision = self.record.get("decision")
        reasons = decision.get("reasons", ()) if isinstance(decision, Mapping) else ()
        return frozenset((str(reason["policy"]), str(reason["code"])) for reason in reasons)


@dataclass(slots=True, kw_only=True)
class _Earlier:
    """What the records say of one number of a conversation."""

    call: str
    facts: Mapping[str, Any] | None  # tool, system, effect, labels
    held: datetime | None = None
    digest: str | None = None
    review: str | None = None
    expires: datetime | None = None


class Recorded:
    """Takes records in the order in which they were written; `judged` then tells the wanted ones."""

    def __init__(self, wanted: Wanted) -> None:
        """`wanted` chooses among records that say how a call was judged."""
        self._wanted = wanted
        self._lines: dict[str, bytes] = {}  # by call
        self._intents: set[str] = set()
        self._earlier: dict[_Key, _Earlier] = {}
        self._ends: dict[str, tuple[datetime, Outcome]] = {}  # by call
        self._codes: dict[str, str] = {}  # by call, of those that were refused or failed
        self._closed: dict[str, datetime] = {}  # reviews that do not wait any more
        self._mixed: set[_Key] = set()

    def take(self, line: bytes) -> None:
        """One line of the journal; what is none, or another kind of record, is passed over."""
        record = parse_line(line)
        step = None if record is None else _STEPS.get(record["kind"])
        if record is not None and step is not None:
            try:
                step(self, record)
            except (KeyError, TypeError, ValueError, AttributeError):
                return  # not one of ours
            if record["kind"] == "intent" or (record["kind"] == "terminal" and record["call"] not in self._intents):
                self._keep(line, record)

    def judged(self) -> Iterator[Judged]:
        """The wanted decisions in order."""
        for line in self._lines.values():
            record, tree = parse_line(line) or {}, _tree(line)
            gap = self._rebuild(tree["input"]) if "input" in tree else _without_input(record)
            document, code = None if gap else _written(tree["input"]), self._codes.get(record["call"], "")
            yield Judged(record=record, document=document, gap=gap, code=code)

    def _keep(self, line: bytes, record: Record) -> None:
        """How a call was judged stands in its intent or, if it has none, in its terminal record."""
        if record["kind"] == "intent":
            self._intents.add(record["call"])
            self._lines.pop(record["call"], None)
        if self._wanted(record):
            self._lines[record["call"]] = line

    def _intent(self, record: Record) -> None:
        facts = {key: record[key] for key in ("tool", "system", "effect", "labels")}
        self._seen(record, _Earlier(call=record["call"], facts=facts))
        if record.get("review"):
            self._closed.setdefault(record["review"], _time(record["at"]))  # spent

    def _terminal(self, record: Record) -> None:
        self._ends[record["call"]] = (_time(record["at"]), ended_as(record))
        if record.get("code"):
            self._codes[record["call"]] = intern(str(record["code"]))
        if record.get("number") is not None and record.get("conversation"):
            self._seen(record, _Earlier(call=record["call"], facts=_facts(record)))

    def _requested(self, record: Record) -> None:
        review = record["review"]
        if record["number"] is None:
            return
        held = _Earlier(
            call=review["call_id"],
            facts={"tool": review["tool"], **{key: record[key] for key in ("system", "effect", "labels")}},
            held=_time(record["at"]),
            digest=review["digest"],
            review=review["id"],
            expires=_time(review["expires_at"]),
        )
        self._seen({**record, "conversation": review["conversation"]}, held)

    def _resolved(self, record: Record) -> None:
        if record["status"] not in ("pending", "approved"):
            self._closed.setdefault(record["review"], _time(record["at"]))

    def _seen(self, record: Record, found: _Earlier) -> None:
        """One call may leave several records under its number; two calls never do, unless two states were mixed."""
        key = (record["conversation"], record["number"])
        known = self._earlier.get(key)
        if known is None:
            self._earlier[key] = found
        elif known.call != found.call:
            self._mixed.add(key)
        elif found.held is not None or known.facts is None:
            self._earlier[key] = found

    def _rebuild(self, document: Any) -> str:
        """Put the earlier calls in their place; why that cannot be done, if so."""
        conversation = document["conversation"]
        span = strict_json.read_values(strict_json.write(conversation["calls"]))
        if span is None:
            conversation["calls"] = []
            return ""
        if not isinstance(span, dict):
            return "" if isinstance(span, list) else "its earlier calls are written in a way that is not known here"
        numbers = [*span.get("held", ()), *range(span["first"], span["last"] + 1)]
        keys = [(str(conversation["id"]), number) for number in numbers]
        if self._mixed & set(keys):
            return "the records of several sidecars that know a conversation of this id are mixed; give one sidecar's"
        moment = _time(document["environment"]["now"])
        shown = (self._shown(key, moment, document["call"]["digest"]) for key in keys)
        calls = [call for call in shown if call is not None]
        if len(calls) != span["count"]:
            missing = f"{span['count'] - len(calls)} of {span['count']}" if len(calls) < span["count"] else "some"
            return f"{missing} earlier calls of its conversation are not among the records given; give older ones, too"
        conversation["calls"] = calls
        return ""

    def _shown(self, key: _Key, moment: datetime, digest: str) -> dict[str, Any] | None:
        """A call as others saw it at a moment; None if it had vanished by then, or nothing is known of it."""
        found = self._earlier.get(key)
        if found is None or found.facts is None:
            return None
        outcome = Outcome.EXECUTING
        if found.held is not None and found.held <= moment:
            outcome = Outcome.HELD
            closed = self._closed.get(found.review or "")
            if found.digest == digest or (closed or moment) < moment or (found.expires or moment) < moment:
                return None
        elif found.call in self._ends and self._ends[found.call][0] <= moment:
            outcome = self._ends[found.call][1]
        if outcome is Outcome.REFUSED:
            return None
        facts = found.facts
        return {
            "seq": key[1],
            **{name: facts[name] for name in ("tool", "system", "effect", "labels")},
            "outcome": outcome.value,
        }


def _without_input(record: Record) -> str:
    if record.get("shortened"):
        return "it was one of many calls of nobody, whose records do not say what was asked"
    committed = "decision" in record or record.get("outcome") in (Outcome.DONE, Outcome.UNKNOWN)
    return "its intent record is not among the records given" if committed else NOT_ASKED


def _facts(record: Record) -> Mapping[str, Any] | None:
    document = record.get("input")
    if not isinstance(document, Mapping):
        return None
    tool = document["tool"]
    return {"tool": tool["name"], "system": tool["system"], "effect": tool["effect"], "labels": tool["labels"]}


def _tree(line: bytes) -> Any:
    """Numbers as they were written, since a double would be another amount; only what is nested too deep is read plainly."""
    try:
        return strict_json.read_tree(line)
    except Refusal:
        return strict_json.read_values(line)


def _written(tree: Any) -> bytes:
    try:
        return strict_json.write(tree)
    except TypeError:  # a large number of what was read plainly
        return json.dumps(tree).encode()


def _time(text: Any) -> datetime:
    return datetime.fromisoformat(text)


_STEPS: Mapping[str, Callable[[Recorded, Record], None]] = {
    "intent": Recorded._intent,  # noqa: SLF001 - the table of its own methods
    "terminal": Recorded._terminal,  # noqa: SLF001 - see above
    "review_requested": Recorded._requested,  # noqa: SLF001 - see above
    "review_resolved": Recorded._resolved,  # noqa: SLF001 - see above
}
