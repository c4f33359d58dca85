"""The report of one run, as Markdown and as JSON."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests.suites.bfcl.data import CATEGORIES, pinned
from tests.suites.bfcl.judge import Findings
from tests.suites.bfcl.mutants import KINDS
from tests.suites.bfcl.shapes import SHAPES

TARGET = 0.985
WHOLE = 3152


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One run: what was found, over how many tools, in how many seconds of sending."""

    findings: Findings
    tools: int
    refused_functions: Sequence[tuple[str, str]]
    unmapped: str | None  # what became of a schema that no table has seen: the refusal's code
    journal_whole: bool
    seconds: Mapping[str, float]

    @property
    def passed(self) -> bool:
        """Whether every target is met. The share is one of the whole set: a few listed errors weigh more in a small part."""
        share = self.findings.share >= TARGET or self.findings.total < WHOLE
        return share and self.findings.clean and self.journal_whole and self.unmapped == "tool_quarantined"


def as_json(outcome: Outcome) -> dict[str, Any]:
    """Everything, for machines."""
    found = outcome.findings
    return {
        "data": pinned(),
        "passed": outcome.passed,
        "calls": {c: {"calls": found.calls[c], "accepted": found.accepted[c]} for c in CATEGORIES if found.calls[c]},
        "total": {"calls": found.total, "accepted": found.accepted.total(), "share": round(found.share, 5)},
        "mutants": {kind: {"sent": found.mutants[kind], "refused": found.mutants_refused[kind]} for kind in KINDS},
        "shapes": list(SHAPES),
        "tools": outcome.tools,
        "refused_functions": dict(outcome.refused_functions),
        "exceptions": {i: {"said": said, "reason": why} for i, (said, why) in found.exceptions.items()},
        "departures": {name: list(listed) for name, listed in _departures(found)},
        "unmapped": outcome.unmapped,
        "journal_whole": outcome.journal_whole,
        "seconds": {name: round(value, 1) for name, value in outcome.seconds.items()},
    }


def as_markdown(outcome: Outcome) -> str:
    """The page that is committed."""
    return "\n".join([*_head(outcome), *_tables(outcome.findings), *_lists(outcome)]) + "\n"


def _head(outcome: Outcome) -> Iterator[str]:
    found = outcome.findings
    share = f"{found.accepted.total()} of {found.total} reference calls accepted ({100 * found.share:.2f} %"
    yield "# Berkeley Function Calling Leaderboard through the running proxy\n"
    yield f"Written by `python -m tests.suites.bfcl.run --write` from {pinned()}; how it is made: `README.md` beside this page.\n"
    yield f"* {share}, target {100 * TARGET:.1f} %), the same in all four shapes ({', '.join(SHAPES)})"
    refused = f"{found.mutants_refused.total()} of {found.mutants.total()} mutants"
    yield f"* {refused} refused in all four shapes as `invalid_arguments`, the fault named"
    yield f"* {len(found.disagreements)} disagreements between shapes on decision, code, digest or message"
    yield f"* {len(found.altered)} calls arrived with other bytes than were called for; {len(found.strays)} other requests arrived"
    shown = "each shown with its schema, closed and otherwise unchanged, in all four shapes"
    yield f"* {outcome.tools} tools in the catalog, {'NOT ' if found.misshown else ''}{shown}"
    yield f"* functions refused by the table: {len(outcome.refused_functions)}"
    yield f"* a schema that went through no table: `{outcome.unmapped}`"
    yield f"* the journal of the run {'verifies' if outcome.journal_whole else 'DOES NOT VERIFY'}"
    yield f"* {'all targets met' if outcome.passed else 'NOT ALL TARGETS MET'}"
    yield "* seconds: " + ", ".join(f"{name} {value:.0f}" for name, value in outcome.seconds.items()) + "\n"


def _tables(found: Findings) -> Iterator[str]:
    yield "| Category | Reference calls | Accepted |\n|---|---:|---:|"
    for category in CATEGORIES:
        yield f"| {category} | {found.calls[category]} | {found.accepted[category]} |"
    yield f"| all | {found.total} | {found.accepted.total()} |\n"
    yield "| Mutant | Sent, in each shape | Refused in all |\n|---|---:|---:|"
    for kind in KINDS:
        yield f"| {kind} | {found.mutants[kind]} | {found.mutants_refused[kind]} |"
    yield f"| all | {found.mutants.total()} | {found.mutants_refused.total()} |\n"


def _lists(outcome: Outcome) -> Iterator[str]:
    yield "## Reference calls that are refused\n"
    yield "| Call | Why it is an error of the data set | What the proxy says |\n|---|---|---|"
    for call_id, (said, why) in outcome.findings.exceptions.items():
        yield f"| {call_id} | {_cell(why)} | {_cell(said)} |"
    yield "\n## Functions that the table refuses\n"
    for name, why in outcome.refused_functions:
        yield f"* `{name}`: {why}"
    departures = [(name, one) for name, listed in _departures(outcome.findings) for one in listed]
    if departures:
        yield "\n## Departures\n"
        yield from (f"* {name}: {_cell(one)}" for name, one in departures[:200])


def _departures(found: Findings) -> Iterator[tuple[str, Sequence[str]]]:
    yield "refused without a listed reason", [f"{i}: {said}" for i, said in found.unexplained.items()]
    yield "listed as wrong and accepted", found.stale
    yield "other bytes arrived", found.altered
    yield "mutant let through", found.let_through
    yield "disagreement", found.disagreements
    yield "definition shown otherwise", found.misshown
    yield "stray request", found.strays


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
