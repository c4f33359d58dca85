"""The page of figures of one run."""

import os
import platform
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from tests.faults.bodies import Findings
from tests.faults.harness import Leg, Run

ABOUT = """\
Real processes, faults from outside, invariants read from the journal's files, from what the upstream received and from what
the clients were told. The schedule of faults follows from the seed; how they fall between the calls does not."""


def page(run: Run, bodies: Findings) -> str:
    """Markdown: what was done, what held, on which machine."""
    held = "held" if not run.broken else f"**{len(run.broken)} breaches**"
    command = f"python -m tests.faults.run --seed {run.seed} --seconds {run.seconds:.0f} --write"
    day = time.strftime("%Y-%m-%d", time.gmtime())
    lines = ["# Faults", "", f"Written by `{command}`, {day}, on {_machine()}. All invariants: {held}.", "", ABOUT]
    for leg in run.legs:
        lines += ["", *_leg(leg)]
    lines += ["", "## Bodies", "", *_bodies(bodies), "", "## Not done here", "", *(f"- {gap}" for gap in run.gaps)]
    return "\n".join(lines) + "\n"


def _leg(leg: Leg) -> list[str]:
    ledger, evidence = leg.ledger, leg.evidence
    figures = {
        "seconds": f"{leg.seconds:.0f}",
        "answers": f"{len(ledger.answers):,}",
        "clients without an answer": f"{ledger.no_answer.total():,}",
        "requests that the upstream received": f"{len(evidence.arrivals):,}",
        "starts of the sidecar": str(leg.injector.starts),
        "faults": _counts(leg.injector.done),
        "what the upstream did": _counts(leg.injector.witness.behaved),
        "records": _counts(Counter(record["kind"] for record in evidence.records)),
        "records that could not be written, and counted": str(
            sum(sum(record["lost"].values()) for record in evidence.of("gap"))
        ),
        "approvals, rejections, stops": f"{len(ledger.approved)}, {len(ledger.rejected)}, {len(ledger.stopped)}",
        "codes": _counts(ledger.codes),
    }
    if leg.opa_said:
        figures["what OPA said"] = _counts(leg.opa_said)
    if leg.growth is not None:
        figures["descriptors at rest, by period of load"] = ", ".join(map(str, leg.growth.descriptors))
        figures["resident MiB at rest, by period of load"] = ", ".join(str(n >> 20) for n in leg.growth.memory)
    rows = [f"| {name} | {value} |" for name, value in figures.items()]
    checks = [f"| {name} | {'held' if not found else f'{len(found)} breaches'} |" for name, found in leg.broken.items()]
    return [f"## {leg.name}", "", "| | |", "|---|---|", *rows, "", "| Invariant | |", "|---|---|", *checks]


def _bodies(found: Findings) -> list[str]:
    figures = {
        "bodies": f"{found.read:,} in {found.seconds:.0f} s",
        "calls taken": _counts(found.taken),
        "refused": _counts(found.refused),
        "texts compared with": _counts(found.compared),
        "findings": str(len(found.faults)),
    }
    return ["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in figures.items())]


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {times:,}" for name, times in sorted(counts.items(), key=lambda item: -item[1]))


def _machine() -> str:
    model = "an unknown CPU"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(": ")[2]
            break
    return f"{model} ({os.cpu_count()} CPUs), Linux {platform.release()}, Python {platform.python_version()}"
