"""Settings of the shared store: what is kept elsewhere crosses a network, and its secrets are files."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from proxy.settings import SettingsError, Valkey, read

LEAST = {"state": "state", "catalog": "catalog", "policy": "policy.yaml"}
NEEDED = {"url": "unix:/run/store.sock", "mac_key_file": "mac.key"}


def read_store(folder: Path, given: dict[str, Any] | None) -> Valkey | None:
    """The store's part of the settings."""
    path = folder / "sidegate.yaml"
    path.write_text(yaml.safe_dump(LEAST | ({} if given is None else {"store": {"valkey": given}})))
    return read(path, {}).store


def test_without_it_state_is_kept_in_the_pod(tmp_path: Path) -> None:
    assert read_store(tmp_path, None) is None


def test_all_of_it_is_read_and_files_are_relative_to_the_settings(tmp_path: Path) -> None:
    given = {
        "url": "rediss://store.test:6380/2",
        "ca_file": "ca.crt",
        "username": "sidegate",
        "password_file": "/run/password",
        "prefix": "shop",
        "deadline": "100ms",
        "mac_key_file": "mac.key",
        "appendfsync": "stated",
    }
    assert read_store(tmp_path, given) == Valkey(
        url="rediss://store.test:6380/2",
        ca_file=tmp_path / "ca.crt",
        username="sidegate",
        password_file=Path("/run/password"),
        prefix="shop",
        deadline=0.1,
        mac_key_file=tmp_path / "mac.key",
        appendfsync="stated",
    )


@pytest.mark.parametrize("url", ["redis://127.0.0.1:6379", "redis://localhost/0", "redis://[::1]:1", "unix:/s"])
def test_without_tls_only_this_machine_is_asked(tmp_path: Path, url: str) -> None:
    assert read_store(tmp_path, {**NEEDED, "url": url}) is not None


@pytest.mark.parametrize(
    ("place", "given"),
    [
        ("/store/valkey", {"url": "unix:/s"}),
        ("/store/valkey", {"mac_key_file": "k"}),
        ("/store/valkey/url", {**NEEDED, "url": "redis://store.test:6379"}),
        ("/store/valkey/url", {**NEEDED, "url": "redis://127.0.0.1.evil.test"}),
        ("/store/valkey/url", {**NEEDED, "url": "rediss://user:secret@store.test"}),
        ("/store/valkey/url", {**NEEDED, "url": "http://store.test"}),
        ("/store/valkey/ca_file", {**NEEDED, "ca_file": "ca.crt"}),
        ("/store/valkey/username", {**NEEDED, "username": "sidegate"}),
        ("/store/valkey/deadline", {**NEEDED, "deadline": "1ms"}),
        ("/store/valkey/prefix", {**NEEDED, "prefix": "a b"}),
        ("/store/valkey/appendfsync", {**NEEDED, "appendfsync": "always"}),
        ("/store/valkey", {**NEEDED, "password": "secret"}),
    ],
)
def test_what_is_wrong_is_named_by_its_place_and_no_secret_is_repeated(
    tmp_path: Path, place: str, given: dict[str, Any]
) -> None:
    with pytest.raises(SettingsError) as found:
        read_store(tmp_path, given)
    (problem,) = found.value.problems
    assert f": {place}: " in problem
    assert "user:secret" not in problem
