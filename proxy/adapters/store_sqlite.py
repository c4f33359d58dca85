"""The checkpoint of the embedded store: SQLite rows of JSON, brought up from the journal, never ahead of it.

It is a cache with a position: every row stems from journal records up to `seq`, which is written in the same transaction.
What is missing or damaged here is built anew from the journal. `synchronous=NORMAL` in WAL mode may lose the last
transactions in a power cut, but whole, and then the journal has them.
"""

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson

from proxy.errors import Code, Refusal

_VERSION = 1  # as at the end of _SCHEMA
_SMALL_ENOUGH_TO_CHECK = 32 << 20  # bytes: a full check of a larger file would make starting slow
_SCHEMA = """
CREATE TABLE entity (
    kind TEXT NOT NULL, id TEXT NOT NULL, handle TEXT, body BLOB NOT NULL, PRIMARY KEY (kind, id)
) WITHOUT ROWID;
CREATE INDEX entity_handle ON entity (handle) WHERE handle IS NOT NULL;
CREATE TABLE position (only_row INTEGER PRIMARY KEY CHECK (only_row = 1), seq INTEGER NOT NULL, day TEXT NOT NULL);
INSERT INTO position VALUES (1, 0, '');
PRAGMA user_version = 1;
"""

Row = tuple[str, str, str | None, bytes | None]  # (table, id, handle hash, JSON or None for gone)


class Checkpoint:
    """Reads are the event loop's, by id and a few microseconds each; `write` is the writer thread's, on a connection of its own."""

    def __init__(self, path: Path) -> None:
        """Open a sound file or begin an empty one. Raises sqlite3.Error and OSError."""
        path.touch(mode=0o600)
        self._reader = _connect(path)
        try:
            _prepare(self._reader, path)
            seq, day = self._reader.execute("SELECT seq, day FROM position").fetchone()
            self.seq, self.day = int(seq), str(day)
            self._writer = _connect(path)
        except BaseException:
            self._reader.close()
            raise

    def rows(self) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
        """Everything but conversations: (table, id, row). Raises sqlite3.Error, ValueError."""
        for kind, name, body in self._reader.execute("SELECT kind, id, body FROM entity WHERE kind != 'conversation'"):
            yield kind, name, orjson.loads(body)

    def conversation(self, name: str) -> Mapping[str, Any] | None:
        """One conversation by id. Raises Refusal state_unavailable."""
        found = self._one("SELECT body FROM entity WHERE kind = 'conversation' AND id = ?", name)
        try:
            return None if found is None else _object(found)
        except ValueError as error:
            raise unreadable(error) from error

    def by_handle(self, handle_hash: str) -> str | None:
        """The id of the conversation that had this handle at the checkpoint. Raises Refusal state_unavailable."""
        found = self._one("SELECT id FROM entity WHERE handle = ?", handle_hash)
        return None if found is None else str(found)

    def write(self, seq: int, day: str, rows: Sequence[Row]) -> None:
        """Put rows and position in one transaction; counters of principals of days before `day` go. Raises sqlite3.Error."""
        gone = [(kind, name) for kind, name, _, body in rows if body is None]
        kept = [row for row in rows if row[3] is not None]
        with self._writer as transaction:
            transaction.execute("BEGIN IMMEDIATE")
            transaction.executemany(
                "INSERT INTO entity (kind, id, handle, body) VALUES (?, ?, ?, ?) "
                "ON CONFLICT (kind, id) DO UPDATE SET handle = excluded.handle, body = excluded.body",
                kept,
            )
            transaction.executemany("DELETE FROM entity WHERE kind = ? AND id = ?", gone)
            transaction.execute("DELETE FROM entity WHERE kind = 'principal' AND id < ?", (day,))
            transaction.execute("UPDATE position SET seq = ?, day = ?", (seq, day))
        self.seq, self.day = seq, day

    def close(self) -> None:
        """Close both connections. Twice is once."""
        self._writer.close()
        self._reader.close()

    def _one(self, query: str, value: str) -> Any:
        try:
            found = self._reader.execute(query, (value,)).fetchone()
        except sqlite3.Error as error:
            raise unreadable(error) from error
        return None if found is None else found[0]


def open_checkpoint(path: Path) -> Checkpoint:
    """Open the checkpoint; a file that is damaged or of another version is set aside (`.damaged`) and begun anew.

    Raises OSError and sqlite3.Error if no file can be written there at all.
    """
    try:
        checkpoint = Checkpoint(path)
        try:
            for _ in checkpoint.rows():
                pass
        except BaseException:
            checkpoint.close()
            raise
    except (sqlite3.DatabaseError, ValueError) as error:
        if not _is_damage(error):
            raise
        return begin_anew(path)
    return checkpoint


def position(path: Path) -> int:
    """The journal record that the checkpoint has come to; 0 if there is none. What the journal must have at least.

    Raises OSError and sqlite3.Error as `open_checkpoint`.
    """
    if not path.exists():
        return 0
    checkpoint = open_checkpoint(path)
    try:
        return checkpoint.seq
    finally:
        checkpoint.close()


def begin_anew(path: Path) -> Checkpoint:
    """Set a checkpoint aside as `.damaged` and begin an empty one. Raises OSError and sqlite3.Error."""
    for name in (f"{path.name}-wal", f"{path.name}-shm"):
        path.with_name(name).unlink(missing_ok=True)
    path.replace(path.with_name(f"{path.name}.damaged"))
    return Checkpoint(path)


def unreadable(error: BaseException) -> Refusal:
    """The refusal while the checkpoint cannot be read or written; the cause goes to the details only."""
    return Refusal(Code.STATE_UNAVAILABLE, "the state of conversations is not available", details={"error": str(error)})


def _connect(path: Path) -> sqlite3.Connection:
    # A write waits in the thread that flushes the journal, and so does every call: rather fail and try again later.
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=0.05)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")
    return connection


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version == 0:
        connection.executescript(f"BEGIN; {_SCHEMA} COMMIT;")
    elif version != _VERSION:
        raise sqlite3.DatabaseError(f"the checkpoint has version {version}, not {_VERSION}")
    if path.stat().st_size <= _SMALL_ENOUGH_TO_CHECK:
        answer = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        if answer != "ok":
            raise sqlite3.DatabaseError(str(answer))


def _is_damage(error: Exception) -> bool:
    """Whether the file itself is at fault, and not its folder, the disk or another process."""
    code = getattr(error, "sqlite_errorcode", None)
    return code is None or code & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR)


def _object(body: bytes) -> Mapping[str, Any]:
    found = orjson.loads(body)
    if not isinstance(found, dict):
        raise ValueError("a row is not an object")  # noqa: TRY004 - handled like any other unreadable row
    return found
