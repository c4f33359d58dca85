"""The table of README.md: every case has a state, and every test that it names exists and stands in the row of its case."""

import re
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
REPORTS = (
    "001 002 004 005 007 008 010 011 013 014 016 017 019 020 022 023 025 026 028 029 031 032 034 035 037 038 040 041 043 044 "
    "046 047 049 050 052 053 055 056 058 059 061 062 064 065 067 068 070 071 073 074 076 077 079 080 082 083 085 086 088 089 "
    "091 092 094 095 097 098"
)
CASES = [f"C{number}" for number in REPORTS.split()] + [f"F{number:02}" for number in range(1, 17)]
ROWS = re.findall(r"^\| ([CF]\d+) \| (\w+) \| (.*) \|$", (HERE / "README.md").read_text(), re.MULTILINE)
NAMED = re.compile(r"`([\w/]+\.py)::(\w+)`")
FILES = re.compile(r"`([\w/]+\.(?:py|md))`")


def test_every_case_has_one_row() -> None:
    """In the order of the pool."""
    assert [case for case, _, _ in ROWS] == CASES


@pytest.mark.parametrize(("case", "state", "text"), ROWS, ids=[case for case, _, _ in ROWS])
def test_a_row_says_what_is_true(case: str, state: str, text: str) -> None:
    """Named tests exist; the state fits what is named; the case's own tests stand in its row."""
    named = NAMED.findall(text)
    for file, test in named:
        path = HERE / file if "/" not in file else ROOT / file
        assert re.search(rf"^(async )?def {test}\(", path.read_text(), re.MULTILINE), f"{file} has no {test}"
    for file in FILES.findall(text):
        assert (ROOT / file).is_file() or (HERE / file).is_file(), file
    own = {test for test in own_tests() if test.startswith(f"test_{case.lower()}_")}
    assert own == {test for _, test in named if test.startswith(f"test_{case.lower()}_")}
    assert state in {"here", "elsewhere", "partly", "later", "no"}
    assert (state == "here") <= bool(own)
    assert bool(own) <= (state in {"here", "partly"})
    assert (state in {"elsewhere", "partly"}) <= bool(named)
    assert (state in {"later", "no"}) <= (not own and len(text) > 4)


def test_every_test_belongs_to_a_case() -> None:
    """No test is named after a case that is not there."""
    assert {test.split("_")[1].upper() for test in own_tests()} <= set(CASES)


def own_tests() -> list[str]:
    """Names of the tests of cases in this folder."""
    texts = [path.read_text() for path in sorted(HERE.glob("test_*.py"))]
    return [name for text in texts for name in re.findall(r"^(?:async )?def (test_[cf]\d+_\w+)", text, re.MULTILINE)]
