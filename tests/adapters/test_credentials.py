"""Named credentials: from files and the environment, never shown."""

import base64
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from proxy.adapters.credentials import Credential, Credentials, CredentialUnavailableError, Secret
from tests.contracts.executor import SteppedClock
from tests.pod import kernel

TOKEN = "tok-4f2a/x+y=canary"


class Shelf:
    """Credentials over files in a folder, and what they warned of."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clock = SteppedClock()
        self.warnings: list[str] = []

    def write(self, content: bytes, mode: int = 0o600) -> str:
        """The one file, replaced as a whole."""
        new = self.folder / "new"
        new.write_bytes(content)
        new.chmod(mode)
        return str(new.rename(self.folder / "key"))

    def open(self, fields: dict[str, str], variables: dict[str, str] | None = None) -> Credentials:
        """Credentials with the one name `key`."""
        return Credentials({"key": fields}, variables or {}, self.clock, self.warnings.append)


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path)


def got(credentials: Credentials) -> Credential:
    credential = credentials.get("key")
    assert credential is not None
    return credential


def header(credentials: Credentials) -> tuple[str, str]:
    credential = got(credentials)
    return credential.header, credential.value.reveal()


def test_each_kind_makes_its_header(shelf: Shelf) -> None:
    file = shelf.write(f"  {TOKEN}\n".encode())
    assert header(shelf.open({"bearer_file": file})) == ("Authorization", f"Bearer {TOKEN}")
    assert header(shelf.open({"header_file": file, "header": "X-Api-Key"})) == ("X-Api-Key", TOKEN)
    assert header(shelf.open({"env": "ORDERS_KEY"}, {"ORDERS_KEY": TOKEN})) == ("Authorization", f"Bearer {TOKEN}")
    shelf.write("j\u00fcrgen:p\u00e4ss:word\n".encode())
    encoded = base64.b64encode("j\u00fcrgen:p\u00e4ss:word".encode()).decode()
    assert header(shelf.open({"basic_file": file})) == ("Authorization", f"Basic {encoded}")
    assert shelf.warnings == []


def test_no_name_is_no_credential(shelf: Shelf) -> None:
    assert shelf.open({"env": "X"}).get(None) is None


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        ("bearer_file", b""),
        ("bearer_file", b" \n"),
        ("bearer_file", b"canary\r\nX-Admin: 1"),
        ("bearer_file", b"canary\nmore"),
        ("bearer_file", b"canary\0more"),
        ("bearer_file", b"canary\x7f"),
        ("bearer_file", "canary\u00fc".encode()),
        ("bearer_file", b"canary\xff\xfe"),
        ("basic_file", b"canary"),
        ("basic_file", b"canary:"),
        ("basic_file", b"user:canary\nmore"),
    ],
)
def test_what_is_no_credential_is_unavailable_and_not_shown(shelf: Shelf, kind: str, content: bytes) -> None:
    credentials = shelf.open({kind: shelf.write(content)})
    with pytest.raises(CredentialUnavailableError) as caught:
        credentials.get("key")
    assert "credential key" in str(caught.value)
    assert not [text for text in (str(caught.value), *shelf.warnings) if "canary" in text]


def test_missing_files_variables_and_names_are_unavailable(shelf: Shelf) -> None:
    """The operator hears of each once, however many calls are refused for it."""
    missing = [shelf.open({"bearer_file": str(shelf.folder / "none")}), shelf.open({"env": "NONE"})]
    for number, credentials in enumerate(missing, 1):
        for _ in range(2):
            with pytest.raises(CredentialUnavailableError) as caught:
                credentials.get("key")
        assert shelf.warnings[number - 1 :] == [str(caught.value)]
        with pytest.raises(CredentialUnavailableError, match="credential other is not in the settings"):
            credentials.get("other")


def test_a_changed_file_is_read_again_and_a_broken_change_is_not_used(shelf: Shelf) -> None:
    credentials = shelf.open({"bearer_file": shelf.write(b"first")})
    assert header(credentials)[1] == "Bearer first"
    shelf.write(b"second")
    shelf.clock.seconds += 2
    assert header(credentials)[1] == "Bearer second"
    shelf.write(b"third\nline")
    shelf.clock.seconds += 2
    assert header(credentials)[1] == "Bearer second"
    assert len(shelf.warnings) == 1


def test_a_file_that_everybody_can_read_gives_a_warning(shelf: Shelf) -> None:
    credentials = shelf.open({"bearer_file": shelf.write(b"canary", 0o644)})
    assert header(credentials)[1] == "Bearer canary"
    [warning] = shelf.warnings
    assert "credential key" in warning
    assert "canary" not in warning
    assert os.path.basename(shelf.folder) not in warning  # noqa: PTH119 - a name is all that is needed


@pytest.mark.skipif(os.geteuid() != 0, reason="a mount needs root")
def test_on_a_read_only_mount_the_mode_is_nobodys_business(shelf: Shelf) -> None:
    """As a kubelet mounts Secrets: 0644, and only the container sees them."""
    file = shelf.write(b"canary", 0o644)
    with ThreadPoolExecutor(1) as apart:  # the mount is the thread's own and ends with it
        apart.submit(mount_read_only, shelf.folder).result()
        found = apart.submit(lambda: header(shelf.open({"bearer_file": file}))).result()
    assert found[1] == "Bearer canary"
    assert shelf.warnings == []


def mount_read_only(folder: Path) -> None:
    kernel.unshare(kernel.CLONE_NEWNS)
    kernel.mount("none", Path("/"), "", kernel.MS_REC | kernel.MS_PRIVATE)
    kernel.mount(str(folder), folder, "", kernel.MS_BIND)
    kernel.mount("none", folder, "", kernel.MS_BIND | kernel.MS_REMOUNT | kernel.MS_RDONLY)


@pytest.mark.parametrize("name", ["Host", "content-length", "Transfer-Encoding", "CONNECTION"])
def test_a_header_that_reframes_the_request_cannot_be_a_credential(shelf: Shelf, name: str) -> None:
    with pytest.raises(ValueError, match="cannot carry a credential"):
        shelf.open({"header_file": shelf.write(b"x"), "header": name})


def test_a_secret_shows_itself_to_nobody(shelf: Shelf) -> None:
    credential = got(shelf.open({"bearer_file": shelf.write(TOKEN.encode())}))
    for shown in (repr(credential), str(credential), f"{credential.value} {credential.value!r}", repr(vars(Secret))):
        assert TOKEN not in shown
        assert base64.b64encode(TOKEN.encode()).decode()[:12] not in shown


@pytest.mark.parametrize("offset", range(4))
@pytest.mark.parametrize("encode", [base64.b64encode, base64.urlsafe_b64encode])
def test_a_long_secret_is_found_in_base64_wherever_it_starts(shelf: Shelf, encode: object, offset: int) -> None:
    assert callable(encode)
    credential = got(shelf.open({"bearer_file": shelf.write(TOKEN.encode())}))
    assert credential.echoed_in(b"..." + encode(b"abcd"[:offset] + TOKEN.encode() + b"tail") + b"...")
    assert not credential.echoed_in(b"..." + encode(b"something else altogether, of some length") + b"...")


def test_a_short_secret_is_found_as_it_is_and_not_in_chance_encodings(shelf: Shelf) -> None:
    credential = got(shelf.open({"bearer_file": shelf.write(b"abc")}))
    assert credential.echoed_in(b"xabcx")
    assert not credential.echoed_in(base64.b64encode(b"abc"))


def test_of_a_pair_the_password_and_the_encoded_pair_are_looked_for(shelf: Shelf) -> None:
    credential = got(shelf.open({"basic_file": shelf.write(b"user:pass-word-1")}))
    assert credential.echoed_in(b'{"p":"pass-word-1"}')
    assert credential.echoed_in(base64.b64encode(b"user:pass-word-1"))
    assert not credential.echoed_in(b'{"u":"user"}')
    assert credential.echoed_in(b"first text", b"pass-word-1")
