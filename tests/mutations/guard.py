"""One guard of the product: the smallest break that takes it away, and the tests that must turn red."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Guard:
    """`old` stands exactly once in `file`; with `new` in its place one of `tests` fails."""

    what: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]


def guard(what: str, file: str, old: str, new: str, *tests: str) -> Guard:
    """Tests are pytest node ids under tests/."""
    return Guard(what=what, file=file, old=old, new=new, tests=tuple(f"tests/{test}" for test in tests))
