"""Bundles as files: a .tar.gz that is the same for the same content, and one read in bounded time and memory."""

import gzip
import io
import os
import tarfile
import tempfile
import zlib
from collections.abc import Mapping
from pathlib import Path

PACKED = 8 * 1024 * 1024  # bytes of a file that is read; 10,000 grants have 0.3 MB
UNPACKED = 64 * 1024 * 1024
_MEMBERS = 2000


class ArchiveError(ValueError):
    """Not a bundle; the sentence continues the name of its file."""


def pack(files: Mapping[str, bytes]) -> bytes:
    """A deterministic .tar.gz: sorted names, no times, no owners."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name in sorted(files):
            member = tarfile.TarInfo(name)
            member.size = len(files[name])
            member.mode = 0o644
            archive.addfile(member, io.BytesIO(files[name]))
    return gzip.compress(packed.getvalue(), mtime=0)


def unpack(content: bytes, *, most: int = UNPACKED) -> dict[str, bytes]:
    """The members of a bundle: plain files of plain names, each once. Raises ArchiveError."""
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(content)) as file:
            whole = file.read(most + 1)
    except EOFError:
        raise ArchiveError("is cut short: it was not written, or not fetched, to its end") from None
    except (OSError, zlib.error):
        raise ArchiveError("is not gzip: a bundle is the .tar.gz that `sidegate policy build` writes") from None
    if len(whole) > most:
        raise ArchiveError(f"is larger than {most} bytes when unpacked")
    try:
        with tarfile.open(fileobj=io.BytesIO(whole), mode="r:") as archive:
            return _members(archive)
    except ArchiveError:
        raise
    except (tarfile.TarError, EOFError, ValueError, OverflowError):
        raise ArchiveError("is no tar archive inside, or one that is cut short") from None


def _members(archive: tarfile.TarFile) -> dict[str, bytes]:
    members: dict[str, bytes] = {}
    for entry in archive:
        if entry.isdir():
            continue
        if entry.issparse():  # a few bytes here stand for any number there
            raise ArchiveError(f"has a sparse member, which no bundle needs: {entry.name[:100]!a}")
        name = entry.name.removeprefix("./").removeprefix("/")
        file = archive.extractfile(entry) if entry.isreg() else None
        if file is None or ".." in name.split("/") or not name.isprintable() or "\\" in name:
            raise ArchiveError(f"has a member that is no plain file: {entry.name[:100]!a}")
        if name in members or len(members) >= _MEMBERS:
            raise ArchiveError(f"has a member twice, or more than {_MEMBERS}: {name[:100]!a}")
        members[name] = file.read()
    return members


def read_bounded(path: Path, *, most: int = PACKED) -> bytes:
    """A file's bytes. Raises ArchiveError with a sentence, also where there is none."""
    try:
        if not path.is_file():  # a pipe would never end
            why = "is not a file" if path.exists() else "is not there: mount or write it, or name another in `bundle`"
            raise ArchiveError(why)
        with path.open("rb") as file:
            content = file.read(most + 1)
    except OSError as error:
        raise ArchiveError(f"cannot be read: {error.strerror}") from None
    if len(content) > most:
        raise ArchiveError(f"is larger than {most} bytes")
    return content


def replace(path: Path, content: bytes, mode: int = 0o644) -> None:
    """Put a file in place in one step: written beside it, flushed, renamed. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(mode)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def lay_out(files: Mapping[str, bytes], directory: Path) -> None:
    """Write bundle members as files under `directory`."""
    for name, content in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
