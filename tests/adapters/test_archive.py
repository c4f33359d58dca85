"""Bundles as files: the same bytes for the same content, and nothing odd is read."""

import contextlib
import gzip
import io
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from proxy.adapters.archive import ArchiveError, lay_out, pack, read_bounded, replace, unpack

FILES = {"b/x.rego": b"two", ".manifest": b"one"}


def archive(*entries: tuple[str, bytes, bytes]) -> bytes:
    """A .tar.gz of entries: name, type, content."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as file:
        for name, kind, content in entries:
            member = tarfile.TarInfo(name)
            member.type, member.size, member.linkname = kind, len(content), "/etc/passwd"
            file.addfile(member, io.BytesIO(content))
    return packed.getvalue()


def test_what_is_packed_is_unpacked_and_is_the_same_whatever_the_order() -> None:
    packed = pack(FILES)
    assert unpack(packed) == FILES
    assert pack(dict(reversed(FILES.items()))) == packed


def test_a_member_that_claims_more_than_is_there_is_refused_unread() -> None:
    """A sparse member of a few bytes would be read as any number of zeros."""
    member = tarfile.TarInfo("policy/data.json")
    member.type, member.size = tarfile.GNUTYPE_SPARSE, 0
    block = bytearray(member.tobuf(format=tarfile.GNU_FORMAT))
    block[483:495] = b"%011o\0" % (1 << 31)  # the real size that it claims
    block[148:156] = b"%06o\0 " % (sum(block[:148]) + sum(block[156:]) + 8 * 32)
    content = gzip.compress(bytes(block) + bytes(1024))
    with pytest.raises(ArchiveError, match="sparse"):
        unpack(content)


@pytest.mark.parametrize(
    "header",
    [
        {"GNU.sparse.map": "a,b"},
        {"GNU.sparse.map": "1"},
        {"GNU.sparse.size": "9" * 30},
        {"mtime": "nan"},
    ],
    ids=str,
)
def test_an_extended_header_that_tarfile_stumbles_over_is_a_sentence_or_nothing(header: dict[str, str]) -> None:
    """Whoever answers at the URL writes it, before any signature is looked at."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz", format=tarfile.PAX_FORMAT) as file:
        member = tarfile.TarInfo("a")
        member.size, member.pax_headers = 1, header
        file.addfile(member, io.BytesIO(b"x"))
    with contextlib.suppress(ArchiveError):
        assert unpack(packed.getvalue()) == {"a": b"x"}


def test_names_as_other_tools_write_them_are_the_same_names() -> None:
    """`./x`, `/x`, and folders as entries of their own."""
    content = archive(("./d", tarfile.DIRTYPE, b""), ("./d/x", tarfile.REGTYPE, b"1"), ("/y", tarfile.REGTYPE, b"2"))
    assert unpack(content) == {"d/x": b"1", "y": b"2"}


@pytest.mark.parametrize(
    ("content", "wanted"),
    [
        (b"", "is cut short|no tar|is not gzip"),
        (b"not gzip at all", "is not gzip"),
        (pack(FILES)[:-20], "is cut short"),
        (pack(FILES)[:12], "is cut short"),
        (pack(FILES) + b"more", "is not gzip"),
        (gzip.compress(b"no tar" * 200), "no tar archive"),
        (gzip.compress(b"\0" * 4096), None),
        (archive(("../x", tarfile.REGTYPE, b"")), "no plain file"),
        (archive(("a/../../x", tarfile.REGTYPE, b"")), "no plain file"),
        (archive(("x", tarfile.SYMTYPE, b"")), "no plain file"),
        (archive(("x", tarfile.LNKTYPE, b"")), "no plain file"),
        (archive(("x", tarfile.FIFOTYPE, b"")), "no plain file"),
        (archive(("x\ny", tarfile.REGTYPE, b"")), "no plain file"),
        (archive(("x", tarfile.REGTYPE, b"1"), ("./x", tarfile.REGTYPE, b"2")), "twice"),
        (archive(*((f"{n}", tarfile.REGTYPE, b"") for n in range(2001))), "more than 2000"),
    ],
)
def test_what_is_no_bundle_is_said_in_a_sentence(content: bytes, wanted: str | None) -> None:
    """Half-written, not gzip, no tar, links, names that climb out, a name twice, too many."""
    if wanted is None:
        assert unpack(content) == {}
        return
    with pytest.raises(ArchiveError, match=wanted):
        unpack(content)


def test_a_small_file_that_unpacks_to_a_large_one_is_refused() -> None:
    """Before it is read whole."""
    with pytest.raises(ArchiveError, match="larger than 1000 bytes when unpacked"):
        unpack(pack({"x": b"\0" * 100_000}), most=1000)


@pytest.mark.parametrize(
    ("make", "wanted"),
    [
        (Path.exists, "is not there"),
        (Path.mkdir, "is not a file"),
        (os.mkfifo, "is not a file"),
        (lambda path: path.write_bytes(b"x" * 101), "is larger than 100 bytes"),
        (lambda path: path.symlink_to(path), "cannot be read|is not there"),
    ],
)
def test_a_file_that_cannot_be_read_is_said_in_bounded_time(
    tmp_path: Path, make: Callable[[Path], object], wanted: str
) -> None:
    """Absent, a directory, a pipe, too large, a link to itself."""
    path = tmp_path / "bundle"
    make(path)
    with pytest.raises(ArchiveError, match=wanted):
        read_bounded(path, most=100)


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    """With its mode, and nothing left beside it."""
    path = tmp_path / "deep" / "file"
    replace(path, b"new", mode=0o600)
    assert (path.read_bytes(), path.stat().st_mode & 0o777) == (b"new", 0o600)
    (tmp_path / "taken" / "x").mkdir(parents=True)
    with pytest.raises(OSError, match="taken"):
        replace(tmp_path / "taken", b"new")
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["deep", "taken"]


def test_members_become_files_under_a_folder(tmp_path: Path) -> None:
    lay_out(FILES, tmp_path)
    assert (tmp_path / "b/x.rego").read_bytes() == b"two"
