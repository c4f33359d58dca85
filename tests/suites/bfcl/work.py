"""What is sent: reference calls and their mutants, cut into bodies and conversations, and what came of each."""

import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count, groupby
from typing import Any

from tests.suites.bfcl.calls import Call, chosen
from tests.suites.bfcl.data import Function, Reference, functions, references
from tests.suites.bfcl.mutants import Mutant, mutants
from tests.suites.bfcl.schemas import UntranslatableError, tool_names, translate

MUTANTS_PER_BODY = 32
BODIES_PER_CONVERSATION = 25

Body = Sequence[Call]


@dataclass(frozen=True, slots=True, kw_only=True)
class Suite:
    """The data set as this suite uses it. `refused` are functions that the table cannot express: name and why."""

    tools: Sequence[tuple[str, Function, Mapping[str, Any]]]
    refused: Sequence[tuple[str, str]]
    references: Sequence[Reference]
    calls: Mapping[str, Call]  # by the reference's id
    schemas: Mapping[str, Mapping[str, Any]]  # by the reference's id


def load(archive: zipfile.ZipFile, limit: int | None = None) -> Suite:
    """The whole suite, or about `limit` reference calls spread evenly over it and only the tools that they use."""
    every = functions(archive)
    names = tool_names(every)
    entries: list[Sequence[Reference]] = [
        list(group) for _, group in groupby(references(archive), key=lambda r: r.entry)
    ]
    if limit is not None:
        entries = _spread(entries, limit)
    kept = [reference for entry in entries for reference in entry]
    used = {reference.function.key for reference in kept}
    translated: dict[str, dict[str, Any]] = {}
    refused = []
    for function in every:
        if limit is not None and function.key not in used:
            continue
        try:
            translated[function.key] = translate(function.parameters)
        except UntranslatableError as e:
            refused.append((function.name, str(e)))
    usable = [reference for reference in kept if reference.function.key in translated]
    return Suite(
        tools=[(names[f.key], f, translated[f.key]) for f in every if f.key in translated],
        refused=refused,
        references=usable,
        calls={r.id: Call(id=r.id, tool=names[r.function.key], arguments=chosen(r)) for r in usable},
        schemas={r.id: translated[r.function.key] for r in usable},
    )


def bodies(suite: Suite) -> list[Body]:
    """The reference calls, those of one question in one body."""
    return [[suite.calls[r.id] for r in group] for _, group in groupby(suite.references, key=lambda r: r.entry)]


def mutated(suite: Suite, valid: Sequence[str]) -> dict[str, tuple[Call, Mutant]]:
    """Mutants of these reference calls, by their own call id."""
    made, turn = {}, count()
    for reference in valid:
        call = suite.calls[reference]
        for n, mutant in enumerate(mutants(call.arguments, suite.schemas[reference], turn)):
            named = f"{reference}.m{n}"
            made[named] = (Call(id=named, tool=call.tool, arguments=mutant.arguments), mutant)
    return made


def packed(calls: Sequence[Call]) -> list[Body]:
    """Calls in bodies of many."""
    return [calls[n : n + MUTANTS_PER_BODY] for n in range(0, len(calls), MUTANTS_PER_BODY)]


def conversations(all_bodies: Sequence[Body]) -> Iterator[Sequence[Body]]:
    """Bodies by conversation: few enough that no history grows and no guard against repetition is met."""
    for n in range(0, len(all_bodies), BODIES_PER_CONVERSATION):
        yield all_bodies[n : n + BODIES_PER_CONVERSATION]


def _spread(entries: Sequence[Sequence[Reference]], limit: int) -> list[Sequence[Reference]]:
    total = sum(len(entry) for entry in entries)
    taken, have, seen = list[Sequence[Reference]](), 0, 0
    for entry in entries:
        seen += len(entry)
        if have < limit * seen / total:
            taken.append(entry)
            have += len(entry)
    return taken
