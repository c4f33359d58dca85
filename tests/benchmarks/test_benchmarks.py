"""Each benchmark runs, in a tiny form, and says something: no absolute time is asserted, since a test machine has none."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.benchmarks import report
from tests.benchmarks.load import Measured
from tests.benchmarks.report import Report, Verdict, spread
from tests.e2e.sidecar import REPO

TINY = {
    "run": ("--rounds 1 --requests 64", 9),
    "evaluation": ("--rounds 1 --queries 5", 9),
    "stages": ("--repetitions 2 --calls 16", 20),
    "profiled": ("--requests 200", 3),
    "held": ("--held 20 --rounds 1 --requests 64", 2),
    "conversations": ("--many 300 --rounds 1 --requests 64", 3),
    "stores": ("--rounds 1 --requests 64", 2),
    "startup": ("--rounds 1", 5),
    "container": ("--rounds 1", 5),
    "tail": ("--rounds 1 --requests 50 --seconds 1", 3),
    "growth": ("--seconds 1 --top 50 --conversations 200 --held 8", 7),
}
SECTIONS = (
    "run",
    "evaluation",
    "stages",
    "profiled",
    "held-1000",
    "held-4000",
    "conversations",
    "stores",
    "startup",
    "container",
    "tail",
    "growth",
)


@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.parametrize("module", TINY)
def test_a_tiny_run_has_rows_and_no_bad_answer(module: str, tmp_path: Path) -> None:
    """Every answer that a benchmark did not expect is a failure, not a figure."""
    flags, least = TINY[module]
    command = [sys.executable, "-m", f"tests.benchmarks.{module}", *flags.split(), "--json", str(tmp_path / "out.json")]
    done = subprocess.run(command, cwd=REPO, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-1500:] + done.stderr[-1500:]
    found: dict[str, Any] = json.loads((tmp_path / "out.json").read_text())
    assert found["bad"] == 0
    assert len(found["rows"]) >= least
    assert found["verdicts"] or module == "profiled"
    assert found["cpu"]
    assert all(verdict["value"] == verdict["value"] for verdict in found["verdicts"])


def test_readme_has_a_place_for_every_benchmark() -> None:
    page = report.README.read_text()
    for name in (*SECTIONS, "budgets"):
        assert page.count(f"<!-- {name}: begin -->") == page.count(f"<!-- {name}: end -->") == 1, name


def test_a_section_and_its_budgets_are_replaced_and_causes_stay() -> None:
    """Writing twice changes figures only."""
    made = Report(name="run", columns={"a": "A"}, rows=[{"a": spread([1.0, 3.0, 2.0])}])
    page = "<!-- budgets: begin -->\n| P1 | x | 1.00 x | 1.00 x | met | a cause |\n"
    page += "| P2 | x | 1.00 x | 1.00 x | met |  |\n<!-- budgets: end -->\nkept\n"
    page += "<!-- run: begin -->\nold\n<!-- run: end -->\nkept, too\n"
    verdicts = [Verdict(budget=p, what="x", value=2.0, limit=1.0) for p in ("P1", "P2", "P3")]
    assert report.rewritten(page, made, verdicts) == (
        "<!-- budgets: begin -->\n| P1 | x | 2.00 x | 1.00 x | **missed** | a cause |\n"
        "| P2 | x | 2.00 x | 1.00 x | **missed** |  |\n| P3 | x | 2.00 x | 1.00 x | **missed** |  |\n<!-- budgets: end -->\nkept\n"
        f"<!-- run: begin -->\n\n{made.headline()}\n\n| A |\n| --- |\n| 2.00 (1.00-3.00) |\n\n<!-- run: end -->\nkept, too\n"
    )


def test_a_stall_is_corrected_for_what_it_kept_from_being_asked() -> None:
    """One answer of 10 s among answers of 1 s hides nine questions."""
    found = Measured(latencies=[1.0] * 9 + [10.0], cpu={}, seconds=1.0, bad=0)
    assert found.percentile(50) == 1.0
    assert found.percentile(80) == 1.0
    assert found.corrected(80) == 7.0
