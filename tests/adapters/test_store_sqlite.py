"""The checkpoint: rows and position change together, and a file that is not sound is set aside."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from proxy.adapters.store_sqlite import Checkpoint, open_checkpoint
from proxy.errors import Code
from tests.contracts.store_kit import refusing

TALK = ("conversation", "talk", "hash-1", b'{"id":"talk"}')
STOP = ("switch", "tool mail", None, b'{"by":"olga"}')


def test_rows_and_position_are_there_after_a_restart(tmp_path: Path) -> None:
    checkpoint = open_checkpoint(tmp_path / "state.db")
    checkpoint.write(7, "2026-11-25", [TALK, STOP])
    checkpoint.close()
    again = open_checkpoint(tmp_path / "state.db")
    assert (again.seq, again.day) == (7, "2026-11-25")
    assert again.conversation("talk") == {"id": "talk"}
    assert list(again.rows()) == [("switch", "tool mail", {"by": "olga"})]
    again.close()


def test_a_row_is_replaced_and_a_row_without_a_body_is_gone(tmp_path: Path) -> None:
    with closing(open_checkpoint(tmp_path / "state.db")) as checkpoint:
        checkpoint.write(1, "", [TALK, STOP])
        checkpoint.write(2, "", [("conversation", "talk", "hash-2", b'{"id":"new"}'), (*STOP[:3], None)])
        assert checkpoint.conversation("talk") == {"id": "new"}
        assert (checkpoint.by_handle("hash-1"), checkpoint.by_handle("hash-2")) == (None, "talk")
        assert list(checkpoint.rows()) == []
        assert checkpoint.conversation("other") is None


def test_counters_of_earlier_days_go(tmp_path: Path) -> None:
    with closing(open_checkpoint(tmp_path / "state.db")) as checkpoint:
        checkpoint.write(1, "2026-11-25", [("principal", f"2026-11-{day} ada", None, b"{}") for day in (24, 25)])
        assert [name for _, name, _ in checkpoint.rows()] == ["2026-11-25 ada"]


def test_a_write_that_fails_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    with closing(open_checkpoint(path)) as checkpoint:
        checkpoint.write(1, "", [TALK])
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(sqlite3.OperationalError):
                checkpoint.write(2, "", [STOP])
            other.execute("ROLLBACK")
        assert (checkpoint.seq, list(checkpoint.rows())) == (1, [])
        checkpoint.write(3, "", [STOP])
        assert checkpoint.seq == 3


@pytest.mark.parametrize(
    "bad", [("conversation", "talk", None, b"{}"), ("switch", "x", None, None)], ids=["kept", "gone"]
)
def test_a_transaction_is_whole_or_not_at_all(tmp_path: Path, bad: tuple[str, str, None, bytes | None]) -> None:
    """The last statement fails, because the position must be a number."""
    with closing(open_checkpoint(tmp_path / "state.db")) as checkpoint:
        checkpoint.write(1, "", [TALK, ("switch", "x", None, b"{}")])
        with pytest.raises(sqlite3.IntegrityError):
            checkpoint.write(None, "", [bad])  # type: ignore[arg-type]  # the fault that is tested
        assert checkpoint.by_handle("hash-1") == "talk"
        assert [name for _, name, _ in checkpoint.rows()] == ["x"]


def test_damage_inside_a_large_conversation_is_found_at_the_start(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    checkpoint = open_checkpoint(path)
    checkpoint.write(9, "", [("conversation", "talk", None, b'"%b"' % (b"x" * 200_000))])
    checkpoint.close()
    whole = path.read_bytes()
    path.write_bytes(whole[:81920] + b"\xff" * 8192 + whole[90112:])
    with closing(open_checkpoint(path)) as again:
        assert (again.seq, again.conversation("talk")) == (0, None)


@pytest.mark.parametrize("damage", ["garbage", "middle", "version", "row"])
def test_a_file_that_is_not_sound_is_set_aside_and_begun_anew(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "state.db"
    checkpoint = open_checkpoint(path)
    rows = [("switch", f"tool {number:04}", None, b'{"by":"%b"}' % (b"x" * 500)) for number in range(200)]
    checkpoint.write(9, "", rows)
    checkpoint.close()
    _damage(path, damage)
    with closing(open_checkpoint(path)) as again:
        assert (again.seq, list(again.rows())) == (0, [])
    assert path.with_name("state.db.damaged").exists()


def _damage(path: Path, how: str) -> None:
    if how == "garbage":
        path.write_bytes(b"this is no database" * 100)
    elif how == "middle":
        whole = path.read_bytes()
        path.write_bytes(whole[:8192] + b"\xff" * 16384 + whole[24576:])
    else:
        statement = {
            "version": "PRAGMA user_version = 99",
            "row": "UPDATE entity SET body = '{' WHERE id = 'tool 0100'",
        }
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute(statement[how])


def test_a_place_that_cannot_be_written_is_no_damage(tmp_path: Path) -> None:
    (tmp_path / "state.db").mkdir()
    with pytest.raises((sqlite3.Error, OSError)):
        open_checkpoint(tmp_path / "state.db")
    assert not (tmp_path / "state.db.damaged").exists()


def test_what_cannot_be_read_later_is_a_refusal(tmp_path: Path) -> None:
    with closing(Checkpoint(tmp_path / "state.db")) as checkpoint:
        checkpoint.write(1, "", [("conversation", "list", None, b"[1]"), ("conversation", "half", None, b"{")])
        for name in ("list", "half"):
            with refusing(Code.STATE_UNAVAILABLE):
                checkpoint.conversation(name)
    with refusing(Code.STATE_UNAVAILABLE):
        checkpoint.conversation("talk")
    with refusing(Code.STATE_UNAVAILABLE):
        checkpoint.by_handle("hash")


def test_the_file_is_its_owners(tmp_path: Path) -> None:
    open_checkpoint(tmp_path / "state.db").close()
    assert (tmp_path / "state.db").stat().st_mode & 0o077 == 0
