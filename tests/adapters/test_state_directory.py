"""The state directory and the key in it: private, made once, never guessed."""

import stat
from pathlib import Path

import pytest

from proxy.adapters.state_directory import KEY_BYTES, UnusableError, make_private, read_or_make_key


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_the_directory_is_made_for_this_user_only(tmp_path: Path) -> None:
    """With those above it; one that is there stays."""
    directory = tmp_path / "a" / "state"
    make_private(directory)
    (directory / "file").touch()
    make_private(directory)
    assert (mode(directory), (directory / "file").exists()) == (0o700, True)


@pytest.mark.parametrize("place", ["file", "file/below"])
def test_a_place_that_cannot_be_a_directory_is_one_sentence(tmp_path: Path, place: str) -> None:
    """No traceback at the start."""
    (tmp_path / "file").touch()
    with pytest.raises(UnusableError, match=r"state directory .* cannot be used: "):
        make_private(tmp_path / place)


def test_the_key_is_made_once_and_readable_by_this_user_only(tmp_path: Path) -> None:
    """A second start reads it; nothing else is left beside it."""
    key = read_or_make_key(tmp_path / "key")
    assert len(key) == KEY_BYTES == 32
    assert read_or_make_key(tmp_path / "key") == key
    assert mode(tmp_path / "key") == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["key"]


def test_two_state_directories_have_two_keys(tmp_path: Path) -> None:
    """It is random."""
    assert read_or_make_key(tmp_path / "a") != read_or_make_key(tmp_path / "b")


@pytest.mark.parametrize("content", [b"", b"x" * 31, b"x" * 33])
def test_a_damaged_key_is_refused_and_not_replaced(tmp_path: Path, content: bytes) -> None:
    """Another key would make every approval and mask worth nothing, without a word."""
    path = tmp_path / "key"
    path.write_bytes(content)
    with pytest.raises(UnusableError, match=f"it has {len(content)} bytes"):
        read_or_make_key(path)
    assert path.read_bytes() == content


def test_a_key_that_cannot_be_read_is_one_sentence_without_its_content(tmp_path: Path) -> None:
    """A directory in its place, or no directory around it."""
    (tmp_path / "key").mkdir()
    for path in (tmp_path / "key", tmp_path / "absent" / "key"):
        with pytest.raises(UnusableError, match="cannot be used: "):
            read_or_make_key(path)


def test_a_start_that_died_while_it_made_the_key_does_not_stop_the_next(tmp_path: Path) -> None:
    """What it had begun lies beside the key's place and is nobody's key."""
    (tmp_path / "key.0a1b2c3d").write_bytes(b"half")
    assert len(read_or_make_key(tmp_path / "key")) == KEY_BYTES
