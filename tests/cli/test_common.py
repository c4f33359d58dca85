"""Output for people and for machines."""

import argparse
import json
from pathlib import Path

import pytest

from proxy.cli.common import USAGE, Failure, clean, emit, read_settings, table
from tests.cli.command import HOSTILE, harmless


def test_text_of_others_is_shown_and_not_obeyed() -> None:
    """Control characters, ANSI sequences and direction overrides come out as escapes; letters of any script stay."""
    assert clean("é 漢 🙂") == "é 漢 🙂"
    assert clean("\x1b[31m\u202e\n") == "\\u001b[31m\\u202e\\u000a"
    assert harmless(clean(HOSTILE))
    assert clean("\ud800") == "\\ud800"


def test_json_output_is_ascii_and_means_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    emit({"said": HOSTILE, "path": Path("x")})
    printed = capsys.readouterr().out
    assert printed.isascii()
    assert harmless(printed)
    assert json.loads(printed) == {"said": HOSTILE, "path": "x"}


def test_a_table_is_aligned_and_clean(capsys: pytest.CaptureFixture[str]) -> None:
    """Columns keep their place whatever stands in a cell."""
    table([{"a": "x", "b": "1"}, {"a": HOSTILE, "b": "2"}], [("A", lambda r: r["a"]), ("B", lambda r: r["b"])])
    printed = capsys.readouterr().out
    assert harmless(printed)
    lines = printed.splitlines()
    assert len(lines) == 3
    assert len({len(line) for line in lines}) == 1


def test_missing_settings_say_how_to_get_some(tmp_path: Path) -> None:
    with pytest.raises(Failure) as failure:
        read_settings(argparse.Namespace(settings=tmp_path / "sidegate.yaml"))
    assert failure.value.exit_code == USAGE
    assert str(tmp_path / "sidegate.yaml") in str(failure.value)
    assert "sidegate init" in str(failure.value)
