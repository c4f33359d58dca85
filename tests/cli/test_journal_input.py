"""Where records are read from, and which are wanted."""

import argparse
from pathlib import Path
from typing import Any

import pytest

from proxy.adapters.journal_segment import JournalError
from proxy.cli.common import Failure
from proxy.cli.journal_input import (
    DIRECTORY,
    condition_arguments,
    conditions,
    from_stdin,
    lines,
    paths,
    reading,
    source_arguments,
)
from proxy.core.chain import GENESIS, seal_line

RECORD = seal_line(GENESIS, b'{"seq":1,"at":"2026-11-25T10:00:00Z","kind":"stop"}')[0]


def parsed(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    source_arguments(parser)
    condition_arguments(parser)
    return parser.parse_args(words)


def test_what_is_named_is_read_whatever_is_piped() -> None:
    """What is read where nothing is named: tests/cli/test_audit.py."""
    assert paths(parsed()) == [DIRECTORY]
    assert from_stdin(parsed("-"))
    given = parsed("--dir", "d")
    assert (from_stdin(given), paths(given)) == (False, [Path("d")])
    assert (from_stdin(parsed("a", "b")), paths(parsed("a", "b"))) == (False, [Path("a"), Path("b")])
    with pytest.raises(Failure, match="alone"):
        from_stdin(parsed("-", "a"))


def test_a_file_that_is_no_segment_is_a_shipped_log(tmp_path: Path) -> None:
    """Beside directories and segments."""
    (tmp_path / "day.log").write_bytes(b"another line\n2026-11-25T10:00:00Z stdout F " + RECORD)
    (tmp_path / "j").mkdir()
    (tmp_path / "j" / "a-000000000001.jsonl").write_bytes(RECORD)
    assert list(lines(parsed(str(tmp_path / "day.log"), str(tmp_path / "j")))) == [RECORD, RECORD]
    with pytest.raises(JournalError, match="neither"):
        list(lines(parsed(str(tmp_path / "nowhere"))))


def test_a_fault_of_reading_is_wrong_usage() -> None:
    def fails(_: argparse.Namespace) -> int:
        raise JournalError("no journal")

    with pytest.raises(Failure) as raised:
        reading(fails)(parsed())
    assert raised.value.exit_code == 64


ADA = {"id": "https://idp#ada-1", "name": "Ada Example"}


@pytest.mark.parametrize(
    ("words", "record", "fits"),
    [
        (("--principal", "ADA EXAMPLE"), {"principal": ADA}, True),
        (("--principal", "ada-1"), {"principal": ADA}, True),
        (("--principal", "https://IDP#ada-1"), {"principal": ADA}, True),
        (("--principal", "ada"), {"principal": ADA}, False),
        (("--principal", "ada"), {"principal": None}, False),
        (("--decision", "deny"), {"decision": {"effect": "deny"}}, True),
        (("--decision", "allow"), {"decision": {"effect": "deny"}}, False),
        (("--decision", "none"), {"kind": "terminal", "outcome": "refused"}, True),
        (("--decision", "none"), {"kind": "terminal", "outcome": "done"}, False),
        (("--decision", "none"), {"kind": "registered"}, False),
        (("--since", "2026-11-25", "--until", "2026-11-26"), {"at": "2026-11-25T10:00:00Z"}, True),
        (("--since", "2026-11-25T12:00:00+01:00"), {"at": "2026-11-25T10:59:00Z"}, False),
        (("--until", "2026-11-25T10:00:00Z"), {"at": "2026-11-25T10:00:00Z"}, False),
        (("--since", "2026-11-25"), {}, False),
    ],
)
def test_conditions(words: tuple[str, ...], record: dict[str, Any], fits: bool) -> None:
    assert conditions(parsed(*words))(record) is fits


def test_a_time_that_is_none_is_wrong_usage() -> None:
    with pytest.raises(Failure, match="is no time"):
        conditions(parsed("--since", "yesterday"))
