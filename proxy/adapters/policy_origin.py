"""Where policy comes from: folders that are built here, or layers that were built elsewhere and delivered as bundles."""

import asyncio
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from proxy import __version__
from proxy.adapters.archive import ArchiveError, read_bounded, unpack
from proxy.adapters.bundle import BundleError, PolicyContent, Sources, collect_sources, policy_schema
from proxy.adapters.bundle_signature import SignatureError, verify
from proxy.adapters.opa_cli import OpaFailedError
from proxy.adapters.watched_file import settled
from proxy.adapters.yaml_file import load_yaml
from proxy.core.layers import PLATFORM, Layer, LayerError, merged, read_layer
from proxy.core.policy_document import PolicyDataError, read_document


class Origin(Protocol):
    """Where policy comes from."""

    @property
    def watched(self) -> tuple[Path, ...]:
        """Files and folders whose change asks for another look."""
        ...

    def name(self) -> str:
        """What the policy document is called in sentences."""
        ...

    def digest(self) -> str:
        """Of the content as it is now, whatever it is worth. Never raises."""
        ...

    async def content(self) -> PolicyContent:
        """All policy, verified. Raises BundleError with all problems, YamlError."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class FolderOrigin:
    """policy.yaml and policy folders. `apart`: teams that are listed there and deliver their policy themselves."""

    settings: Path
    sources: Sources
    apart: frozenset[str] = frozenset()

    @property
    def watched(self) -> tuple[Path, ...]:
        """See Origin."""
        return (self.settings, *self.sources.own)

    def name(self) -> str:
        """See Origin."""
        return self.settings.name

    def digest(self) -> str:
        """See Origin."""
        files = [self.settings, *(file for folder in self.sources.own for file in sorted(folder.rglob("*.rego")))]
        return _digest((str(file), _bytes_or_why(file)) for file in files)

    async def content(self) -> PolicyContent:
        """See Origin."""
        return collect_sources(self.sources, policy_document(self.settings, self.sources), apart=self.apart)


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleOrigin:
    """Layers as files, the platform's first; `key` is the public key that must have signed each."""

    opa: Path
    shipped: Path
    files: Mapping[str, Path]
    key: Path | None = None

    @property
    def watched(self) -> tuple[Path, ...]:
        """See Origin."""
        return (*self.files.values(), *((self.key,) if self.key is not None else ()))

    def name(self) -> str:
        """See Origin."""
        return self.files[PLATFORM].name

    def digest(self) -> str:
        """See Origin."""
        return _digest((name, _bytes_or_why(file)) for name, file in self.files.items())

    async def content(self) -> PolicyContent:
        """See Origin. All layers are looked at, so that the problems of all are told."""
        layers, problems, passing = list[Layer](), list[str](), False
        for name, members in (
            await asyncio.to_thread(settled, self._read, BundleError(["the policy keeps changing while it is read"]))
        ).items():
            try:
                layers.append(await self._layer(name, members))
            except BundleError as error:
                problems += [f"{self.files[name]}: {problem}" for problem in error.problems]
                passing = passing or error.passing
        if problems:
            raise BundleError(problems, passing=passing)
        return self._together(layers)

    async def _layer(self, name: str, members: Mapping[str, bytes] | str) -> Layer:
        if isinstance(members, str):
            raise BundleError([members])
        try:
            return await read_verified(name, members, self.opa, self.shipped, self.key)
        except (SignatureError, OpaFailedError) as error:
            raise BundleError([str(error)], passing=isinstance(error, OpaFailedError)) from error
        except LayerError as error:
            raise BundleError(error.problems) from error

    def _together(self, layers: list[Layer]) -> PolicyContent:
        try:
            rego = merged(layers)
        except LayerError as error:
            raise BundleError([f"bundle.teams: {problem}" for problem in error.problems]) from None
        authors = {member: self.files[layer.name] / member for layer in layers for member in layer.rego}
        revisions = {name: revision for layer in layers for name, revision in layer.of.items()}
        return PolicyContent(document=layers[0].document or {}, rego=rego, authors=authors, layers=revisions)

    def _read(self) -> dict[str, dict[str, bytes] | str]:
        return {name: _unpacked(path) for name, path in self.files.items()}


def policy_document(settings: Path, sources: Sources) -> Mapping[str, Any]:
    """policy.yaml, checked by itself. Raises BundleError with all problems, YamlError."""
    document = load_yaml(settings)
    if not isinstance(document, Mapping):
        raise BundleError([f"{settings.name}: must be a mapping"])
    try:
        return read_document(document, policy_schema(sources))
    except PolicyDataError as error:
        raise BundleError([f"{settings.name}: {problem}" for problem in error.problems]) from None


async def read_verified(name: str, members: Mapping[str, bytes], opa: Path, shipped: Path, key: Path | None) -> Layer:
    """One layer: its signature first, if there is a key, then what it says. Raises SignatureError, LayerError, OpaFailedError."""
    if key is not None:
        await verify(opa, members, key)
    return read_layer(name, members, policy_schema(Sources(shipped=shipped)))


def _unpacked(path: Path) -> dict[str, bytes] | str:
    """The members, or why there are none."""
    try:
        return unpack(read_bounded(path))
    except ArchiveError as error:
        return str(error)


def _digest(parts: Iterator[tuple[str, bytes]]) -> str:
    digest = hashlib.sha256(__version__.encode())
    for part in (one for pair in parts for one in (pair[0].encode("utf-8", "surrogateescape"), pair[1])):
        digest.update(len(part).to_bytes(8, "big") + part)
    return digest.hexdigest()


def _bytes_or_why(file: Path) -> bytes:
    try:
        return read_bounded(file)
    except ArchiveError as error:
        return f"!{error}".encode()
