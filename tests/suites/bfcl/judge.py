"""What a run has shown, by plain comparison; nothing here knows how the proxy decides."""

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.suites.bfcl.calls import Call, write
from tests.suites.bfcl.mutants import Mutant
from tests.suites.bfcl.send import Key, Recorded
from tests.suites.bfcl.shapes import SHAPES, Said, sent
from tests.suites.bfcl.work import Suite

EXCEPTIONS = Path(__file__).with_name("exceptions.json")


@dataclass(slots=True, kw_only=True)
class Findings:
    """Counts by category and kind, and every departure from what must hold. `accepted` means in all four shapes."""

    calls: Counter[str] = field(default_factory=Counter)
    accepted: Counter[str] = field(default_factory=Counter)
    mutants: Counter[str] = field(default_factory=Counter)
    mutants_refused: Counter[str] = field(default_factory=Counter)
    exceptions: dict[str, tuple[str, str]] = field(
        default_factory=dict
    )  # id -> what the proxy said, why the label is wrong
    unexplained: dict[str, str] = field(default_factory=dict)  # refused without a listed reason
    stale: list[str] = field(default_factory=list)  # listed as wrong, and accepted
    altered: list[str] = field(default_factory=list)  # other bytes arrived than were called for
    let_through: list[str] = field(default_factory=list)  # mutants not refused as invalid_arguments, naming the fault
    disagreements: list[str] = field(default_factory=list)  # between shapes, or between answer and record
    misshown: list[str] = field(default_factory=list)  # tools whose definition demands less or other than was published
    strays: list[str] = field(default_factory=list)  # requests at the upstream that no accepted call explains

    @property
    def total(self) -> int:
        return self.calls.total()

    @property
    def share(self) -> float:
        """Accepted reference calls, 0 to 1."""
        return self.accepted.total() / max(1, self.total)

    @property
    def clean(self) -> bool:
        """Whether nothing departs; the share is judged apart."""
        found = (
            self.unexplained,
            self.stale,
            self.altered,
            self.let_through,
            self.disagreements,
            self.misshown,
            self.strays,
        )
        return not any(found) and self.mutants == self.mutants_refused


def exceptions() -> dict[str, str]:
    """Reference call -> why its label is wrong."""
    listed: dict[str, str] = json.loads(EXCEPTIONS.read_text())
    return listed


def judge_references(found: Findings, suite: Suite, said: Mapping[Key, Said]) -> list[str]:
    """Counts the reference calls; returns the ids of the accepted ones."""
    reasons, valid = exceptions(), []
    for reference in suite.references:
        call = suite.calls[reference.id]
        answers = [said[shape, reference.id] for shape in SHAPES]
        accepted = all(answer.code is None for answer in answers)
        found.calls[reference.category] += 1
        found.accepted[reference.category] += accepted
        if accepted:
            valid.append(reference.id)
            found.altered += _altered(call, answers)
            found.stale += [reference.id] if reference.id in reasons else []
            continue
        message = next(f"{answer.code}: {answer.message}" for answer in answers if answer.code is not None)
        if reference.id in reasons:
            found.exceptions[reference.id] = (message, reasons[reference.id])
        else:
            found.unexplained[reference.id] = message
    return valid


def judge_mutants(found: Findings, made: Mapping[str, tuple[Call, Mutant]], said: Mapping[Key, Said]) -> None:
    """Counts the mutants; each must be refused in every shape, with the code and the place."""
    for call_id, (_, mutant) in made.items():
        answers = [said[shape, call_id] for shape in SHAPES]
        found.mutants[mutant.kind] += 1
        if all(answer.code == "invalid_arguments" and mutant.names in answer.message for answer in answers):
            found.mutants_refused[mutant.kind] += 1
        else:
            found.let_through.append(f"{call_id} ({mutant.kind}): {answers[0].code} {answers[0].message}")


def judge_definitions(found: Findings, suite: Suite, definitions: Mapping[str, Mapping[str, Any]]) -> None:
    """What a model is shown in each shape: every tool, with the translated schema, closed and otherwise unchanged."""
    wanted = {name: schema for name, _, schema in suite.tools}
    for shape, listed in definitions.items():
        found.misshown += [f"{name} ({shape})" for name in sorted(wanted.keys() ^ listed.keys())]
        for name in wanted.keys() & listed.keys():
            if listed[name].get("additionalProperties") is not False or _opened(listed[name]) != wanted[name]:
                found.misshown.append(f"{name} ({shape}): {json.dumps(listed[name])}")


def judge_records(found: Findings, said: Mapping[Key, Said], records: Mapping[Key, Recorded]) -> None:
    """The four shapes of each call: one decision, one code, one digest; and what the agent was told is what was recorded."""
    found.disagreements += [
        f"{shape} {call_id}: no record" for shape, call_id in said if (shape, call_id) not in records
    ]
    found.disagreements += [
        f"{shape} {call_id}: recorded, not answered" for shape, call_id in records.keys() - said.keys()
    ]
    if found.disagreements:
        return
    for key, answer in said.items():
        if answer.code != records[key].code:
            found.disagreements.append(f"{key}: told {answer.code}, recorded {records[key].code}")
        if answer.code is None and (records[key].effect, records[key].digest is None) != ("allow", False):
            found.disagreements.append(f"{key}: ran without an allow or a digest on record")
    for call_id in dict.fromkeys(call_id for _, call_id in said):
        seen = {(records[s, call_id], _faults(said[s, call_id].message)) for s in SHAPES}
        if len(seen) != 1:
            found.disagreements.append(f"{call_id}: {sorted(map(str, seen))}")


def judge_upstream(found: Findings, suite: Suite, valid: Sequence[str], received: Sequence[Any]) -> None:
    """The upstream got each accepted call once per shape and nothing else."""
    wanted = Counter(_as_sent(shape, suite.calls[call_id]) for call_id in valid for shape in SHAPES)
    arrived = Counter((request.target, request.body.decode()) for request in received)
    found.strays += [f"{times:+d} {at}" for at, times in _difference(arrived, wanted)]


def _opened(schema: Any) -> Any:
    """A schema of this data set without the closing of its levels, a keyword that the data set does not have."""
    if not isinstance(schema, dict):
        return schema
    rest = {key: value for key, value in schema.items() if key != "additionalProperties"}
    if "properties" in rest:
        rest["properties"] = {name: _opened(sub) for name, sub in rest["properties"].items()}
    return rest | ({"items": _opened(rest["items"])} if "items" in rest else {})


def _faults(message: str) -> frozenset[str]:
    return frozenset(re.split("; |: ", message))  # in whatever order: it follows the order of keys


def _difference(one: Counter[Any], other: Counter[Any]) -> Iterator[tuple[Any, int]]:
    for key in dict.fromkeys([*one, *other]):
        if one[key] != other[key]:
            yield key, one[key] - other[key]


def _altered(call: Call, answers: Sequence[Said]) -> list[str]:
    arrived = [(s, (a.target, a.body)) for s, a in zip(SHAPES, answers, strict=True)]
    return [f"{call.id} ({shape}): {at}" for shape, at in arrived if at != _as_sent(shape, call)]


def _as_sent(shape: str, call: Call) -> tuple[str, str]:
    return f"/{call.tool}", write(sent(shape, call))
