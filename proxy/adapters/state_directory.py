"""The state directory and the key in it."""

import contextlib
import os
import secrets
from pathlib import Path

KEY_BYTES = 32


class UnusableError(Exception):
    """Sidegate cannot start: one sentence."""


def make_private(directory: Path) -> None:
    """Make it if it is not there, for this user only. Raises UnusableError."""
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as e:
        raise UnusableError(f"the state directory {directory} cannot be used: {e.strerror}") from e


def read_or_make_key(path: Path) -> bytes:
    """The secret of digests and masks: made once, 32 random bytes, readable by this user only. Raises UnusableError."""
    try:
        if not path.exists():
            _make_key(path)
        key = path.read_bytes()
    except OSError as e:
        raise UnusableError(f"the key {path} cannot be used: {e.strerror}") from e
    if len(key) != KEY_BYTES:
        raise UnusableError(f"the key {path} is damaged: it has {len(key)} bytes, not {KEY_BYTES}")
    return key


def _make_key(path: Path) -> None:
    # Written beside its place and linked into it: a crash in between leaves no key that is damaged for ever.
    draft = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(secrets.token_bytes(KEY_BYTES))
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):  # somebody else was first
            path.hardlink_to(draft)
    finally:
        draft.unlink()
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
