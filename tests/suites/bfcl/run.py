"""One command: every reference call and its mutants through a sidecar over the real OPA.

`python -m tests.suites.bfcl.run [--limit N] [--report FILE] [--write]`; exit 0 if every target is met, 1 if not, 69 if the
data set cannot be had. `--report` writes FILE (JSON, or Markdown if it ends in .md); `--write` writes REPORT.md beside this file.
"""

import argparse
import asyncio
import contextlib
import json
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

from tests.e2e.rig import Rig, rig
from tests.suites.bfcl.data import DataUnavailableError, wheel
from tests.suites.bfcl.judge import (
    Findings,
    judge_definitions,
    judge_mutants,
    judge_records,
    judge_references,
    judge_upstream,
)
from tests.suites.bfcl.report import WHOLE, Outcome, as_json, as_markdown
from tests.suites.bfcl.send import definitions, recorded, send
from tests.suites.bfcl.work import Suite, bodies, load, mutated, packed
from tests.suites.bfcl.world import UNMAPPED, furnish

REPORT = Path(__file__).with_name("REPORT.md")


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m tests.suites.bfcl.run")
    parser.add_argument("--limit", type=int, help="about so many reference calls, spread evenly")
    parser.add_argument("--report", type=Path, help="write the report to this file, JSON unless it ends in .md")
    parser.add_argument("--write", action="store_true", help="write REPORT.md; only a whole run may")
    options = parser.parse_args()
    if options.write and options.limit is not None:
        parser.error("--write is for a whole run")
    try:
        outcome = run(options.limit)
    except DataUnavailableError as e:
        print(e, file=sys.stderr)
        return 69
    if options.report is not None:
        markdown = options.report.suffix == ".md"
        options.report.write_text(as_markdown(outcome) if markdown else json.dumps(as_json(outcome), indent=2) + "\n")
    if options.write:
        REPORT.write_text(as_markdown(outcome))
    print(as_markdown(outcome))
    return 0 if outcome.passed else 1


def run(limit: int | None = None) -> Outcome:
    """The whole suite, or about `limit` reference calls of it. Raises DataUnavailableError."""
    with zipfile.ZipFile(wheel()) as archive:
        suite = load(archive, limit)
    if limit is None and len(suite.references) != WHOLE:
        raise AssertionError(f"{len(suite.references)} reference calls instead of {WHOLE}")
    with tempfile.TemporaryDirectory(prefix="bfcl-") as folder:
        return asyncio.run(_run(suite, Path(folder)))


async def _run(suite: Suite, folder: Path) -> Outcome:
    found, seconds = Findings(), dict[str, float]()
    async with rig(folder) as sidecar:
        furnish(sidecar, suite.tools)
        with _timed(seconds, "start"):
            await sidecar.start()
        unmapped = await _unmapped(sidecar)
        judge_definitions(found, suite, await definitions(sidecar))
        with _timed(seconds, "reference calls"):
            said = await send(sidecar, bodies(suite), "calls")
        valid = judge_references(found, suite, said)
        made = mutated(suite, valid)
        with _timed(seconds, "mutants"):
            said |= await send(sidecar, packed([call for call, _ in made.values()]), "mutants")
        judge_mutants(found, made, said)
        judge_upstream(found, suite, valid, sidecar.upstream.received)
        with _timed(seconds, "records"):
            ended = await sidecar.stop()
            records = recorded(sidecar)
            del records["native", UNMAPPED]
            judge_records(found, said, records)
            whole = ended == 0 and sidecar.verify() == 0
    return Outcome(
        findings=found,
        tools=len(suite.tools),
        refused_functions=suite.refused,
        unmapped=unmapped,
        journal_whole=whole,
        seconds=seconds,
    )


async def _unmapped(sidecar: Rig) -> str | None:
    _, answer = await sidecar.call(await sidecar.register("unmapped"), UNMAPPED, {}, name_it=UNMAPPED)
    code: str | None = answer.get("refusal", {}).get("code")
    return code


@contextlib.contextmanager
def _timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    began = time.monotonic()
    yield
    seconds[name] = time.monotonic() - began


if __name__ == "__main__":
    sys.exit(main())
