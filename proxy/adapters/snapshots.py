"""The catalog and policy revision in force, swapped whole or not at all (design sections 6, 10)."""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Iterable, Sequence
from pathlib import Path

from proxy.adapters.again import again_and_again
from proxy.adapters.watched_file import settled
from proxy.adapters.yaml_file import YamlError, parse_files, read_directory
from proxy.core.catalog import build_catalog
from proxy.core.tool import Catalog, Snapshot
from proxy.ports import Clock

Report = Callable[[Sequence[str]], None]
Announce = Callable[[str], None]


class SnapshotKeeper:
    """Port `Snapshots` over a directory of catalog files; holds the snapshot in force and the one before it.

    `prepare` cross-checks a catalog with the policy, announces the revision, gives the policy to OPA, and returns once OPA
    serves it. What is announced is known to `by_policy` from then on: OPA may answer for it before `prepare` has heard so.
    `report` gets the sentences of a reload that failed, and an empty list after one that did not. `also` are files and
    directories whose change asks for a reload too: the policy's own settings and modules. A new day (UTC) asks for one, too: what
    has an end may have ended. `taken` hears of each new snapshot.
    """

    def __init__(
        self,
        directory: Path,
        *,
        prepare: Callable[[Catalog, Announce], Awaitable[str]],
        report: Report,
        clock: Clock,
        also: Sequence[Path] = (),
        taken: Callable[[Snapshot], None] = lambda _: None,
    ) -> None:
        self._directory = directory
        self._prepare = prepare
        self._report = report
        self._clock = clock
        self._also = tuple(also)
        self._taken = taken
        self._current: Snapshot | None = None
        self._previous: Snapshot | None = None
        self._announced: Snapshot | None = None
        self._tried = ""  # fingerprint of the last content that needs no other try
        self._reported: tuple[str, ...] = ()
        self.loaded_at = 0.0  # wall clock of the last reload that did not fail, seconds since 1970
        self._one_at_a_time = asyncio.Lock()

    def current(self) -> Snapshot:
        """The snapshot in force. A programming error before the first `reload`."""
        if self._current is None:
            raise RuntimeError("no snapshot has been loaded")
        return self._current

    @property
    def failing(self) -> bool:
        """Whether the newest files were not taken over, so that older ones stay in force."""
        return bool(self._reported)

    def by_policy(self, revision: str) -> Snapshot | None:
        """The snapshot of a policy revision: of the last two and the one announced, the newest that has it."""
        known = (s for s in (self._announced, self._current, self._previous) if s is not None)
        return next((s for s in known if s.policy_revision == revision), None)

    async def reload(self) -> Snapshot:
        """Load, prepare and swap. On any error the snapshot in force stays and is returned, and the problems are reported;
        where there is none yet, the error is raised."""
        async with self._one_at_a_time:
            try:
                snapshot = await self._load()
            except Exception as e:  # whatever went wrong, what works stays in force
                if self._current is None:
                    raise
                self._tell(_sentences(e))
                return self._current
            self._tell(())
            self._announced, self.loaded_at = None, self._clock.now().timestamp()
            before, self._current = self._current, snapshot
            if before is None or _revisions(before) != _revisions(snapshot):
                self._previous = before or self._previous
                self._taken(snapshot)
            return snapshot

    async def watch(self, every: float) -> None:
        """Look every so many seconds and reload what has changed, by content. Does not end. A content that is wrong in itself
        is tried once; a preparation that failed is tried again at the next look."""
        await again_and_again(self._clock, every, self._look, "the watch over catalog and policy")

    async def _look(self) -> None:
        if await asyncio.to_thread(self._fingerprint) != self._tried:
            await self.reload()

    async def _load(self) -> Snapshot:
        self._tried, announced = "", self._announced
        fingerprint = await asyncio.to_thread(self._fingerprint)
        try:
            catalog = await asyncio.to_thread(self._read)
            revision = await self._prepare(catalog, lambda revision: self._announce(catalog, revision))
        except Exception as e:
            if hasattr(e, "problems"):
                self._announced = announced  # it is refused, though OPA may serve it
                if not getattr(e, "passing", False):  # of the content: the same content would have them again
                    self._tried = fingerprint
            raise
        self._tried = fingerprint
        return Snapshot(catalog=catalog, policy_revision=revision)

    def _announce(self, catalog: Catalog, revision: str) -> None:
        self._announced = Snapshot(catalog=catalog, policy_revision=revision)

    def _read(self) -> Catalog:
        files = settled(
            lambda: read_directory(self._directory), YamlError(["the catalog keeps changing while it is read"])
        )
        if not files:
            raise YamlError([f"{self._directory.name}: has no .yaml or .yml file"])
        return build_catalog(parse_files(files), today=self._clock.now().date())

    def _fingerprint(self) -> str:
        digest = hashlib.sha256(self._clock.now().date().isoformat().encode())
        try:
            for path in (path for place in (self._directory, *self._also) for path in _files(place)):
                digest.update(f"{path}\0".encode("utf-8", "surrogateescape"))
                digest.update(_content_hash(path))
        except OSError as e:  # a place that cannot be looked into is a state like another, and changes when it can
            digest.update(type(e).__name__.encode())
        return digest.hexdigest()

    def _tell(self, sentences: tuple[str, ...]) -> None:
        if sentences != self._reported:
            self._reported = sentences
            self._report(sentences)


def _revisions(snapshot: Snapshot) -> tuple[str, str]:
    return snapshot.catalog.revision, snapshot.policy_revision


def _files(place: Path) -> Iterable[Path]:
    """A file, or the files under a directory without hidden ones: of a mounted ConfigMap the links, not `..data`."""
    if not place.is_dir():
        return [place]
    found = (p for p in place.rglob("*") if not any(part.startswith(".") for part in p.relative_to(place).parts))
    return sorted(p for p in found if p.is_file())


def _content_hash(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").digest()
    except OSError as e:
        return type(e).__name__.encode()


def _sentences(error: Exception) -> tuple[str, ...]:
    problems = getattr(error, "problems", None)
    return tuple(problems) if problems else (f"{type(error).__name__}: {error}",)
