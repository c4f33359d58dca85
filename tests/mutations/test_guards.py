"""The list of guards has not drifted from the code. That each is noticed: `python -m tests.mutations.run`, some minutes."""

import ast
from pathlib import Path

import pytest

from tests.mutations.guard import Guard
from tests.mutations.guards import GUARDS

REPO = Path(__file__).parents[2]


@pytest.mark.parametrize("guard", GUARDS, ids=lambda guard: guard.what.replace(" ", "-")[:60])
def test_what_is_broken_stands_there_once(guard: Guard) -> None:
    """The old text once, the break changes something and is still Python, and the tests are there."""
    whole = (REPO / guard.file).read_text()
    assert whole.count(guard.old) == 1
    assert guard.old != guard.new
    if guard.file.endswith(".py"):
        ast.parse(whole.replace(guard.old, guard.new))
    for test in guard.tests:
        name, _, function = test.partition("::")
        text = (REPO / name).read_text()
        assert not function or f"def {function}(" in text


def test_there_are_enough_and_none_twice() -> None:
    """At least forty, over all kinds of files."""
    assert len(GUARDS) >= 40
    assert len({(guard.file, guard.old) for guard in GUARDS}) == len(GUARDS)
    assert len({guard.file for guard in GUARDS}) > 20
