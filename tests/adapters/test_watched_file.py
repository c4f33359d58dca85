"""Files that are read again when they change."""

import os
from pathlib import Path

import pytest

from proxy.adapters.watched_file import LIMIT, UnusableFileError, WatchedFile
from tests.contracts.tokens import ManualClock


def number(content: bytes) -> int:
    if content == b"library error":
        raise KeyError("quoted content")
    try:
        return int(content)
    except ValueError:
        raise ValueError("is not a number") from None


class Watched:
    def __init__(self, path: Path) -> None:
        self.clock = ManualClock()
        self.reports: list[str] = []
        self.file = WatchedFile(path, number, self.clock, report=self.reports.append)

    def later(self) -> int:
        self.clock.move(1.0)
        return self.file.value()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "value"
    path.write_bytes(b"1")
    return path


def replace(path: Path, content: bytes) -> None:
    new = path.with_suffix(".new")
    new.write_bytes(content)
    new.rename(path)


def test_a_replaced_file_is_read_at_the_next_look(path: Path) -> None:
    watched = Watched(path)
    assert watched.file.value() == 1
    replace(path, b"2")
    assert watched.later() == 2


def test_a_file_is_looked_at_no_more_than_once_per_interval(path: Path) -> None:
    watched = Watched(path)
    assert watched.file.value() == 1
    replace(path, b"2")
    watched.clock.move(0.9)
    assert watched.file.value() == 1
    watched.clock.move(0.1)
    assert watched.file.value() == 2


def test_a_kubernetes_swap_of_the_data_link_is_seen(tmp_path: Path) -> None:
    for version, content in (("..v1", b"1"), ("..v2", b"2")):
        (tmp_path / version).mkdir()
        (tmp_path / version / "value").write_bytes(content)
        os.utime(tmp_path / version / "value", (1, 1))
    (tmp_path / "..data").symlink_to("..v1")
    (tmp_path / "value").symlink_to("..data/value")
    watched = Watched(tmp_path / "value")
    assert [watched.file.value(), watched.later(), watched.later()] == [1, 1, 1]
    (tmp_path / "..data_tmp").symlink_to("..v2")
    (tmp_path / "..data_tmp").rename(tmp_path / "..data")
    assert watched.later() == 2


def test_two_writes_of_equal_size_in_one_tick_of_the_file_clock_are_told_apart(path: Path) -> None:
    os.utime(path, (1, 1))
    watched = Watched(path)
    assert watched.file.value() == 1
    path.write_bytes(b"2")
    os.utime(path, (1, 1))
    assert watched.later() == 2


def test_what_cannot_be_parsed_is_reported_once_and_never_replaces_what_worked(path: Path) -> None:
    watched = Watched(path)
    assert watched.file.value() == 1
    replace(path, b"secret")
    assert [watched.later(), watched.later(), watched.later()] == [1, 1, 1]
    assert watched.reports == [f"{path}: is not a number; the last good content stays in use"]
    replace(path, b"3")
    assert watched.later() == 3


def test_any_exception_of_a_parser_is_told_by_its_type_only(path: Path) -> None:
    watched = Watched(path)
    assert watched.file.value() == 1
    replace(path, b"library error")
    assert watched.later() == 1
    assert watched.reports == [f"{path}: KeyError; the last good content stays in use"]


def test_a_file_that_goes_away_is_reported_each_time_and_its_content_kept(path: Path) -> None:
    watched = Watched(path)
    assert watched.file.value() == 1
    for _ in range(2):
        path.unlink()
        assert [watched.later(), watched.later()] == [1, 1]
        path.write_bytes(b"1")
        assert watched.later() == 1
    assert (
        watched.reports
        == [f"{path}: cannot be read: No such file or directory; the last good content stays in use"] * 2
    )


@pytest.mark.parametrize(
    ("content", "problem"), [(None, "No such file"), (b"x", "not a number"), (b"1" * (LIMIT + 1), "larger than")]
)
def test_without_any_good_content_the_error_says_which_file_and_why(
    path: Path, content: bytes | None, problem: str
) -> None:
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    watched = Watched(path)
    with pytest.raises(UnusableFileError, match=problem) as error:
        watched.file.value()
    assert str(path) in str(error.value)
    assert watched.reports == [], "who asked is told"
    replace(path, b"7")
    assert watched.later() == 7


def test_a_pipe_is_refused_instead_of_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UnusableFileError, match="not a regular file"):
        Watched(tmp_path / "pipe").file.value()
