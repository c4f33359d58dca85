"""Recorded decisions evaluated again by the real OPA, with a trace of the rules. Never on the path of a call."""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from proxy.adapters import opa_cli
from proxy.adapters.archive import ArchiveError, lay_out, read_bounded, unpack
from proxy.adapters.bundle import Assembled, BundleError
from proxy.core.layers import DATA, DOCUMENT, MANIFEST
from proxy.core.opa_trace import Fired, fired

_DECISION = "data.sidegate.decision.decision"


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """A policy to ask: its members, its revision, policy.yaml as data, and the files that its members were made from. `name` is
    what it is called in sentences: where its policy.yaml is."""

    name: str
    files: Mapping[str, bytes]
    revision: str
    document: Mapping[str, Any]
    authors: Mapping[str, Path]


def of_assembled(assembled: Assembled, name: str = "policy.yaml") -> Loaded:
    """A policy that was built just now."""
    return Loaded(
        name=name,
        files=assembled.files,
        revision=assembled.revision,
        document=orjson.loads(assembled.files[DOCUMENT]),
        authors=assembled.authors,
    )


def of_bundles(paths: Sequence[Path]) -> Loaded:
    """A policy in built bundles, the platform's first, then those of teams. Raises BundleError."""
    files: dict[str, bytes] = {}
    authors: dict[str, Path] = {}
    for path in paths:
        try:
            members = unpack(read_bounded(path))
        except ArchiveError as error:
            raise BundleError([f"{path}: {error}"]) from None
        authors |= {name: path / name for name in members}
        files = {**members, **files}
    try:
        settings, document = orjson.loads(files[DATA]), orjson.loads(files[DOCUMENT])
        manifest = {**orjson.loads(files[MANIFEST]), "roots": ["sidegate"]}
        revision = str(settings["revision"])
    except (KeyError, TypeError, orjson.JSONDecodeError):
        raise BundleError([f"{paths[0]}: is no bundle of a platform, as `sidegate policy build` writes it"]) from None
    return Loaded(
        name=", ".join(map(str, paths)),
        files={**files, MANIFEST: orjson.dumps(manifest)},
        revision=revision,
        document=document,
        authors=authors,
    )


async def rules(opa: Path, policy: Loaded, document: bytes) -> list[Fired]:
    """The rules that say something about this input. Raises OpaFailedError."""
    with tempfile.TemporaryDirectory(prefix="sidegate-explain-") as name:
        work = Path(name)
        lay_out(policy.files, work / "bundle")
        options = ("--bundle", "bundle", "--stdin-input", "--explain", "full", "--format", "json")
        said = await opa_cli.run_opa(opa, "eval", *options, _DECISION, directory=work, standard_input=document)
    events = opa_cli.read(said).get("explanation")
    found: list[Fired] = []
    for rule in fired(events if isinstance(events, list) else []):
        if rule not in found:  # one thing may be said for several causes
            found.append(rule)
    return found
