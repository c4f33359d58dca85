"""The page of figures of one run."""

import os
import platform
import time
from collections.abc import Mapping
from pathlib import Path

from tests.faults.bodies import Findings
from tests.faults.harness import Leg, Run


def page(run: Run, bodies: Findings) -> str:
    """Markdown: what was done, what held, on which machine."""
    held = "held" if not run.broken else f"**{len(run.broken)} breaches**"
    lines = [
        "# Faults",
        "",
        f"Written by `python -m tests.faults.run --seed {run.seed} --seconds {run.seconds:.0f} --write`, "
        f"{time.strftime('%Y-%m-%d', time.gmtime())}, on {_machine()}. All invariants: {held}.",
        "",
        "Real processes, faults from outside, invariants read from the journal's files, from what the upstream received and "
        "from what the clients were told. The schedule of faults follows from the seed; how they fall between the calls does not.",
    ]
    for leg in run.legs:
        lines += ["", *_leg(leg)]
    lines += ["", "## Bodies", "", *_bodies(bodies), "", "## Not done here", "", *(f"- {gap}" for gap in run.gaps)]
    return "\n".join(lines) + "\n"


def _leg(leg: Leg) -> list[str]:
    ledger = leg.ledger
    figures = {
        "seconds": f"{leg.seconds:.0f}",
        "answers": f"{len(ledger.answers):,}",
        "clients without an answer": f"{ledger.no_answer.total():,}",
        "requests that the upstream received": f"{leg.arrivals:,}",
        "starts of the sidecar": str(leg.starts),
        "faults": _counts(leg.faults),
        "what the upstream did": _counts(leg.upstream),
        "records": _counts(leg.records),
        "records that could not be written, and counted": str(leg.lost),
        "approvals, rejections, stops": f"{len(ledger.approved)}, {len(ledger.rejected)}, {len(ledger.stopped)}",
        "codes": _counts(ledger.codes),
    }
    if leg.opa_said:
        figures["what OPA said"] = _counts(leg.opa_said)
    if leg.growth is not None:
        (fd0, fd1), (rss0, rss1) = leg.growth.descriptors, leg.growth.memory
        figures["descriptors at rest, before and after"] = f"{fd0}, {fd1}"
        figures["resident MiB at rest, before and after"] = f"{rss0 >> 20}, {rss1 >> 20}"
    rows = [f"| {name} | {value} |" for name, value in figures.items()]
    checks = [f"| {name} | {'held' if not found else f'{len(found)} breaches'} |" for name, found in leg.broken.items()]
    return [f"## {leg.name}", "", "| | |", "|---|---|", *rows, "", "| Invariant | |", "|---|---|", *checks]


def _bodies(found: Findings) -> list[str]:
    return [
        f"{found.read:,} bodies in {found.seconds:.0f} s: calls taken {_counts(found.taken)}; refused {_counts(found.refused)}; "
        f"texts compared {_counts(found.compared)}; findings: {len(found.faults)}."
    ]


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {times:,}" for name, times in sorted(counts.items(), key=lambda item: -item[1]))


def _machine() -> str:
    model = "an unknown CPU"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(": ")[2]
            break
    return f"{model} ({os.cpu_count()} CPUs), Linux {platform.release()}, Python {platform.python_version()}"
