"""The state directory and the key in it."""

import contextlib
import os
import secrets
from pathlib import Path


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
        with contextlib.suppress(FileExistsError):
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(handle, "wb") as file:
                file.write(secrets.token_bytes(32))
                file.flush()
                os.fsync(file.fileno())
        key = path.read_bytes()
    except OSError as e:
        raise UnusableError(f"the key {path} cannot be used: {e.strerror}") from e
    if len(key) != 32:
        raise UnusableError(f"the key {path} is damaged: it has {len(key)} bytes, not 32")
    return key
