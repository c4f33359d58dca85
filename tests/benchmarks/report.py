"""What every benchmark has in common: its options, its JSON, its table in README.md, and its lines in the table of budgets."""

import argparse
import asyncio
import json
import os
import platform
import re
import statistics
import sys
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import uvloop

README = Path(__file__).parent / "README.md"

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """A measured value beside its budget (performance.md section 7): met if it is at most `limit`."""

    budget: str
    what: str
    value: float
    limit: float
    unit: str = "x"

    @property
    def met(self) -> bool:
        return self.value <= self.limit


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Rows of one benchmark; `columns` maps their keys to headings. `bad` counts answers that were not the expected ones."""

    name: str
    columns: Mapping[str, str]
    rows: Sequence[Row]
    verdicts: Sequence[Verdict] = ()
    notes: Sequence[str] = ()
    bad: int = 0
    options: Mapping[str, Any] = field(default_factory=dict)

    def document(self) -> dict[str, Any]:
        """As JSON."""
        verdicts = [asdict(v) | {"met": v.met} for v in self.verdicts]
        return {
            "benchmark": self.name,
            "cpu": cpu_model(),
            "cores": os.cpu_count(),
            "python": platform.python_version(),
            "at": datetime.now(UTC).isoformat(timespec="minutes"),
            "options": dict(self.options),
            "bad": self.bad,
            "rows": list(self.rows),
            "verdicts": verdicts,
            "notes": list(self.notes),
        }

    def headline(self) -> str:
        """Where, when and how it was measured."""
        given = ", ".join(f"{name} {value}" for name, value in self.options.items())
        at = f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
        return (
            f"{cpu_model()}, {os.cpu_count()} cores, Python {platform.python_version()}, {at}; {given or 'no options'}."
        )

    def table(self) -> str:
        """As Markdown."""
        lines = [list(self.columns.values()), ["---"] * len(self.columns)]
        lines += [[_shown(row.get(key, "")) for key in self.columns] for row in self.rows]
        return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def command(
    name: str, doc: str | None, run: Callable[[argparse.Namespace], Coroutine[Any, Any, Report]], **options: Any
) -> None:
    """The whole command: `options` are its flags with their defaults; `--json` and `--write` come with it."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    for flag, default in options.items():
        parser.add_argument(
            f"--{flag.replace('_', '-')}", type=type(default), default=default, help=f"default: {default}"
        )
    parser.add_argument("--json", type=Path, help="write the figures there, too")
    parser.add_argument("--write", action="store_true", help=f"write the table into {README.name}")
    args = parser.parse_args()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        report = runner.run(run(args))
    print(report.table())
    for verdict in report.verdicts:
        print(_line(verdict, ""))
    if args.json:
        args.json.write_text(json.dumps(report.document(), indent=2) + "\n")
    if args.write:
        write(report)
    if report.bad:
        sys.exit(1)


def write(report: Report) -> None:
    """Replace the benchmark's section of README.md and its lines in the table of budgets."""
    README.write_text(rewritten(README.read_text(), report, report.verdicts))


def rewritten(page: str, report: Report, verdicts: Sequence[Verdict]) -> str:
    """The page with this report in its place; causes written by hand beside budgets stay."""
    page = _between(page, report.name, "\n\n".join([report.headline(), report.table(), *report.notes]))
    for verdict in verdicts:
        page = _judged(page, verdict)
    return page


def _between(page: str, name: str, text: str) -> str:
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    before, found, rest = page.partition(begin)
    if not found or end not in rest:
        raise ValueError(f"{README} has no section between {begin} and {end}")
    return f"{before}{begin}\n\n{text}\n\n{end}{rest.partition(end)[2]}"


def _judged(page: str, verdict: Verdict) -> str:
    """The page with this verdict's line: in place of the one before, its last cell (the cause) kept; else after the last line."""
    table = page.partition("<!-- budgets: begin -->")[2].partition("<!-- budgets: end -->")[0]
    start = f"| {verdict.budget} | {verdict.what} |"
    for line in table.splitlines():
        if line.startswith(start):
            return page.replace(line, _line(verdict, line.split("|")[-2].strip()))
    return page.replace("<!-- budgets: end -->", f"{_line(verdict, '')}\n<!-- budgets: end -->")


def _line(verdict: Verdict, cause: str) -> str:
    shown = f"{_number(verdict.value)} {verdict.unit}", f"{_number(verdict.limit)} {verdict.unit}"
    return f"| {verdict.budget} | {verdict.what} | {shown[0]} | {shown[1]} | {'met' if verdict.met else '**missed**'} | {cause} |"


def spread(values: Iterable[float]) -> dict[str, float]:
    """Median, least and greatest of the rounds."""
    found = list(values)
    return {"median": statistics.median(found), "least": min(found), "greatest": max(found)}


def median(values: Iterable[float]) -> float:
    """The middle one."""
    return statistics.median(list(values))


def cpu_model() -> str:
    """The processor's own name."""
    found = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
    return found[1].strip() if found else platform.processor()


def _shown(value: Any) -> str:
    if isinstance(value, Mapping) and "median" in value:
        return f"{_number(value['median'])} ({_number(value['least'])}-{_number(value['greatest'])})"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {count}" for key, count in value.items()) or "none"
    return _number(value) if isinstance(value, float) else str(value)


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"
