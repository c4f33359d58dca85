"""The policies that were in force, kept in the state directory, and the one that an operator went back to.

`kept/` has the last few bundles, each by the hash of its content without the catalog's revision, so that an earlier policy can
be put in force for the catalog of now. `pin.json` names one of them and the source content that it was pinned against: it holds
until the source has another. The command writes the pin, the sidecar everything else; each file is replaced in one step.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import orjson

from proxy.adapters.archive import ArchiveError, pack, read_bounded, replace, unpack
from proxy.adapters.bundle import Assembled, BundleError, PolicyContent
from proxy.core.layers import PLATFORM, LayerError, read_layer, revision_of

T = TypeVar("T")

KEEP = 5
_OWN = 0o600


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """One policy that was in force. `since` is RFC 3339; `source` the digest of what it was made from, `key` that of the key
    that had signed it."""

    content: str
    revision: str
    since: str
    source: str
    key: str
    layers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pin:
    """A rollback: who went back to which content, and when."""

    content: str
    source: str
    by: str
    at: str


class PolicyHistory:
    """`directory` belongs to this user alone."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._file = directory / "history.json"
        self.pin_file = directory / "pin.json"

    def entries(self) -> list[Kept]:
        """Newest first, by when their source brought them."""
        listed = _read(self._file).get("entries", [])
        return [entry for one in listed if isinstance(one, dict) and (entry := _entry(Kept, one)) is not None]

    def in_force(self) -> str:
        """The content of the policy in force; empty if none is known."""
        return str(_read(self._file).get("in_force", ""))

    def find(self, revision: str) -> list[Kept]:
        """Kept policies whose revision begins so."""
        return [entry for entry in self.entries() if entry.revision.startswith(revision)]

    def pin(self) -> Pin | None:
        """The rollback that was asked for."""
        return _entry(Pin, _read(self.pin_file))

    def set_pin(self, pin: Pin) -> None:
        """Go back. Raises OSError."""
        replace(self.pin_file, orjson.dumps(asdict(pin)), _OWN)

    def end_pin(self) -> None:
        """The source's policy again. Raises OSError."""
        self.pin_file.unlink(missing_ok=True)

    def content(self, pin: Pin, key: Path | None, schema: Mapping[str, Any]) -> PolicyContent:
        """A kept policy. Raises BundleError if it is not there, not whole, or was verified with another key than `key`."""
        entry = next((one for one in self.entries() if one.content == pin.content), None)
        path = self._kept(pin.content)
        end = "`sidegate policy rollback --end` ends the rollback"
        if entry is None or entry.key != fingerprint(key):
            raise BundleError([f"{path}: is not kept any more, or was verified with another key; {end}"])
        try:
            layer = read_layer(PLATFORM, unpack(read_bounded(path)), schema)
        except ArchiveError as error:
            raise BundleError([f"{path}: {error}; {end}"]) from None
        except LayerError as error:
            raise BundleError([f"{path}: {problem}; {end}" for problem in error.problems]) from None
        authors = {member: path / member for member in layer.rego}
        return PolicyContent(document=layer.document or {}, rego=layer.rego, authors=authors, layers=layer.of)

    def installed(self, assembled: Assembled, *, source: str, key: Path | None, at: str, pin: Pin | None) -> None:
        """Note that a policy is in force. Only what came from the source, not a rollback, is a new entry. Raises OSError."""
        content = _content(assembled)
        entries = self.entries()
        if pin is None:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            replace(self._kept(content), pack(assembled.files), _OWN)
            entry = Kept(
                content=content,
                revision=assembled.revision,
                since=next((one.since for one in entries[:1] if one.content == content), at),
                source=source,
                key=fingerprint(key),
                layers=assembled.layers,
            )
            entries = [entry, *(one for one in entries if one.content != content)]
        replace(
            self._file,
            orjson.dumps({"in_force": content, "entries": [asdict(entry) for entry in entries[:KEEP]]}),
            _OWN,
        )
        for entry in entries[KEEP:]:
            self._kept(entry.content).unlink(missing_ok=True)

    def _kept(self, content: str) -> Path:
        return self._directory / "kept" / f"{Path(content).name}.tar.gz"


def fingerprint(key: Path | None) -> str:
    """SHA-256 of a public key's file; empty without one."""
    if key is None:
        return ""
    try:
        return hashlib.sha256(key.read_bytes()).hexdigest()
    except OSError:
        return "unreadable"


def _content(assembled: Assembled) -> str:
    settings = {name: value for name, value in assembled.settings.items() if name != "revision"}
    return revision_of({name: assembled.files[name] for name in assembled.authors}, settings, "")


def _read(path: Path) -> dict[str, Any]:
    try:
        document = orjson.loads(path.read_bytes())
    except (OSError, orjson.JSONDecodeError):
        return {}
    return document if isinstance(document, dict) else {}


def _entry(kind: type[T], given: Mapping[str, Any]) -> T | None:
    try:
        return kind(**given)
    except TypeError:
        return None
